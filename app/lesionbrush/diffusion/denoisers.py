"""What a network predicts, turned into what a sampler needs: an estimate of x_0.

A `Denoiser` is (x, t) -> x_0 estimate, same shape as x; conditions are closed over by `predict`.
`clip` clamps the estimate to the data's range.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from .schedules import NoiseSchedule

Predict = Callable[[Tensor, int], Tensor]
Denoiser = Callable[[Tensor, int], Tensor]
Clip = tuple[float, float]


def from_eps(predict: Predict, schedule: NoiseSchedule, *, clip: Clip | None = None) -> Denoiser:
    """`predict` returns the noise: x_0 = (x - sigma eps) / alpha (Ho et al. 2020, Eq. 15)."""

    def x_0(x: Tensor, t: int) -> Tensor:
        return (x - schedule.sigma(t) * predict(x, t)) / schedule.alpha(t)

    return _clip(x_0, clip)


def from_v(predict: Predict, schedule: NoiseSchedule, *, clip: Clip | None = None) -> Denoiser:
    """`predict` returns v = alpha eps - sigma x_0: x_0 = alpha x - sigma v (Salimans & Ho 2022)."""

    def x_0(x: Tensor, t: int) -> Tensor:
        return schedule.alpha(t) * x - schedule.sigma(t) * predict(x, t)

    return _clip(x_0, clip)


def from_x0(predict: Predict, *, clip: Clip | None = None) -> Denoiser:
    """`predict` returns x_0 itself."""
    return _clip(predict, clip)


def classifier_free(conditional: Denoiser, unconditional: Denoiser, strength: float) -> Denoiser:
    """x_0 = uncond + strength (cond - uncond) (Ho & Salimans 2022, 2207.12598, with strength = 1 + w).

    Strength 1 is the conditional and 0 the unconditional denoiser; either costs one evaluation.
    """
    if strength == 1:
        return conditional
    if strength == 0:
        return unconditional

    def x_0(x: Tensor, t: int) -> Tensor:
        without = unconditional(x, t)
        return without + strength * (conditional(x, t) - without)

    return x_0


def _clip(denoise: Denoiser, clip: Clip | None) -> Denoiser:
    if clip is None:
        return denoise
    low, high = clip
    if not low < high:
        raise ValueError(f"clip needs low < high, got ({low}, {high})")
    return lambda x, t: denoise(x, t).clamp(low, high)
