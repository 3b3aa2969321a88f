"""mDDPM (Krishna et al. 2025) on the axial slices of a lesion, with noise that neighbouring slices share.

The network knows single slices. Three things make a lesion of them: the noise is smooth from slice to slice,
estimates of x_0 are averaged over neighbours at every step, and the guidance images agree anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import torch
from torch import Tensor

from lesionbrush.core.registry import InstalledModel, ModelCard
from lesionbrush.diffusion.samplers import Generators, Hook
from lesionbrush.systems.mddpm.card import SliceCard
from lesionbrush.systems.mddpm.guided import GuidedDiffusion, Start
from lesionbrush.systems.mddpm.network import DDPMUNet, DDPMUNetConfig
from lesionbrush.systems.mddpm.unconditional import Unconditional
from lesionbrush.systems.running import pick_device, with_weights
from lesionbrush.systems.slab import SliceNoise, average, slices_at_once


class MDDPM(GuidedDiffusion):
    """A 2D network on slices."""

    slices = True
    network: DDPMUNet
    noise_smoothness = 1.0
    """Standard deviation, in slices, of the Gaussian that the noise is smoothed with along z."""
    neighbour_weight = 0.25
    """Of each neighbouring slice in the average of estimates; the slice itself has the rest."""

    def __init__(self, card: ModelCard, network: DDPMUNet, device: torch.device) -> None:
        self.section = SliceCard.of(card)
        super().__init__(card, network, device)
        self.model = Unconditional(self.evaluate, self.schedule, slices_at_once)

    @classmethod
    def load(cls, installed: InstalledModel, device: str | None = None) -> MDDPM:
        """Read the weights. WeightsError when they do not fit the network of the card."""
        network = DDPMUNet(network_config(installed.card))
        return cls(installed.card, with_weights(network, installed), pick_device(device))

    def noise_of(self, generators: list[torch.Generator], depth: int) -> Generators:
        return SliceNoise(generators, depth, self.noise_smoothness)

    def draw(self, start: Start, after_step: Sequence[Hook]) -> Tensor:
        assert isinstance(start.generators, SliceNoise)
        depth = start.generators.depth

        def denoise(x: Tensor, t: int) -> Tensor:
            x_0 = average(self.model.denoise(x, t), depth, self.neighbour_weight)
            start.watch(x_0)
            return x_0

        return self.model.sample(start, denoise, after_step, self.section.temperature)


def network_config(card: ModelCard) -> DDPMUNetConfig:
    """WeightsError for a card of another system's network."""
    shape = SliceCard.of(card).network
    known = {field.name for field in fields(DDPMUNetConfig)}
    return DDPMUNetConfig(**shape.model_dump(include=known))
