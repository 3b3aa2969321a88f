"""The sampling pieces of Lung-DDPM (Jiang et al. 2025, arXiv:2502.15204) and Lung-DDPM+ (arXiv:2508.09327).

As in the papers, and, where the released samplers differ, as they were released: for those who want the
papers' numbers. Timesteps count from 0 here and in the released code, from 1 in the papers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lesionbrush.diffusion.samplers import Generators, draw_noise
from lesionbrush.diffusion.schedules import NoiseSchedule

MOST_ORDER = 3


@dataclass(frozen=True, eq=False)
class ReleasedBlend:
    """`keep_known` as released: the outside is noised to the level *before* the step, one too noisy.

    So some noise stays outside even in the end: of the first level's amplitude. timesteps: those the sampler
    visits. blend_from: steps from noisier timesteps are left alone.
    """

    reference: Tensor
    inside: Tensor
    schedule: NoiseSchedule
    generator: Generators
    timesteps: Sequence[int]
    blend_from: int = 250

    def __call__(self, x: Tensor, t_next: int | None, step: int) -> Tensor:
        t = int(self.timesteps[step])
        noise = draw_noise(x.shape, self.generator, x.device, x.dtype)
        known = self.schedule.add_noise(self.reference.to(x).expand_as(x), noise, t)
        if t > self.blend_from:
            return x
        return torch.where(self.inside.to(x.device).bool(), x, known)


def inversion_start(noise: Tensor, inverted: Tensor, mask: Tensor) -> Tensor:
    """Where Lung-DDPM+ starts (EAAS): noise under the mask, the inverted reference outside, once."""
    return torch.where(mask.bool(), noise, inverted)


@dataclass(frozen=True)
class Level:
    """A noise level between the timesteps. timestep: what the network is told."""

    alpha: float
    sigma: float
    timestep: float

    @property
    def half_log_snr(self) -> float:
        return math.log(self.alpha / self.sigma)


def uniform_levels(schedule: NoiseSchedule, steps: int, *, as_released: bool = False) -> list[Level]:
    """steps + 1 levels even in time from the noisiest timestep to timestep 0; log alpha is linear in between.

    as_released: the network is told times from 0 to 1000 instead of to T, as DPM-Solver's code does for every
    discrete schedule; with the 250 timesteps of Lung-DDPM+ that is four times what it was trained with.
    ValueError for steps below 1.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    last = schedule.T - 1
    log_alpha = (schedule.alphas_bar.log() / 2).tolist()
    scale = 1000 / schedule.T if as_released else 1.0
    levels = []
    for k in range(steps + 1):
        t = last * (steps - k) / steps
        low = min(int(t), max(last - 1, 0))
        share = t - low
        value = log_alpha[low] + share * (log_alpha[min(low + 1, last)] - log_alpha[low])
        levels.append(Level(math.exp(value), math.sqrt(-math.expm1(2 * value)), t * scale))
    return levels


LevelDenoiser = Callable[[Tensor, Level], Tensor]
"""(x, its level) -> estimate of x_0."""


def multistep(denoise: LevelDenoiser, x: Tensor, levels: Sequence[Level], order: int = MOST_ORDER) -> Tensor:
    """DPM-Solver++ in data prediction (Lu et al. 2022, arXiv:2211.01095), multistep, of order 1, 2 or 3.

    x is at levels[0], the result at levels[-1]; levels[::-1] inverts: it goes from the image to its noise.
    The released EAAS takes the clean reference for x at the last level, and its samples end there.
    The first steps are of lower order. One evaluation a step. ValueError for another order.
    """
    if order not in range(1, MOST_ORDER + 1):
        raise ValueError(f"order must be 1, 2 or 3, got {order}")
    estimates: list[Tensor] = []
    for k in range(1, len(levels)):
        before, after = levels[k - 1], levels[k]
        estimates = [*estimates, denoise(x, before)][-order:]
        past = [level.half_log_snr for level in levels[max(k - order, 0) : k]]
        h = after.half_log_snr - past[-1]
        slopes = _slopes(estimates, past, h)
        x = after.sigma / before.sigma * x
        for weight, slope in zip(_weights(h, len(slopes)), slopes, strict=True):
            x = x + after.alpha * weight * slope
    return x


def _weights(h: float, order: int) -> tuple[float, ...]:
    """Of the estimate and its derivatives, over a step h of the half log-SNR.

    Order 2 has half the first weight for the slope, as in their Algorithm 2; order 3 integrates exactly.
    """
    phi_1 = math.expm1(-h)
    phi_2 = phi_1 / h + 1
    weights = {1: (-phi_1,), 2: (-phi_1, -phi_1 / 2), 3: (-phi_1, phi_2, 0.5 - phi_2 / h)}
    return weights[order]


def _slopes(estimates: Sequence[Tensor], past: Sequence[float], h: float) -> list[Tensor]:
    """The newest estimate and its derivatives times h, h², from divided differences of the last estimates."""
    newest = estimates[-1]
    if len(estimates) == 1:
        return [newest]
    ratio_0 = (past[-1] - past[-2]) / h
    first_0 = (newest - estimates[-2]) / ratio_0
    if len(estimates) == 2:
        return [newest, first_0]
    ratio_1 = (past[-2] - past[-3]) / h
    change = (first_0 - (estimates[-2] - estimates[-3]) / ratio_1) / (ratio_0 + ratio_1)
    return [newest, first_0 + ratio_0 * change, change]


def threshold_dynamically(x_0: Tensor, share: float = 0.995) -> Tensor:
    """Each item of (B, ...) clamped to its quantile of |x_0|, at least 1, and divided by it (Saharia 2022).

    As released for Lung-DDPM+, but per item: the released code works for a batch of one only.
    """
    sizes = x_0.abs().flatten(1)
    rank = share * (sizes.shape[1] - 1)
    below, above = (sizes.kthvalue(k + 1, dim=1).values for k in (math.floor(rank), math.ceil(rank)))
    limit = torch.lerp(below, above, rank % 1).clamp(min=1)
    limit = limit.reshape(-1, *[1] * (x_0.ndim - 1))
    return torch.minimum(torch.maximum(x_0, -limit), limit) / limit
