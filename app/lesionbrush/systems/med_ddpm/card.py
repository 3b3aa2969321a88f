"""What a card says of a model of Med-DDPM, and its HU scales. Imports no torch."""

from __future__ import annotations

from pydantic import Field, model_validator

from lesionbrush.core.hu import HUScale
from lesionbrush.systems.contract import DiffusionCard, DiffusionUNetShape

UNTOLD_CHANNELS, TOLD_CHANNELS = 3, 4
"""Of the network's input: the noisy image, the CT, the mask; and what is to be made in the mask."""


class MedDDPMCard(DiffusionCard):
    """The network, and how HU become what it takes."""

    network: DiffusionUNetShape
    scale: HUScale = Field(description="a CT window, or all HU compressed around a density")

    @model_validator(mode="after")
    def _of_this_system(self) -> MedDDPMCard:
        shape = self.network
        if shape.dims != 3 or shape.variance == "learned_range":
            raise ValueError("describes a network of another system")
        if shape.in_channels not in (UNTOLD_CHANNELS, TOLD_CHANNELS):
            raise ValueError(f"its network takes {shape.in_channels} channels, this system gives it 3 or 4")
        return self

    @property
    def is_told(self) -> bool:
        """Whether the network was taught the class of what it makes."""
        return self.network.in_channels == TOLD_CHANNELS
