"""How dense the middle of a solid lesion is: soft tissue, whatever a small network expects of it.

A network trained on a squared error for few steps makes large solid lesions too dark in the soft-tissue
window. Where nothing was asked, the mean HU of the middle is drawn from what real ones have, and held.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from lesionbrush.diffusion.denoisers import Denoiser
from lesionbrush.diffusion.guidance import Moments, match_moments
from lesionbrush.diffusion.schedules import NoiseSchedule
from lesionbrush.request import Attributes

CORE_DEPTH_MM, CORE_MM3 = 2.5, 20.0
"""So deep inside the blurred rim no longer counts; lesions with less of it are left alone."""
FURTHEST = 1.5
"""Standard deviations from the mean that are drawn, at most."""


class Core(NamedTuple):
    """weights: (B, Z, Y, X) of the middle, all 0 where there is none; mean_hu: (B,)."""

    weights: np.ndarray
    mean_hu: np.ndarray


def is_left_open(wish: Attributes) -> bool:
    """Whether the lesion is solid tissue and its density was not asked for."""
    plain = wish.texture == "solid" and wish.calcification != "solid"
    return wish.lesion == "present" and plain and wish.mean_hu is None


def drawn_core(
    masks: np.ndarray, spacing_mm: float, core_hu: tuple[float, float], items: Sequence[tuple[int, int]]
) -> Core:
    """masks: (B, Z, Y, X) coverage; core_hu: mean and standard deviation over real lesions; items: (seed,
    lesion) of each mask, so that a draw repeats."""
    deep = np.stack([_deep(mask, spacing_mm) for mask in masks])
    draws = [np.random.default_rng((seed, lesion, 1)).normal() for seed, lesion in items]
    mean_hu = core_hu[0] + core_hu[1] * np.clip(draws, -FURTHEST, FURTHEST)
    return Core(deep.astype(np.float32), mean_hu.astype(np.float32))


def _deep(mask: np.ndarray, spacing_mm: float) -> np.ndarray:
    depth_mm = ndimage.distance_transform_edt(mask >= 0.5, sampling=spacing_mm)
    deep: np.ndarray = depth_mm > CORE_DEPTH_MM
    return deep & (deep.sum() * spacing_mm**3 >= CORE_MM3)


def hold_core(denoise: Denoiser, wish: Moments, schedule: NoiseSchedule) -> Denoiser:
    """`match_moments` for the items of a batch that have any weight in `wish.counted`."""
    has = (wish.counted.flatten(1).sum(dim=1) > 0).reshape(-1, *[1] * (wish.counted.ndim - 1))

    def changed(x: Tensor, t: int) -> Tensor:
        estimate = denoise(x, t)
        matched = match_moments(lambda x, t: estimate, wish, schedule)(x, t)
        return torch.where(has, matched, estimate)

    return changed
