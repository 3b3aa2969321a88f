"""What is drawn of a lesion's inside: densities, and the solid cores of part-solid lesions."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from lesionbrush.systems.lesion_inpainting.attributes import SHARE_RANGE, typical_solid_share
from lesionbrush.systems.lesion_inpainting.request import Attributes

FURTHEST = 1.5
"""Standard deviations from the mean that are drawn, at most."""
SHARE_STRAYS = 0.25
"""So far from what is typical of a part-solid lesion's size the share of its core is drawn, at most: 56 of
them differ so much in density."""
UNEVEN, CORE_BLUR_MM = 0.5, 0.5


class Purpose(IntEnum):
    """What a number is drawn for. Those of one lesion have nothing to do with each other."""

    CORE_HU = 1
    CORE_PLACE = 2
    CORE_SHARE = 3
    CALCIUM_PLACE = 4
    CALCIUM_SHARE = 5
    GLASS_HU = 6
    SMALL_SOLID_HU = 7
    CALCIUM_MIDDLE_HU = 8
    CALCIFIED_MEAN_HU = 9


class LesionDraws(NamedTuple):
    """items: seed and lesion of each mask of a batch, so that a draw repeats, see `RoiBatch.entropy`;
    variety: how far draws may stray, 1 as real lesions do, 0 not at all.
    """

    items: Sequence[tuple[int, int]]
    variety: float = 1.0

    def hu(self, mean_and_spread: tuple[float | np.ndarray, float], purpose: Purpose) -> np.ndarray:
        """(B,) float32, normal up to `FURTHEST`, HU."""
        mean, spread = mean_and_spread
        draws = [self.generator(k, purpose).normal() for k in range(len(self.items))]
        hu: np.ndarray = mean + self.variety * spread * np.clip(draws, -FURTHEST, FURTHEST)
        return hu.astype(np.float32)

    def generator(self, k: int, purpose: Purpose) -> np.random.Generator:
        return np.random.default_rng((*self.items[k], purpose))


def draw_core_shares(wish: Attributes, diameters_mm: np.ndarray, draws: LesionDraws) -> np.ndarray:
    """(B,) of the lesions' volumes: what was asked for, or drawn. diameters_mm: (B,)."""
    count = len(draws.items)
    if wish.solid_share is not None:
        return np.full(count, wish.solid_share, np.float32)
    uniform = np.array([draws.generator(k, Purpose.CORE_SHARE).random() for k in range(count)], np.float32)
    shares = typical_solid_share(diameters_mm) + draws.variety * SHARE_STRAYS * (2 * uniform - 1)
    return np.clip(shares, *SHARE_RANGE).astype(np.float32)


def draw_cores(masks: np.ndarray, spacing_mm: float, shares: np.ndarray, draws: LesionDraws) -> np.ndarray:
    """(B, Z, Y, X): `draw_core` of every lesion. masks: (B, Z, Y, X) coverage, 0..1; shares: (B,)."""
    pairs = enumerate(zip(masks, shares, strict=True))
    return np.stack(
        [draw_core(m, spacing_mm, float(s), draws.generator(k, Purpose.CORE_PLACE)) for k, (m, s) in pairs]
    )


def draw_core(mask: np.ndarray, spacing_mm: float, share: float, rng: np.random.Generator) -> np.ndarray:
    """(Z, Y, X) coverage of a solid core: deep in the mask rather than at its border, and uneven.

    mask: coverage, 0..1; share: of its volume.
    """
    inside = find_half_covered(mask)
    if not inside.any():
        return np.zeros_like(mask)
    depth = ndimage.distance_transform_edt(inside, sampling=spacing_mm)
    deepest_mm = max(float(depth.max()), 1.0)
    height = depth / depth.max() + UNEVEN * bumps(mask.shape, deepest_mm / 2, spacing_mm, rng)
    return highest(height, mask, share, CORE_BLUR_MM / spacing_mm)


def find_half_covered(mask: np.ndarray) -> np.ndarray:
    """(Z, Y, X) bool: at least half as much as the most covered voxel, for thin lesions fill none."""
    inside: np.ndarray = (mask > 0) & (mask >= 0.5 * mask.max())
    return inside


def bumps(shape: tuple[int, ...], size_mm: float, spacing_mm: float, rng: np.random.Generator) -> np.ndarray:
    """(Z, Y, X) smooth noise of standard deviation 1; size_mm: that of the Gaussian it is smoothed with."""
    noise = ndimage.gaussian_filter(rng.normal(size=shape), size_mm / spacing_mm)
    scaled: np.ndarray = noise / noise.std()
    return scaled


def steepness(height: np.ndarray) -> np.ndarray:
    """(Z, Y, X) how much a height changes from voxel to voxel."""
    return np.maximum(ndimage.gaussian_gradient_magnitude(height, 0.7), 1e-6)


def smoothly_highest(
    height: np.ndarray, steep: np.ndarray, mask: np.ndarray, share: float, blur: float
) -> np.ndarray:
    """(Z, Y, X) coverage as of `highest`, whose border lies between voxels where the height says so.

    height: (Z, Y, X); steep: its `steepness`; mask: coverage, 0..1; blur: in voxels.
    """
    level = np.quantile(height[find_half_covered(mask)], 1 - share)
    covered = np.clip(0.5 + (height - level) / steep, 0, 1).astype(np.float32)
    blurred: np.ndarray = ndimage.gaussian_filter(np.minimum(covered, mask), blur)
    return np.minimum(blurred, mask)


def highest(height: np.ndarray, mask: np.ndarray, share: float, blur: float) -> np.ndarray:
    """(Z, Y, X) coverage of the highest part of a lesion that takes `share` of it; blur: in voxels."""
    inside = find_half_covered(mask)
    chosen = inside & (height >= np.quantile(height[inside], 1 - share))
    blurred: np.ndarray = ndimage.gaussian_filter(chosen.astype(np.float32), blur)
    return np.minimum(blurred, mask)
