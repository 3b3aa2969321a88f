"""What a card says of a model of lesion inpainting. Imports no torch."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from lesionbrush.systems.contract import DiffusionCard


class NetworkShape(BaseModel):
    """What fixes the tensors of the lesion inpainting network."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: tuple[int, ...]
    blocks: int
    head_channels: int
    prior_spread: float


class SmallSolid(BaseModel):
    """The mean HU of solid lesions as they were painted: much of them is rim, blurred into what is around.

    base_hu + per_inverse_diameter / diameter_mm + per_slice_mm * slice_mm + per_hu_around * around_hu, with
    the diameter of a ball of their volume, and the tissue 3 to 8 mm away.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_hu: float
    per_inverse_diameter: float = Field(description="HU times mm")
    per_slice_mm: float = Field(description="HU")
    per_hu_around: float
    spread_hu: float = Field(ge=0, description="standard deviation of real lesions around this mean")


class Calcium(BaseModel):
    """The mean HU of calcified lesions: base_hu + per_inverse_diameter / diameter_mm, with the diameter of a
    ball of their volume, 12 mm at most. middle_hu: mean and standard deviation in the middle of larger ones.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_hu: float
    per_inverse_diameter: float = Field(description="HU times mm")
    spread_hu: float = Field(ge=0, description="standard deviation of real lesions around this mean")
    middle_hu: tuple[float, float]


class LesionCard(DiffusionCard):
    """The network, what it was told, and what its laws hold it to."""

    network: NetworkShape
    attributes: tuple[str, ...] = ()
    grain_temperature: float | None = Field(
        None, ge=0, description="the same where little noise is left and only grain is made; null: no other"
    )
    outline_of_blur: float = Field(
        0.0,
        description="how much wider than painted the mask of a small lesion is made, or narrower, as a share "
        "of what the slices of the CT are thicker than 0.5 mm",
    )
    outline_if_sharp_mm: float = Field(
        0.0, description="how much wider the mask of a larger lesion is made in slices of 1 mm and less"
    )
    core_hu: tuple[float, float] | None = Field(
        None, description="mean and standard deviation over solid lesions of the HU in their middle"
    )
    ground_glass_above_lung_hu: tuple[float, float] | None = Field(
        None, description="the same over ground-glass lesions of the HU in all of them, less the lung around"
    )
    calcium: Calcium | None = Field(
        None, description="drawn into calcified lesions; null: the network is told"
    )
    small_solid: SmallSolid | None = Field(
        None, description="mean HU of solid lesions that are too small to have a middle"
    )
