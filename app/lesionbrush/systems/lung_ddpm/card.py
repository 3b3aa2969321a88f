"""What a card says of a model of Lung-DDPM or Lung-DDPM+. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from lesionbrush.systems.contract import DiffusionCard, DiffusionUNetShape


class LungDDPMCard(DiffusionCard):
    """The network, and how HU become what it takes."""

    network: DiffusionUNetShape
    scaling: Literal["window", "columns"] = Field(
        "window", description="of HU: by window_hu, or every slab along one axis by itself, as in Lung-DDPM"
    )

    @model_validator(mode="after")
    def _in_three_dimensions(self) -> LungDDPMCard:
        if self.network.dims != 3 or self.network.variance == "learned_range":
            raise ValueError("describes a network of another system")
        return self
