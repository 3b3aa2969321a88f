"""The network of Shades, and how it fills ROIs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from lesionbrush.core.hu import HUWindow
from lesionbrush.core.model import OnEstimate, OnStep
from lesionbrush.core.registry import InstalledModel, ModelCard
from lesionbrush.core.rois import RoiBatch, Sampled
from lesionbrush.systems.running import device_name, lesion_generators, pick_device, with_weights
from lesionbrush_system_shades import HOOKS, ShadesCard, ShadesRequest
from torch import Tensor, nn


class SliceNet(nn.Module):
    """(N, 3, Y, X) tissue, mask and shade, each about -1 to 1, to (N, 1, Y, X)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers = (nn.Conv2d(3, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, 1, 3, padding=1))
        self.layers = nn.Sequential(*layers)

    def forward(self, slices: Tensor) -> Tensor:
        tissue, mask, shade = slices.split(1, dim=1)
        made: Tensor = torch.lerp(tissue, shade, mask) + 0.1 * self.layers(slices)
        return made


class Shades:
    """Ready to fill ROIs, one slice after the other."""

    hooks = HOOKS

    def __init__(self, card: ModelCard, network: SliceNet, device: torch.device) -> None:
        self.card, self.network, self.device = card, network.to(device).eval(), device
        self.window = HUWindow(*card.window_hu)

    @classmethod
    def load(cls, installed: InstalledModel, device: str | None) -> Shades:
        network = SliceNet(ShadesCard.of(installed.card).width)
        return cls(installed.card, with_weights(network, installed), pick_device(device))

    @torch.inference_mode()
    def sample(
        self,
        rois: RoiBatch,
        request: ShadesRequest,
        seeds: Sequence[int],
        on_step: OnStep,
        on_estimate: OnEstimate | None = None,
    ) -> Sampled:
        """(V, 1, Z, Y, X) HU; see `core.model.Model`."""
        made = []
        for k, seed in enumerate(seeds):
            (generator,) = lesion_generators(rois, [(seed, 0)])
            noise = 0.05 * torch.randn(rois.reference_hu[0].shape, generator=generator)
            arrays = self.window.to_unit(rois.reference_hu[0]), rois.mask[0], self.window.to_unit(rois.own[0])
            slices = torch.stack([torch.from_numpy(np.float32(array)) for array in arrays], dim=1)
            slices[:, 0] += noise * slices[:, 1]
            hu = self.window.from_unit(self.network(slices.to(self.device))[:, 0].cpu().numpy())
            made.append(hu)
            if on_estimate is not None and k == 0:
                on_estimate(hu)
            on_step((k + 1) * request.steps, len(seeds) * request.steps)
        return Sampled(np.stack(made)[:, None].astype(np.float32), device_name(self.device))
