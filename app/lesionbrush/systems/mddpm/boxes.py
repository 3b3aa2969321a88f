"""Multi-condition guidance in 3D: mDDPM's (Krishna et al. 2025) with the network of lesion inpainting.

That network is trained on a share of patches of which it is told nothing: no context, no mask, no attribute.
Asked that way it is an unconditional model of lung, and guidance images alone say what becomes of the ROI.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from lesionbrush.core.registry import InstalledModel, ModelCard
from lesionbrush.diffusion.samplers import Generators, Hook, ddpm
from lesionbrush.systems.lesion_inpainting.network import LesionUNet, LesionUNetConfig
from lesionbrush.systems.mddpm.card import BoxCard
from lesionbrush.systems.mddpm.guided import GuidedDiffusion, Start
from lesionbrush.systems.running import in_channels_last, in_tiles, pick_device, with_weights


class MDDPM3D(GuidedDiffusion):
    """A 3D network on boxes."""

    slices = False
    network: LesionUNet

    def __init__(self, card: ModelCard, network: LesionUNet, device: torch.device) -> None:
        self.section = BoxCard.of(card)
        super().__init__(card, in_channels_last(network), device)

    @classmethod
    def load(cls, installed: InstalledModel, device: str | None = None) -> MDDPM3D:
        """Read the weights. WeightsError when they do not fit the network of the card."""
        section = BoxCard.of(installed.card)
        network = LesionUNet(LesionUNetConfig(len(section.attributes), **section.network.model_dump()))
        return cls(installed.card, with_weights(network, installed), pick_device(device))

    def noise_of(self, generators: list[torch.Generator], depth: int) -> Generators:
        del depth
        return generators

    def draw(self, start: Start, after_step: Sequence[Hook]) -> Tensor:
        def denoise(x: Tensor, t: int) -> Tensor:
            x_0 = in_tiles(partial(self._estimate, t=t), x, self.card.roi_voxels[-1])
            start.watch(x_0)
            return x_0

        return ddpm(
            denoise,
            start.noise,
            self.schedule,
            start.timesteps,
            generator=start.generators,
            after_step=after_step,
            temperature=self.section.temperature,
        )

    def _estimate(self, x: Tensor, t: int) -> Tensor:
        """(B, 1, Z, Y, X) clean from noisy, and nothing else is said."""
        alpha, sigma = (x.new_full((len(x),), v) for v in (self.schedule.alpha(t), self.schedule.sigma(t)))
        nothing = x.new_zeros(len(x), 3, *x.shape[2:])
        attributes = x.new_zeros(len(x), 2 * self.network.config.attributes)
        return self.evaluate(x, alpha, sigma, nothing, attributes)
