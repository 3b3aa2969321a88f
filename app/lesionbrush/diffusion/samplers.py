"""Samplers: each one a function that reads like its paper. No state: all randomness is the generator's.

x is (B, C, *spatial) at level timesteps[0]; the last step lands on the clean level, and x_0 is returned.
Hooks in `after_step` see every new x at its own level; one that raises ends the sampling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from .denoisers import Denoiser
from .schedules import FixedVariance, NoiseSchedule, posterior_weights, step_variances

# (new x, its timestep or None when clean, index of the step that made it) -> x
Hook = Callable[[Tensor, "int | None", int], Tensor]


class NoiseSource(Protocol):
    """Draws standard normal noise of a shape in its own way, say alike in neighbouring slices."""

    def __call__(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor: ...


# one for the whole batch, one per batch item, or something that draws by itself
Generators = torch.Generator | Sequence[torch.Generator] | NoiseSource
Times = Tensor | Sequence[int]
Temperature = float | Callable[[float], float]


def draw_noise(
    shape: Sequence[int], generators: Generators, device: torch.device | str, dtype: torch.dtype
) -> Tensor:
    """Standard normal noise of `shape` (B, ...), drawn where the generator lives and moved to `device`.

    With one generator per batch item, item k gets what it would get alone, whatever else is in the batch.
    ValueError when the number of generators is not B.
    """
    if isinstance(generators, torch.Generator):
        return _randn(shape, generators, dtype).to(device)
    if not isinstance(generators, Sequence):
        return generators(shape, dtype).to(device)
    if len(generators) != shape[0]:
        raise ValueError(f"{len(generators)} generators for a batch of {shape[0]}: pass one, or one per item")
    return torch.cat([_randn((1, *shape[1:]), one, dtype) for one in generators]).to(device)


def _randn(shape: Sequence[int], generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    return torch.randn(tuple(shape), generator=generator, device=generator.device, dtype=dtype)


def ddpm(  # noqa: PLR0913, two more than the others
    denoise: Denoiser,
    x: Tensor,
    schedule: NoiseSchedule,
    timesteps: Times,
    *,
    generator: Generators,
    after_step: Sequence[Hook] = (),
    temperature: Temperature = 1.0,
    variance: FixedVariance = "fixed_small",
) -> Tensor:
    """Ancestral sampling (Ho et al. 2020, arXiv:2006.11239, Eqs. 6, 7; Sec. 3.2 for the variance).

    The posterior q(x_s | x_t, x_0) is taken between neighbours of the list, whatever their distance.
    variance: of the noise of a step, the posterior's or, "fixed_large", beta; into the clean level there is
    none. Lung-DDPM (Eq. 4) and mDDPM (Eq. 6) are written with beta.
    temperature: on the standard deviation of the noise drawn; below 1, samples are calmer and less diverse.
    A function of sigma/alpha of the level that a step lands on, where it is not the same for all.
    ValueError when it is negative.
    """
    hotness = temperature if callable(temperature) else (lambda ratio: temperature)
    for step, t, s in descend(timesteps):
        w_0, w_t = posterior_weights(schedule, t, s)
        x = w_0 * denoise(x, t) + w_t * x
        if s is not None:
            heat = hotness(schedule.sigma(s) / schedule.alpha(s))
            if heat < 0:
                raise ValueError(f"temperature must be 0 or more, got {heat}")
            spread = math.sqrt(step_variances(schedule, t, s)[variance])
            x = x + heat * spread * draw_noise(x.shape, generator, x.device, x.dtype)
        x = _apply(after_step, x, s, step)
    return x


def ddim(  # noqa: PLR0913, eta is DDIM's own
    denoise: Denoiser,
    x: Tensor,
    schedule: NoiseSchedule,
    timesteps: Times,
    *,
    generator: Generators | None = None,
    after_step: Sequence[Hook] = (),
    eta: float = 0.0,
) -> Tensor:
    """DDIM (Song et al. 2021, arXiv:2010.02502, Eqs. 12, 16); eta 0 draws nothing, eta 1 is `ddpm` in law.

    A clipped x_0 gives the noise estimate that belongs to it, so both terms agree with x.
    ValueError for eta outside [0, 1], or eta > 0 without a generator.
    """
    _check_eta(eta, generator)
    for step, t, s in descend(timesteps):
        a_t, a_s = schedule.alpha_bar(t), schedule.alpha_bar(s)
        x_0 = denoise(x, t)
        eps = (x - math.sqrt(a_t) * x_0) / math.sqrt(1 - a_t)
        sigma = eta * math.sqrt(step_variances(schedule, t, s)["fixed_small"])
        x = math.sqrt(a_s) * x_0 + math.sqrt(max(1 - a_s - sigma**2, 0.0)) * eps
        if generator is not None and sigma > 0:
            x = x + sigma * draw_noise(x.shape, generator, x.device, x.dtype)
        x = _apply(after_step, x, s, step)
    return x


def dpm_solver_pp_2m(
    denoise: Denoiser,
    x: Tensor,
    schedule: NoiseSchedule,
    timesteps: Times,
    *,
    generator: Generators | None = None,
    after_step: Sequence[Hook] = (),
) -> Tensor:
    """DPM-Solver++(2M), data prediction (Lu et al. 2022, arXiv:2211.01095, Algorithm 2).

    The first step is of first order, and so is the last, where the log-SNR becomes infinite.
    An ODE solver draws nothing: `generator` is taken so that all SAMPLERS are called alike.
    """
    del generator
    x_0_before, h_before = None, math.nan
    for step, t, s in descend(timesteps):
        h = _half_log_snr(schedule, s) - _half_log_snr(schedule, t)
        x_0 = d = denoise(x, t)
        if x_0_before is not None and s is not None:
            half_over_r = h / h_before / 2
            d = (1 + half_over_r) * x_0 - half_over_r * x_0_before
        x = schedule.sigma(s) / schedule.sigma(t) * x - schedule.alpha(s) * math.expm1(-h) * d
        x = _apply(after_step, x, s, step)
        x_0_before, h_before = x_0, h
    return x


SAMPLERS: dict[str, Callable[..., Tensor]] = {
    "ddpm": ddpm,
    "ddim": ddim,
    "dpm_solver_pp_2m": dpm_solver_pp_2m,
}


def descend(timesteps: Times) -> Iterator[tuple[int, int, int | None]]:
    """(step, t, next t) for every step; the last goes to None, the clean level.

    ValueError when there is none, or unless they decrease strictly.
    """
    times = [int(t) for t in timesteps]
    if not times:
        raise ValueError("a sampler needs at least one timestep, got none")
    for t, s in pairwise(times):
        if s >= t:
            raise ValueError(f"timesteps must decrease strictly, got {t} then {s}")
    yield from zip(range(len(times)), times, [*times[1:], None], strict=True)


def _half_log_snr(schedule: NoiseSchedule, t: int | None) -> float:
    """lambda_t = log(alpha_t / sigma_t), infinite at the clean level."""
    return math.inf if t is None else math.log(schedule.alpha(t) / schedule.sigma(t))


def _check_eta(eta: float, generator: Generators | None) -> None:
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must be in [0, 1], got {eta}")
    if eta > 0 and generator is None:
        raise ValueError(f"eta {eta} draws noise: pass a generator")


def _apply(hooks: Sequence[Hook], x: Tensor, t_next: int | None, step: int) -> Tensor:
    for hook in hooks:
        x = hook(x, t_next, step)
    return x
