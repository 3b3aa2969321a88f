"""What a caller may ask of mDDPM: guidance images, each with a strength of its own."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from lesionbrush.core.request import MOST_STEPS, EditRequest

SharedBands = Literal["sum", "mean"]


class Guide(BaseModel):
    """How strongly one guidance image acts, when there is one (Krishna et al. 2025, Eq. 9)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    factor: int = Field(
        4,
        ge=0,
        le=512,
        description="low-pass factor n: what is coarser than so many voxels is followed; 0 leaves it out",
    )
    stop: float = Field(
        0.0, ge=0, le=1, description="a: share of the noise levels, from the clean end, that is left free"
    )


class MDDPMRequest(EditRequest):
    """One request to mDDPM, in 2D slices or in 3D."""

    system: SkipJsonSchema[Literal["mddpm"]] = "mddpm"
    steps: int = Field(25, ge=1, le=MOST_STEPS, description="denoising steps")
    reference: Guide = Field(Guide(factor=0), description="follow the CT itself under the mask")
    anatomy: Guide = Field(Guide(factor=8), description="follow the anatomy map, when one is sent")
    pathology: Guide = Field(
        Guide(factor=2), description="follow the lesion of another case, when one is sent"
    )
    shared_bands: SharedBands = Field(
        "mean",
        description="structure that several guides hold: corrected once, towards their mean, or once per "
        "guide as published, which overshoots with two guides and may run away with three",
    )
