"""What a card says of a model of lesion inpainting in soft tissue. Imports no torch."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from lesionbrush.core.hu import CompressiveHU
from lesionbrush.systems.contract import DiffusionCard
from lesionbrush.systems.lesion_inpainting.card import NetworkShape


class HUScale(BaseModel):
    """See `CompressiveHU`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    centre_hu: float
    scale_hu: float = Field(gt=0)
    hu_per_unit: float = Field(gt=0)

    def build(self) -> CompressiveHU:
        return CompressiveHU(self.centre_hu, self.scale_hu, self.hu_per_unit)


class TypicalContrast(BaseModel):
    """How dense a tumour is if no contrast was asked: share * around, at least so much below, and in fat
    fat_hu; with a spread."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    share: float = Field(gt=0, description="of the HU of the tissue around")
    fat_below_hu: float = Field(description="what is around counts as fat below this")
    fat_hu: float = Field(description="HU of a tumour in fat")
    spread_hu: float = Field(ge=0)
    least_hu: float = Field(default=0.0, ge=0, description="less dense than what is around, to be seen")

    def mean_hu(self, around_hu: float) -> float:
        if around_hu < self.fat_below_hu:
            return self.fat_hu
        return min(self.share * around_hu, around_hu - self.least_hu)


class SoftTissueCard(DiffusionCard):
    """The network, how HU go into it, and how dense tumours are."""

    network: NetworkShape
    hu_scale: HUScale
    typical: TypicalContrast
