"""What a caller may ask of lesion inpainting in soft tissue."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from lesionbrush.systems.lesion_inpainting.request import Degree, QualityRequest


class TumourAttributes(BaseModel):
    """How the tumour should look; what is left out is left to the model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lesion: Literal["present", "none"] = Field("present", description="none: healthy tissue under the mask")
    contrast_hu: Annotated[float, Field(ge=-150, le=200)] | None = Field(
        None,
        description="HU in its living part, less those of the tissue 3 to 9 mm around: below 0 hypodense, "
        "above 0 hyperdense; null: typical of a tumour there",
    )
    heterogeneity_hu: Annotated[float, Field(ge=0, le=40)] | None = Field(
        None, description="how much its density varies inside, noise apart: standard deviation in HU"
    )
    margin: Degree | None = Field(None, description="0 poorly defined, 1 sharp")
    rim: Degree = Field(
        0.0, description="an enhancing rim: 0 none, 1 45 HU denser than the rest and the tissue around"
    )
    necrosis: Degree = Field(0.0, description="a dead middle, down to 15 HU: 0 none, 1 all of the middle")
    calcification: Degree = Field(0.0, description="small calcifications: 0 none, 1 many and dense")

    @property
    def left_aside(self) -> tuple[str, ...]:
        """Names of what was asked of a tumour where none is to be made."""
        if self.lesion != "none":
            return ()
        fields = type(self).model_fields
        asked = [name for name in fields if getattr(self, name) != fields[name].default]
        return tuple(name for name in asked if name != "lesion")


class SoftTissueRequest(QualityRequest):
    """One request to lesion inpainting in soft tissue: how to sample, and what to make."""

    system: SkipJsonSchema[Literal["soft_tissue_inpainting"]] = "soft_tissue_inpainting"
    margin_mm: float = Field(4.0, ge=0, le=20, description="how far around the mask voxels may change")
    attributes: TumourAttributes = TumourAttributes()
