"""Training of the unconditional model behind mDDPM (Krishna et al. 2025). Reads the pack only.

The loss is Nichol & Dhariwal's hybrid (2021, arXiv:2102.09672): the squared error of what the network
predicts and, with learned variance, a thousandth of the variational bound. Only real data is scored, and
scans with little noise count more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lesionbrush.core.hu import HUWindow
from lesionbrush.diffusion.learned_variance import LAMBDA, variational_bound
from lesionbrush.diffusion.schedules import SCHEDULES, NoiseSchedule
from lesionbrush.systems.mddpm.data import SIDES, SliceBatch
from lesionbrush.systems.mddpm.network import DDPMUNet, DDPMUNetConfig
from lesionbrush.systems.running import half_precision
from lesionbrush.training.levels import Levels
from lesionbrush.training.loop import Loop, LoopConfig, noise_like


@dataclass(frozen=True, kw_only=True)
class SliceTrainingConfig(LoopConfig):
    """What fixes a training run; the same config, pack and machine give the same weights."""

    network: DDPMUNetConfig = field(default_factory=DDPMUNetConfig)
    window: HUWindow = field(default_factory=lambda: HUWindow(-1000.0, 1000.0))
    schedule: str = "cosine"
    timesteps: int = 1000
    learning_rate: float = 4e-4
    validate_every: int = 250
    sides: tuple[int, ...] = SIDES
    levels: Levels = field(default_factory=lambda: Levels(-1.2, 1.5, 0.5))


class SliceTrainer(Loop[SliceBatch]):
    """Trains a `DDPMUNet` on axial slices."""

    config: SliceTrainingConfig
    network: DDPMUNet
    average: DDPMUNet

    def build(self) -> DDPMUNet:
        return DDPMUNet(self.config.network)

    @cached_property
    def schedule(self) -> NoiseSchedule:
        return SCHEDULES[self.config.schedule](self.config.timesteps)

    def loss(self, network: nn.Module, batch: SliceBatch, rng: torch.Generator) -> Tensor:
        image, scored, weight = (a.to(self.device) for a in (batch.image, batch.scored, batch.weight))
        t = self.config.levels.draw(self.schedule, len(image), rng)
        noise = noise_like(image, rng)
        noisy = self.schedule.add_noise(image, noise, t)
        with half_precision(self.device):
            out = network(noisy, t.to(self.device))
        alpha, sigma = self._amplitudes(t)
        target, estimate = self._reading(out[:, :1], _Noised(image, noise, noisy, alpha, sigma))
        error = (out[:, :1] - target) ** 2
        if self.config.network.variance == "learned_range":
            bound = variational_bound(image, estimate.detach(), out[:, 1:], self.schedule, t)
            error = error + LAMBDA * bound
        per_slice = (scored * error).sum(dim=(1, 2, 3)) / scored.sum(dim=(1, 2, 3)).clamp(min=1)
        return (weight * per_slice).mean()

    def _amplitudes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma, (B, 1, 1, 1)."""
        alpha_bar = self.schedule.alphas_bar[t][:, None, None, None]
        return alpha_bar.sqrt().float().to(self.device), (1 - alpha_bar).sqrt().float().to(self.device)

    def _reading(self, out: Tensor, at: _Noised) -> tuple[Tensor, Tensor]:
        """What the network should have said, and the clean image that follows from what it did say."""
        kind = self.config.network.prediction
        if kind == "eps":
            return at.noise, (at.noisy - at.sigma * out) / at.alpha
        if kind == "v":
            return at.alpha * at.noise - at.sigma * at.clean, at.alpha * at.noisy - at.sigma * out
        return at.clean, out


class _Noised(NamedTuple):
    clean: Tensor
    noise: Tensor
    noisy: Tensor
    alpha: Tensor
    sigma: Tensor
