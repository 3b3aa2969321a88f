"""Learned variance: a network says where between the two bounds of a step its log variance lies.

Nichol & Dhariwal 2021, arXiv:2102.09672: Eqs. 15, 16 (range, hybrid loss) and Sec. 4 (fewer steps).
`fraction` is v of Eq. 15 as the network gives it, before it is mapped from [-1, 1] to [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from .denoisers import Denoiser, Predict
from .samplers import Generators, Hook, Times, draw_noise
from .schedules import NoiseSchedule

LAMBDA = 0.001
"""Weight of the variational bound in the hybrid loss."""


def log_variance_bounds(schedule: NoiseSchedule, t: int, s: int | None) -> tuple[float, float]:
    """Log of the posterior variance and of beta for the step from t to s < t (None: the clean level).

    Into the clean level the posterior has no variance: the lower bound is then that of the first step that
    has one, from timestep 1 to 0, as in the paper's code. It is never above the upper bound.
    """
    a_t, a_s = schedule.alpha_bar(t), schedule.alpha_bar(s)
    upper = math.log(1 - a_t / a_s)
    if s is None:
        a_t, a_s = schedule.alpha_bar(min(1, schedule.T - 1)), schedule.alpha_bar(0)
    if a_t == a_s:  # a schedule of one timestep
        return upper, upper
    lower = math.log((1 - a_s) / (1 - a_t) * (1 - a_t / a_s))
    return min(lower, upper), upper


def log_variance(fraction: Tensor, schedule: NoiseSchedule, t: int, s: int | None) -> Tensor:
    """Eq. 15: log Sigma = v log beta + (1 - v) log beta~, v = (fraction + 1) / 2."""
    lower, upper = log_variance_bounds(schedule, t, s)
    return torch.lerp(torch.full_like(fraction, lower), torch.full_like(fraction, upper), (fraction + 1) / 2)


def posterior_weights(schedule: NoiseSchedule, t: int, s: int | None) -> tuple[float, float]:
    """The weights of x_0 and x_t in the mean of q(x_s | x_t, x_0) (Ho et al. 2020, Eq. 7)."""
    a_t, a_s = schedule.alpha_bar(t), schedule.alpha_bar(s)
    alpha = a_t / a_s
    return math.sqrt(a_s) * (1 - alpha) / (1 - a_t), math.sqrt(alpha) * (1 - a_s) / (1 - a_t)


def variational_bound(
    clean: Tensor, estimate: Tensor, fraction: Tensor, schedule: NoiseSchedule, t: Tensor
) -> Tensor:
    """T x L_t of every voxel in nats, without gradient to the mean (Sec. 3.1); t: (B,).

    The KL divergence of the step's Gaussian from the posterior; at t = 0, where that has no width, the
    negative log density of the clean image, up to a constant, with the KL's place taken by a Gaussian of the
    lower bound's width.
    """
    rows = []
    for k, level in enumerate(t.tolist()):
        s = level - 1 if level else None
        w_0, _ = posterior_weights(schedule, level, s)
        offset = w_0 * (estimate[k] - clean[k]).detach()
        lower, _ = log_variance_bounds(schedule, level, s)
        ours = log_variance(fraction[k], schedule, level, s)
        rows.append(0.5 * (ours - lower - 1 + torch.exp(lower - ours) + offset**2 * torch.exp(-ours)))
    return schedule.T * torch.stack(rows)


def ddpm_learned(  # noqa: PLR0913, as `samplers.ddpm`
    denoise: Denoiser,
    fraction: Predict,
    x: Tensor,
    schedule: NoiseSchedule,
    timesteps: Times,
    *,
    generator: Generators,
    after_step: Sequence[Hook] = (),
    temperature: float = 1.0,
) -> Tensor:
    """Ancestral sampling with the network's own variance. Otherwise as `samplers.ddpm`, downwards only.

    `fraction` is called right after `denoise` with the same x and t, so both may come from one evaluation.
    ValueError unless the timesteps decrease.
    """
    times = [int(t) for t in timesteps]
    if any(s >= t for t, s in pairwise(times)):
        raise ValueError(f"timesteps must decrease strictly, got {times}")
    for step, (t, s) in enumerate(zip(times, [*times[1:], None], strict=True)):
        w_0, w_t = posterior_weights(schedule, t, s)
        mean = w_0 * denoise(x, t) + w_t * x
        if s is not None:
            spread = torch.exp(0.5 * log_variance(fraction(x, t), schedule, t, s))
            mean = mean + temperature * spread * draw_noise(x.shape, generator, x.device, x.dtype)
        x = mean
        for hook in after_step:
            x = hook(x, s, step)
    return x
