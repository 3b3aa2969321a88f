"""Guidance as hooks for a sampler's `after_step`: each changes the new x at the new x's own noise level."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .denoisers import Denoiser
from .samplers import Generators, Hook, draw_noise
from .schedules import NoiseSchedule


def keep_known(reference: Tensor, editable: Tensor, schedule: NoiseSchedule, generator: Generators) -> Hook:
    """Anatomically aware sampling of Lung-DDPM (Jiang et al. 2025, arXiv:2502.15204, Eqs. 5, 6).

    x <- editable x + (1 - editable) q(reference), with the reference noised to the level of the *new* x.
    At the clean level it is the reference itself: where editable is 0 the result equals it exactly.
    reference, editable: broadcast to x (B, C, *spatial). Weights between 0 and 1 make a soft border; the two
    noises are independent there, so their mixture is calmer than the level asks. ValueError outside [0, 1].
    """
    if not bool(((editable >= 0) & (editable <= 1)).all()):
        low, high = editable.aminmax()
        raise ValueError(f"editable must lie in [0, 1], got {float(low)} to {float(high)}")

    def hook(x: Tensor, t_next: int | None, step: int) -> Tensor:
        known = _add_noise(reference, x, schedule, generator, t_next)
        return torch.lerp(known, x, editable.to(x).expand_as(x))

    return hook


@dataclass(frozen=True, eq=False)
class LowPassGuide:
    """One guidance image of mDDPM.

    image: clean, broadcast to x. factor: n_s, the low pass keeps structure coarser than this many voxels.
    stop: guide while the new x's timestep >= stop; -1 guides the clean x too. The paper counts levels from 1
    and compares the level before the step, so its a_s is stop + 2 where no timestep is skipped.
    where: 0..1, broadcast to x, how much it acts at each voxel; None: fully at all of them.
    """

    image: Tensor
    factor: int
    stop: float
    where: Tensor | None = None


MOST_GUIDES = 3

SCALE_LIMITS = (0.5, 2.0)
ROUNDS = 4  # moving the mean changes the spread, and the other way round
SPREAD_BELOW_RATIO = 0.5
"""Noisier than this (sigma/alpha) an estimate of x_0 is calmer than x_0, and its spread says little."""


@dataclass(frozen=True, eq=False)
class Moments:
    """A wish for the mean and the standard deviation in a region; None leaves one open.

    region: (B, 1, *spatial) in 0..1, where to change x_0; counted: the weights both are measured with;
    mean: (B,); background: the level of what surrounds the region; where it is not below that of the region,
    all of the region is moved alike.
    """

    region: Tensor
    counted: Tensor
    mean: Tensor | None
    spread: float | None
    background: float


def match_moments(denoise: Denoiser, wish: Moments, schedule: NoiseSchedule) -> Denoiser:
    """Each estimate of x_0 changed so that it has the wished mean and spread.

    The network goes on from the changed estimate, so what it adds fits the wish: a projection at every step,
    as in the range-null space method (Wang et al. 2022, arXiv:2212.00490). The mean is moved by contrast:
    what is at the background's level stays, so no halo grows around the region. The spread is scaled within
    `SCALE_LIMITS` a round, and only while there is little noise.
    """
    if wish.mean is None and wish.spread is None:
        return denoise
    soft = _soften(wish.region)
    average = _average_over(wish.counted)
    mean = None if wish.mean is None else wish.mean.reshape(-1, *[1] * (soft.ndim - 1)).to(soft)

    def scaled(estimate: Tensor, spread: float) -> Tensor:
        deviation = estimate - average(estimate)
        there = average(deviation**2).clamp(min=1e-6).sqrt()
        return estimate + ((spread / there).clamp(*SCALE_LIMITS) - 1) * soft * deviation

    def shifted(estimate: Tensor, mean: Tensor) -> Tensor:
        field = soft * _contrast(estimate, average(estimate), wish.background)
        return estimate + (mean - average(estimate)) / average(field).clamp(min=1e-3) * field

    def changed(x: Tensor, t: int) -> Tensor:
        estimate = denoise(x, t)
        calm = schedule.sigma(t) / schedule.alpha(t) < SPREAD_BELOW_RATIO
        for _ in range(ROUNDS if calm and wish.spread is not None else 1):
            if calm and wish.spread is not None:
                estimate = scaled(estimate, wish.spread)
            if mean is not None:
                estimate = shifted(estimate, mean)
        return estimate

    return changed


@dataclass(frozen=True, eq=False)
class Outline:
    """A wish for where a lesion ends. All (B, 1, *spatial), 0..1.

    body: what level the lesion has is measured there; coverage: from the background's level at 0 to the
    lesion's at 1; dense: where x_0 is to have that level at least; carved: where at most.
    """

    body: Tensor
    coverage: Tensor
    dense: Tensor
    carved: Tensor
    background: float


SHAPED_ABOVE_RATIO = 0.05
"""Only above this sigma/alpha: what comes later, the network makes of it, grain above all."""


def match_outline(denoise: Denoiser, wish: Outline, schedule: NoiseSchedule) -> Denoiser:
    """Each estimate of x_0 changed so that the lesion has the wished outline: thin strands, creases.

    A projection as in `match_moments`. Tissue that is denser than the lesion stays where it grows.
    """
    average = _average_over(wish.body)

    def changed(x: Tensor, t: int) -> Tensor:
        estimate = denoise(x, t)
        if schedule.sigma(t) / schedule.alpha(t) < SHAPED_ABOVE_RATIO:
            return estimate
        level = wish.background + wish.coverage * (average(estimate) - wish.background)
        estimate = torch.where(wish.dense > 0, estimate.maximum(level), estimate)
        return torch.where(wish.carved > 0, estimate.minimum(level), estimate)

    return changed


def _average_over(weights: Tensor) -> Callable[[Tensor], Tensor]:
    axes = tuple(range(1, weights.ndim))
    total = weights.sum(axes, keepdim=True).clamp(min=1e-6)
    return lambda x: (weights * x).sum(axes, keepdim=True) / total


def _contrast(estimate: Tensor, mean: Tensor, background: float) -> Tensor:
    """0 at the background's level, 1 at the region's mean; 1 everywhere where the two hardly differ."""
    height = mean - background
    relative = ((estimate - background) / height.clamp(min=1e-6)).clamp(0, 1.5)
    return torch.where(height > 0.05, relative, torch.ones_like(relative))


def _soften(where: Tensor) -> Tensor:
    """The region, one voxel wider, with an edge that falls over about two voxels."""
    rank = where.ndim - 3
    pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[rank]
    widest = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[rank]
    return pool(widest(where, 3, 1, 1), 3, 1, 1)


def match_low_pass(
    guides: Sequence[LowPassGuide],
    schedule: NoiseSchedule,
    generator: Generators,
    shared: Literal["sum", "mean"] = "sum",
) -> Hook:
    """Multi-condition ILVR of mDDPM (Krishna et al. 2025, Algorithm 1, Eq. 9).

    x <- x + sum_s [low_pass_s(q(image_s)) - low_pass_s(x)], each image noised to the level of the new x.
    Structure that k low passes let through is so corrected k times over: its error is multiplied by 1 - k at
    every step, which overshoots with two, and may run away with three.
    shared: "mean" corrects it once, towards the mean of their images; for one image it is the same.
    UserWarning for more than `MOST_GUIDES` images: the paper found three to be the most that agree.
    """
    if len(guides) > MOST_GUIDES:
        message = f"{len(guides)} guidance images pull at once; more than {MOST_GUIDES} rarely agree"
        warnings.warn(message, stacklevel=2)

    def hook(x: Tensor, t_next: int | None, step: int) -> Tensor:
        level = -1 if t_next is None else t_next
        acting = [guide for guide in guides if level >= guide.stop]
        residuals = [_add_noise(guide.image, x, schedule, generator, t_next) - x for guide in acting]
        return x + (_sum_residuals if shared == "sum" else _band_residuals)(x, acting, residuals)

    return hook


def _sum_residuals(x: Tensor, guides: Sequence[LowPassGuide], residuals: Sequence[Tensor]) -> Tensor:
    """Eq. 9."""
    change = torch.zeros_like(x)
    for guide, residual in zip(guides, residuals, strict=True):
        change = change + low_pass(residual if guide.where is None else guide.where * residual, guide.factor)
    return change


def _band_residuals(x: Tensor, guides: Sequence[LowPassGuide], residuals: Sequence[Tensor]) -> Tensor:
    """From the coarsest band to the finest: the mean residual of all whose low pass holds the band."""
    change, coarser = torch.zeros_like(x), None
    pairs = list(zip(guides, residuals, strict=True))
    for factor in sorted({guide.factor for guide in guides}, reverse=True):
        mean = _mean([(guide.where, residual) for guide, residual in pairs if guide.factor <= factor])
        change = change + low_pass(mean, factor)
        change = change if coarser is None else change - low_pass(mean, coarser)
        coarser = factor
    return change


def _mean(holding: Sequence[tuple[Tensor | None, Tensor]]) -> Tensor:
    """Of the residuals by their weights; where these come to less than one guide, it fades out with them."""
    if all(where is None for where, _ in holding):
        return torch.stack([residual for _, residual in holding]).mean(dim=0)
    weights = [torch.ones_like(r) if where is None else where.expand_as(r) for where, r in holding]
    pulled = sum((w * r for w, (_, r) in zip(weights, holding, strict=True)), torch.zeros_like(weights[0]))
    return pulled / torch.stack(weights).sum(dim=0).clamp(min=1)


def low_pass(image: Tensor, factor: int) -> Tensor:
    """phi_n: mean over blocks of `factor` voxels an axis, then linear interpolation back.

    image: (B, C, *spatial), one to three spatial axes. ValueError unless factor >= 1 divides each of them.
    """
    spatial = image.shape[2:]
    if factor < 1 or any(n % factor for n in spatial):
        raise ValueError(f"factor {factor} must be positive and divide the spatial shape {tuple(spatial)}")
    coarse = F.interpolate(image, size=[n // factor for n in spatial], mode="area")
    linear = ("linear", "bilinear", "trilinear")[len(spatial) - 1]
    return F.interpolate(coarse, size=list(spatial), mode=linear, align_corners=False)


def _add_noise(
    image: Tensor, x: Tensor, schedule: NoiseSchedule, generator: Generators, t: int | None
) -> Tensor:
    """`image` in x's shape, device and dtype, noised to level t."""
    clean = image.to(x).expand_as(x)
    if t is None:
        return clean
    return schedule.add_noise(clean, draw_noise(x.shape, generator, x.device, x.dtype), t)
