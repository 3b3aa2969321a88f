"""What a card says of a model of mDDPM, in slices or in 3D. Imports no torch."""

from __future__ import annotations

from pydantic import model_validator

from lesionbrush.systems.contract import DiffusionCard, DiffusionUNetShape
from lesionbrush.systems.lesion_inpainting.card import NetworkShape


class SliceCard(DiffusionCard):
    """Of an unconditional network of single axial slices."""

    network: DiffusionUNetShape

    @model_validator(mode="after")
    def _in_two_dimensions(self) -> SliceCard:
        if self.network.dims != 2 or self.network.in_channels != 1:
            raise ValueError("describes a network of another system")
        return self


class BoxCard(DiffusionCard):
    """Of the network of lesion inpainting, which is told nothing."""

    network: NetworkShape
    attributes: tuple[str, ...] = ()
