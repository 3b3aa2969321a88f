"""Learned variance: a network says where between the two bounds of a step its log variance lies.

Nichol & Dhariwal 2021, arXiv:2102.09672: Eqs. 15, 16 (range, hybrid loss) and Sec. 4 (fewer steps).
`fraction` is v of Eq. 15 as the network gives it, before it is mapped from [-1, 1] to [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .denoisers import Denoiser, Predict
from .samplers import Generators, Hook, Times, descend, draw_noise
from .schedules import NoiseSchedule, posterior_weights, step_variances

LAMBDA = 0.001
"""Weight of the variational bound in the hybrid loss."""


def log_variance_bounds(schedule: NoiseSchedule, t: int, s: int | None) -> tuple[float, float]:
    """Log of the posterior variance and of beta for the step from t to s < t (None: the clean level).

    Into the clean level the posterior has no variance: the lower bound is then that of the first step that
    has one, from timestep 1 to 0, as in the paper's code. It is never above the upper bound.
    """
    upper = math.log(step_variances(schedule, t, s)["fixed_large"])
    first = (t, s) if s is not None else (min(1, schedule.T - 1), 0)
    small = step_variances(schedule, *first)["fixed_small"]
    # a schedule of one timestep has no step with a posterior variance
    return (min(math.log(small), upper) if small > 0 else upper), upper


def log_variance(fraction: Tensor, schedule: NoiseSchedule, t: int, s: int | None) -> Tensor:
    """Eq. 15: log Sigma = v log beta + (1 - v) log beta~, v = (fraction + 1) / 2."""
    lower, upper = log_variance_bounds(schedule, t, s)
    return torch.lerp(torch.full_like(fraction, lower), torch.full_like(fraction, upper), (fraction + 1) / 2)


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
    """Ancestral sampling with the network's own variance. Otherwise as `samplers.ddpm`.

    `fraction` is called right after `denoise` with the same x and t, so both may come from one evaluation.
    ValueError unless the timesteps decrease.
    """
    for step, t, s in descend(timesteps):
        w_0, w_t = posterior_weights(schedule, t, s)
        mean = w_0 * denoise(x, t) + w_t * x
        if s is not None:
            spread = torch.exp(0.5 * log_variance(fraction(x, t), schedule, t, s))
            mean = mean + temperature * spread * draw_noise(x.shape, generator, x.device, x.dtype)
        x = mean
        for hook in after_step:
            x = hook(x, s, step)
    return x
