"""mDDPM (Krishna et al. 2025) on the axial slices of a lesion, with noise that neighbouring slices share.

The network knows single slices. Three things make a lesion of them: the noise is smooth from slice to slice,
estimates of x_0 are averaged over neighbours at every step, and the guidance images agree anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from lesionbrush.core.registry import InstalledModel, ModelCard
from lesionbrush.diffusion.samplers import Generators, Hook
from lesionbrush.systems.mddpm.card import SliceCard
from lesionbrush.systems.mddpm.guided import GuidedDiffusion, Start
from lesionbrush.systems.mddpm.network import DDPMUNet, DDPMUNetConfig
from lesionbrush.systems.mddpm.unconditional import Unconditional
from lesionbrush.systems.running import pick_device, with_weights

PIXELS_AT_ONCE, SLICES_AT_ONCE = 32 * 128 * 128, 32
"""Evaluated at a time, so that many or large slices need no more memory than a few small ones."""


@dataclass(frozen=True, eq=False)
class SliceNoise:
    """Standard normal noise of (B Z, 1, Y, X), smooth along z, one generator for each of B boxes.

    smoothness: standard deviation of the Gaussian in slices; 0 makes every slice independent.
    """

    generators: Sequence[torch.Generator]
    depth: int
    smoothness: float

    def __call__(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """ValueError for another number of slices than the boxes have."""
        if shape[0] != self.depth * len(self.generators):
            raise ValueError(
                f"noise for {len(self.generators)} boxes of {self.depth} slices, asked {shape[0]}"
            )
        return torch.cat([self._box(shape[1:], one, dtype) for one in self.generators])

    def _box(self, shape: Sequence[int], generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        reach = int(3 * self.smoothness + 0.5)
        white = torch.randn((self.depth + 2 * reach, *shape), generator=generator, dtype=dtype)
        if reach == 0:
            return white
        offsets = torch.arange(-reach, reach + 1, dtype=dtype)
        kernel = torch.exp(-0.5 * (offsets / self.smoothness) ** 2)
        kernel = kernel / kernel.square().sum().sqrt()  # keeps the variance
        return torch.einsum("zcyxk,k->zcyx", white.unfold(0, 2 * reach + 1, 1), kernel)


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


def slices_at_once(slices: Tensor) -> int:
    """How many of (N, 1, Y, X)."""
    return max(1, min(SLICES_AT_ONCE, PIXELS_AT_ONCE // slices[0].numel()))


def average(slices: Tensor, depth: int, weight: float) -> Tensor:
    """(B Z, 1, Y, X) with each slice mixed with the two beside it; at the ends, with the one there is."""
    boxes = slices.unflatten(0, (-1, depth))
    before = torch.cat((boxes[:, :1], boxes[:, :-1]), dim=1)
    after = torch.cat((boxes[:, 1:], boxes[:, -1:]), dim=1)
    return ((1 - 2 * weight) * boxes + weight * (before + after)).flatten(0, 1)


def network_config(card: ModelCard) -> DDPMUNetConfig:
    """WeightsError for a card of another system's network."""
    shape = SliceCard.of(card).network
    known = {field.name for field in fields(DDPMUNetConfig)}
    return DDPMUNetConfig(**shape.model_dump(include=known))
