"""What a caller may ask of mDDPM: guidance images, each with a strength of its own."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from lesionbrush.core.request import MOST_STEPS, BaseRequest, EditRequest

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


class WholeRequest(BaseRequest):
    """One request for whole axial slices, or a slab of them, along an anatomy map: the paper's product."""

    system: SkipJsonSchema[Literal["mddpm_whole"]] = "mddpm_whole"
    steps: int = Field(50, ge=1, le=MOST_STEPS, description="denoising steps")
    side: int = Field(384, ge=64, le=512, multiple_of=8, description="voxels along each side of a slice")
    spacing_mm: float = Field(1.0, ge=0.5, le=5, description="of the voxels in a slice")
    slices: int | None = Field(
        None, ge=1, le=128, description="axial slices; null: as many as the map that is sent has, else one"
    )
    slice_mm: float = Field(1.0, ge=0.5, le=5, description="from slice to slice")
    map_within: float = Field(
        1.5, ge=0, le=3, description="a sampled map stays within so many standard deviations of the mean one"
    )
    anatomy: Guide = Field(Guide(factor=8), description="follow the map: sent, drawn as a layout, or sampled")
    texture: Guide = Field(
        Guide(factor=64), description="follow another CT, when one is sent; finely, it is that patient again"
    )
    pathology: Guide = Field(Guide(factor=2), description="follow another case's lesion, when one is sent")
    shared_bands: SharedBands = Field(
        "mean",
        description="structure that several guides hold: corrected once, towards their mean, or once per "
        "guide as published, which overshoots with two guides and may run away with three",
    )
    lesion_right_mm: float | None = Field(
        None,
        ge=-300,
        le=300,
        description="where the lesion's centre goes, from the middle of the slice to the "
        "patient's right; null: somewhere in the lungs",
    )
    lesion_front_mm: float | None = Field(None, ge=-300, le=300, description="the same to the front")

    @model_validator(mode="after")
    def _a_place_has_two_numbers(self) -> WholeRequest:
        if (self.lesion_right_mm is None) != (self.lesion_front_mm is None):
            raise ValueError("lesion_right_mm and lesion_front_mm belong together: give both, or neither")
        return self
