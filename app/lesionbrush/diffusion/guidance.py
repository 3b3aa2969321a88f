"""Guidance as hooks for a sampler's `after_step`: each changes the new x at the new x's own noise level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .samplers import Generators, Hook, draw_noise
from .schedules import ForwardProcess


def keep_known(reference: Tensor, editable: Tensor, schedule: ForwardProcess, generator: Generators) -> Hook:
    """Anatomically aware sampling of Lung-DDPM (Jiang et al. 2025, arXiv:2502.15204, Eqs. 4-6).

    x <- editable x + (1 - editable) q(reference), with the reference noised to the level of the *new* x.
    At the clean level it is the reference itself: where editable is 0 the result equals it exactly.
    reference, editable: broadcast to x (B, C, *spatial). Weights between 0 and 1 make a soft border; the two
    noises are independent there, so their mixture is calmer than the level asks. ValueError outside [0, 1].
    """
    if not bool(((editable >= 0) & (editable <= 1)).all()):
        low, high = editable.aminmax()
        raise ValueError(f"editable must lie in [0, 1], got {float(low)} to {float(high)}")

    def hook(x: Tensor, t_next: float | None, step: int) -> Tensor:
        known = _noised(reference, x, schedule, generator, t_next)
        return torch.lerp(known, x, editable.to(x).expand_as(x))

    return hook


@dataclass(frozen=True, eq=False)
class LowPassGuide:
    """One guidance image of mDDPM.

    image: clean, broadcast to x. factor: n_s, the low pass keeps structure coarser than this many voxels.
    stop: guide while the new x's timestep >= stop; -1 guides the clean x too. The paper counts levels from 1
    and compares the level before the step, so its a_s is stop + 2 where no timestep is skipped.
    """

    image: Tensor
    factor: int
    stop: float


def match_low_pass(guides: Sequence[LowPassGuide], schedule: ForwardProcess, generator: Generators) -> Hook:
    """Multi-condition ILVR of mDDPM (Krishna et al. 2025, Algorithm 1, Eq. 9).

    x <- x + sum_s [low_pass_s(q(image_s)) - low_pass_s(x)], each image noised to the level of the new x.
    """

    def hook(x: Tensor, t_next: float | None, step: int) -> Tensor:
        level = -1 if t_next is None else t_next
        change = torch.zeros_like(x)
        for guide in guides:
            if level >= guide.stop:
                change += low_pass(_noised(guide.image, x, schedule, generator, t_next) - x, guide.factor)
        return x + change

    return hook


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


def _noised(
    image: Tensor, x: Tensor, schedule: ForwardProcess, generator: Generators, t: float | None
) -> Tensor:
    """`image` in x's shape, device and dtype, noised to level t."""
    clean = image.to(x).expand_as(x)
    if t is None:
        return clean
    return schedule.add_noise(clean, draw_noise(x.shape, generator, x.device, x.dtype), t)
