"""Estimates of x_0 kept to a mean, and between limits. All are (B, 1, Z, Y, X), in units of the image."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from lesionbrush.diffusion.denoisers import Denoiser
from lesionbrush.diffusion.guidance import SHAPED_ABOVE_RATIO, Moments, match_moments
from lesionbrush.diffusion.schedules import NoiseSchedule


def hold(denoise: Denoiser, wish: Moments, schedule: NoiseSchedule, *, at_most: bool = False) -> Denoiser:
    """`match_moments` for the items of a batch that have any weight in `wish.counted`.

    at_most: a mean below that is left as it is.
    """
    total, shape = wish.counted.flatten(1).sum(dim=1), (-1, *[1] * (wish.counted.ndim - 1))

    def change(x: Tensor, t: int) -> Tensor:
        estimate = denoise(x, t)
        found = (wish.counted * estimate).flatten(1).sum(dim=1) / total.clamp(min=1e-6)
        mean = found if wish.mean is None else wish.mean.to(found)
        kept = replace(wish, mean=found.minimum(mean) if at_most else mean)
        matched = match_moments(lambda x, t: estimate, kept, schedule)(x, t)
        return torch.where((total > 0).reshape(shape), matched, estimate)

    return change


def cap(denoise: Denoiser, region: Tensor, most: Tensor, schedule: NoiseSchedule) -> Denoiser:
    """No estimate exceeds most (B,) in the region, while more than grain is left to be made.

    region: (B, 1, Z, Y, X), not 0 where the limit holds.
    """
    limit = most.reshape(-1, *[1] * (region.ndim - 1))

    def change(x: Tensor, t: int) -> Tensor:
        estimate = denoise(x, t)
        if schedule.sigma(t) / schedule.alpha(t) < SHAPED_ABOVE_RATIO:
            return estimate
        return torch.where(region > 0, estimate.minimum(limit.to(estimate)), estimate)

    return change


def lift(denoise: Denoiser, region: Tensor, least: Tensor, schedule: NoiseSchedule) -> Denoiser:
    """As `cap`; no estimate is below least (B,)."""
    minus = cap(lambda x, t: -denoise(x, t), region, -least, schedule)
    return lambda x, t: -minus(x, t)
