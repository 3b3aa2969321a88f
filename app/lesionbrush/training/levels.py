"""Which noise levels a training step visits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lesionbrush.diffusion.schedules import NoiseSchedule


@dataclass(frozen=True)
class Levels:
    """Log-normal in sigma/alpha (Karras et al. 2022, arXiv:2206.00364), and a share even over all t."""

    log_ratio_mean: float
    log_ratio_std: float
    uniform_share: float

    def draw(self, schedule: NoiseSchedule, count: int, rng: torch.Generator) -> Tensor:
        """(count,) timesteps."""
        log_ratio = torch.randn(count, generator=rng, dtype=torch.float64)
        log_ratio = self.log_ratio_mean + self.log_ratio_std * log_ratio
        table = 0.5 * torch.log((1 - schedule.alphas_bar) / schedule.alphas_bar)
        t = torch.searchsorted(table, log_ratio).clamp(max=len(table) - 1)
        even = torch.randint(len(table), (count,), generator=rng)
        return torch.where(torch.rand(count, generator=rng) < self.uniform_share, even, t)


EVEN = Levels(0.0, 1.0, uniform_share=1.0)
"""All t alike, as in most papers (Ho et al. 2020, Algorithm 1)."""
