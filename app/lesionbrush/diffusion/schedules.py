"""Noise schedules as data: how much signal and how much noise there is at every timestep.

Tables live in float64 on the CPU and single levels are Python floats, so nothing here depends on a device.
A timestep of None is the clean level: alpha 1, sigma 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Spacing = Literal["log_snr", "uniform", "trailing"]
FixedVariance = Literal["fixed_small", "fixed_large"]


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """Variance-preserving forward process: x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps.

    alphas_bar: (T,) float64 on the CPU, strictly decreasing with t inside (0, 1); index T-1 is the noisiest.
    ValueError for any other table.
    """

    alphas_bar: Tensor

    def __post_init__(self) -> None:
        table = self.alphas_bar
        if table.ndim != 1 or len(table) == 0 or table.dtype != torch.float64 or table.device.type != "cpu":
            raise ValueError(
                "alphas_bar must be a non-empty 1-D float64 CPU tensor, got "
                f"shape {tuple(table.shape)}, {table.dtype}, {table.device}"
            )
        if not (table[-1] > 0 and table[0] < 1 and bool((table.diff() < 0).all())):
            raise ValueError("alphas_bar must decrease strictly with t inside (0, 1)")

    @property
    def T(self) -> int:  # noqa: N802, the papers' symbol
        """Number of timesteps."""
        return len(self.alphas_bar)

    def alpha_bar(self, t: int | None) -> float:
        """Signal variance at timestep t; 1 at the clean level None. ValueError outside [0, T)."""
        if t is None:
            return 1.0
        if not 0 <= t < self.T:
            raise ValueError(f"timestep {t} is outside [0, {self.T})")
        return float(self.alphas_bar[t])

    def alpha(self, t: int | None) -> float:
        """Signal amplitude sqrt(alpha_bar_t)."""
        return math.sqrt(self.alpha_bar(t))

    def sigma(self, t: int | None) -> float:
        """Noise amplitude sqrt(1 - alpha_bar_t)."""
        return math.sqrt(1.0 - self.alpha_bar(t))

    def log_snr(self) -> Tensor:
        """(T,) log(alpha_t^2 / sigma_t^2); twice the lambda of DPM-Solver."""
        return torch.logit(self.alphas_bar)

    def add_noise(self, x_0: Tensor, noise: Tensor, t: int | Tensor | None) -> Tensor:
        """Sample q(x_t | x_0) with the given standard normal noise (Ho et al. 2020, Eq. 4).

        x_0, noise: (B, C, *spatial); t: a timestep, None (clean), or (B,) integers, one per batch item.
        """
        if isinstance(t, Tensor):
            alpha_bar = self.alphas_bar[t.cpu()]
            return _per_item(alpha_bar.sqrt(), x_0) * x_0 + _per_item((1 - alpha_bar).sqrt(), x_0) * noise
        return self.alpha(t) * x_0 + self.sigma(t) * noise


def _per_item(values: Tensor, like: Tensor) -> Tensor:
    """(B,) values on the device and in the dtype of `like`, shaped to broadcast over its trailing axes."""
    return values.to(like.dtype).to(like.device).reshape(-1, *[1] * (like.ndim - 1))


def posterior_weights(schedule: NoiseSchedule, t: int, s: int | None) -> tuple[float, float]:
    """The weights of x_0 and x_t in the mean of q(x_s | x_t, x_0), s < t or None (Ho et al. 2020, Eq. 7)."""
    a_t, a_s = schedule.alpha_bar(t), schedule.alpha_bar(s)
    alpha = a_t / a_s
    return math.sqrt(a_s) * (1 - alpha) / (1 - a_t), math.sqrt(alpha) * (1 - a_s) / (1 - a_t)


def step_variances(schedule: NoiseSchedule, t: int, s: int | None) -> dict[FixedVariance, float]:
    """The two that Ho et al. 2020 (Sec. 3.2) give a step from t to s: the posterior's, and beta itself."""
    a_t, a_s = schedule.alpha_bar(t), schedule.alpha_bar(s)
    beta = 1 - a_t / a_s
    return {"fixed_small": (1 - a_s) / (1 - a_t) * beta, "fixed_large": beta}


def _from_betas(betas: Tensor) -> NoiseSchedule:
    return NoiseSchedule(torch.cumprod(1.0 - betas, dim=0))


def linear(T: int = 1000, beta_start: float = 1e-4, beta_end: float = 2e-2) -> NoiseSchedule:
    """Betas linear in t (Ho et al. 2020, arXiv:2006.11239)."""
    return _from_betas(torch.linspace(beta_start, beta_end, T, dtype=torch.float64))


def scaled_linear(T: int = 1000, beta_start: float = 1e-4, beta_end: float = 2e-2) -> NoiseSchedule:
    """Square roots of betas linear in t (Rombach et al. 2022, arXiv:2112.10752)."""
    return _from_betas(torch.linspace(beta_start**0.5, beta_end**0.5, T, dtype=torch.float64) ** 2)


def cosine(T: int = 1000, s: float = 8e-3) -> NoiseSchedule:
    """alpha_bar a squared cosine of t, betas at most 0.999 (Nichol & Dhariwal 2021, 2102.09672, Eq. 17)."""
    t = torch.linspace(0, 1, T + 1, dtype=torch.float64)
    f = torch.cos((t + s) / (1 + s) * math.pi / 2) ** 2
    return _from_betas((1 - f[1:] / f[:-1]).clamp(max=0.999))


def continuous_cosine(T: int = 1000, s: float = 8e-3) -> NoiseSchedule:
    """That squared cosine itself at t / T, neither scaled to 1 at t = 0 nor with betas cut off: of times in
    [0, 1) of which a network is told T t (Xu et al. 2024, arXiv:2310.03559, as released)."""
    t = torch.arange(T, dtype=torch.float64) / T
    return NoiseSchedule(torch.cos((t + s) / (1 + s) * math.pi / 2) ** 2)


SCHEDULES: dict[str, Callable[..., NoiseSchedule]] = {
    "linear": linear,
    "scaled_linear": scaled_linear,
    "cosine": cosine,
    "continuous_cosine": continuous_cosine,
}


def timesteps(
    schedule: NoiseSchedule, steps: int, spacing: Spacing = "log_snr", *, t_start: int | None = None
) -> Tensor:
    """(steps,) int64, strictly decreasing from t_start: the timesteps a sampler visits.

    spacing: "log_snr" even in log-SNR down to 0 (Lu et al. 2022); "uniform" even in t down to 0;
    "trailing" even in t, ending one stride above the clean level (Lin et al. 2023, arXiv:2305.08891).
    t_start: where to begin, for a noised reference instead of pure noise; T-1 when None.
    ValueError for an unknown spacing, a t_start outside [0, T), or steps outside [1, t_start + 1].
    """
    start = schedule.T - 1 if t_start is None else t_start
    if not 0 <= start < schedule.T:
        raise ValueError(f"t_start {start} is outside [0, {schedule.T})")
    if not 1 <= steps <= start + 1:
        raise ValueError(f"steps must be in [1, {start + 1}] to start at t = {start}, got {steps}")
    if spacing not in _SPACINGS:
        raise ValueError(f"unknown spacing {spacing!r}: use one of {sorted(_SPACINGS)}")
    return torch.tensor(_distinct(_SPACINGS[spacing](schedule, start, steps).tolist()))


def _even_log_snr(schedule: NoiseSchedule, start: int, steps: int) -> Tensor:
    log_snr = schedule.log_snr()
    targets = torch.linspace(float(log_snr[start]), float(log_snr[0]), steps, dtype=torch.float64)
    return (log_snr[: start + 1] - targets[:, None]).abs().argmin(dim=1)


def _even_t(schedule: NoiseSchedule, start: int, steps: int) -> Tensor:
    return torch.linspace(start, 0, steps, dtype=torch.float64).round().long()


def _even_t_trailing(schedule: NoiseSchedule, start: int, steps: int) -> Tensor:
    ends = torch.arange(steps, 0, -1, dtype=torch.float64) * (start + 1) / steps
    return ends.round().long() - 1


_SPACINGS: dict[str, Callable[[NoiseSchedule, int, int], Tensor]] = {
    "log_snr": _even_log_snr,
    "uniform": _even_t,
    "trailing": _even_t_trailing,
}


def _distinct(nearest: Sequence[int]) -> list[int]:
    """Strictly decreasing timesteps closest to `nearest`, leaving room above 0 for those still to come."""
    chosen: list[int] = []
    for still_to_come, t in zip(reversed(range(len(nearest))), nearest, strict=True):
        below = chosen[-1] - 1 if chosen else t
        chosen.append(max(min(t, below), still_to_come))
    return chosen
