"""What a card says of a model of Palette. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from lesionbrush.core.hu import CompressiveHU, HUWindow
from lesionbrush.systems.contract import DiffusionCard
from lesionbrush.systems.palette.fills import Fill


class PaletteShape(BaseModel):
    """What fixes the tensors of the network, and how its output is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: tuple[int, ...]
    attention: tuple[bool, ...]
    blocks: int
    norm_groups: int
    head_channels: int
    level: Literal["gamma", "log_snr"]
    shows_hole: bool
    classes: int = Field(ge=0)
    prediction: Literal["eps", "x0", "v"]
    data_spread: float = Field(1.0, gt=0, description="of the images that v is scaled for")


class PaletteCard(DiffusionCard):
    """The network, how HU become what it sees, and what it was told that it fills."""

    network: PaletteShape
    scale: HUWindow | CompressiveHU = Field(description="a CT window, or all HU compressed around a density")
    coarse_noise: float = Field(
        1.0, ge=0, le=1, description="share of coarse noise that sampling begins with; less is calmer"
    )
    fills: tuple[Fill, ...] = Field(description="what it was trained to fill when asked for it by name")
