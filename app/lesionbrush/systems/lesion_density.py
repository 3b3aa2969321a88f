"""How dense the parts of a lesion are, where it was not asked for: soft tissue in the middle of a solid one,
ground glass, ground glass around a solid core, or calcified.

A network trained on a squared error for few steps makes large solid lesions too dark in the soft-tissue
window, and makes no core. The mean HU of each part is drawn from what real ones have, and held. Arrays are
(B, Z, Y, X) on the ROI.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from lesionbrush.diffusion.denoisers import Denoiser
from lesionbrush.diffusion.guidance import SHAPED_ABOVE_RATIO, Moments, match_moments
from lesionbrush.diffusion.schedules import NoiseSchedule
from lesionbrush.lesions import RoiBatch
from lesionbrush.request import Attributes

CORE_DEPTH_MM, CORE_DEPTH_SLICES, CORE_MM3 = 2.5, 1.5, 20.0
"""So deep inside, and so many slices, the blurred rim no longer counts; lesions with less of it are left
alone."""
FURTHEST = 1.5
"""Standard deviations from the mean that are drawn, at most."""
CORE_SHARES = (0.08, 0.58)
"""Of a part-solid lesion's volume, between these its core is drawn: 56 of them differ so much in density."""
UNEVEN, CORE_BLUR_MM = 0.5, 0.5
ABOVE_CORE_HU = 40.0
LUNG_FROM_MM, LUNG_TO_MM, LUNG_BELOW_HU, LUNG_VOXELS = 3.0, 8.0, -500.0, 50
TYPICAL_LUNG_HU = -852.0
"""Around 62 ground-glass lesions of LIDC-IDRI, the standard deviation is 38 HU."""
INNER_POWER = 4
"""A core is measured by this power of its coverage: well inside, or its middle would make up for its rim."""


class Grid(NamedTuple):
    """Of the ROI, and how far apart the slices of the CT are; None if unknown."""

    spacing_mm: float
    slice_mm: float | None = None


class Draws(NamedTuple):
    """items: seed and lesion of each mask of a batch, so that a draw repeats, see `RoiBatch.entropy`;
    variety: how far draws may stray, 1 as real lesions do, 0 not at all.
    """

    items: Sequence[tuple[int, int]]
    variety: float = 1.0

    def hu(self, mean_and_spread: tuple[float, float]) -> np.ndarray:
        """(B,) float32."""
        mean, spread = mean_and_spread
        draws = [self.generator(k, 1).normal() for k in range(len(self.items))]
        drawn: np.ndarray = mean + self.variety * spread * np.clip(draws, -FURTHEST, FURTHEST)
        return drawn.astype(np.float32)

    def generator(self, k: int, purpose: int) -> np.random.Generator:
        return np.random.default_rng((*self.items[k], purpose))


class Part(NamedTuple):
    """region: where HU change; weights: where they are measured, all 0 for none; mean_hu: (B,).

    even: all of the region is moved alike, and not the more the denser it is; most_hu: (B,), or None, what
    none of it exceeds, grain apart.
    """

    region: np.ndarray
    weights: np.ndarray
    mean_hu: np.ndarray
    even: bool = False
    most_hu: np.ndarray | None = None


class Painted(NamedTuple):
    """The lesions as painted, and how their mean HU is counted on the CT's own grid: see `NativeMean`.

    mask: coverage 0..1; counted: like it; kept_hu: (B,); lung_hu: (B,) of the lung around, see `lung_around`.
    """

    mask: np.ndarray
    counted: np.ndarray
    kept_hu: np.ndarray
    lung_hu: np.ndarray

    @classmethod
    def of(cls, rois: RoiBatch, lesions: list[int]) -> Painted:
        native = rois.native_mean
        arrays = (rois.mask, native.counted, native.kept_hu, lung_around(rois))
        return cls(*(array[lesions] for array in arrays))

    def held(self, mean_hu: np.ndarray) -> Part:
        """The whole lesion, with a mean HU on the CT's own grid."""
        return Part(self.mask, self.counted, (mean_hu - self.kept_hu).astype(np.float32))


class Density(NamedTuple):
    """Mean and standard deviation over real lesions, HU; None: nothing is held.

    core: of the middle of solid ones; ground_glass: of what is not solid, above the lung around it;
    calcified: of those, as a whole.
    """

    core: tuple[float, float] | None
    ground_glass: tuple[float, float] | None
    calcified: tuple[float, float] | None = None


def held_parts(
    wish: Attributes, density: Density, masks: np.ndarray, painted: Painted, grid: Grid, draws: Draws
) -> list[Part]:
    """What is to be held, in this order: nothing where the density was asked for, or the texture was not.

    masks: coverage 0..1 of the lesions as they are made, narrowed or with lobes.
    """
    core, glass = density.core, density.ground_glass
    if wish.lesion == "none" or wish.mean_hu is not None:
        return []
    if wish.calcification == "solid":
        return [painted.held(draws.hu(density.calcified))] if density.calcified else []
    if wish.texture == "solid" and core:
        return [Part(masks, _middles(masks, grid), draws.hu(core))]
    if wish.texture == "ground_glass" and glass:
        return [painted.held(painted.lung_hu + draws.hu(glass))]
    if wish.texture == "part_solid" and core and glass:
        around, solid, shares = painted.lung_hu + draws.hu(glass), draws.hu(core), core_shares(wish, draws)
        parts = _part_solid(masks, drawn_cores(masks, grid.spacing_mm, shares, draws), around, solid)
        return [*parts, painted.held(around + shares * (solid - around))]  # small ones hardly resolve the two
    return []


def _part_solid(masks: np.ndarray, cores: np.ndarray, glass: np.ndarray, solid: np.ndarray) -> list[Part]:
    """Ground glass, and the cores in it; glass, solid: (B,) HU."""
    around = np.clip(masks - cores, 0, 1)
    inner = cores**INNER_POWER
    dense = glass + (solid - glass) * _covered(cores, inner)
    return [Part(around, around, glass), Part(cores, inner, dense, True, solid + ABOVE_CORE_HU)]


def core_shares(wish: Attributes, draws: Draws) -> np.ndarray:
    """(B,) of the lesions' volumes: what was asked for, or drawn."""
    (low, high), count = CORE_SHARES, len(draws.items)
    if wish.solid_share is not None:
        return np.full(count, wish.solid_share, np.float32)
    drawn = np.array([draws.generator(k, 3).random() for k in range(count)], np.float32)
    return (low + high) / 2 + draws.variety * (high - low) * (drawn - 0.5)


def drawn_cores(masks: np.ndarray, spacing_mm: float, shares: np.ndarray, draws: Draws) -> np.ndarray:
    """`drawn_core` of every lesion."""
    pairs = enumerate(zip(masks, shares, strict=True))
    return np.stack([drawn_core(m, spacing_mm, float(s), draws.generator(k, 2)) for k, (m, s) in pairs])


def drawn_core(mask: np.ndarray, spacing_mm: float, share: float, rng: np.random.Generator) -> np.ndarray:
    """(Z, Y, X) coverage of a solid core: deep in the mask rather than at its border, and uneven."""
    inside = mask >= 0.5
    if not inside.any():
        return np.zeros_like(mask)
    depth = ndimage.distance_transform_edt(inside, sampling=spacing_mm)
    noise = ndimage.gaussian_filter(rng.normal(size=mask.shape), max(float(depth.max()), 1) / spacing_mm / 2)
    height = depth / depth.max() + UNEVEN * noise / noise.std()
    solid = inside & (height >= np.quantile(height[inside], 1 - share))
    blurred: np.ndarray = ndimage.gaussian_filter(solid.astype(np.float32), CORE_BLUR_MM / spacing_mm)
    return np.minimum(blurred, mask)


def lung_around(rois: RoiBatch) -> np.ndarray:
    """(L,) float32: mean HU of the lung near each mask, beyond what a synthesis changes by default.

    Ground glass is denser than it by the same amount in airy and in dense lungs: in 62 lesions the slope of
    one over the other is 0.99. Where there is too little lung, what is typical.
    """
    triples = zip(rois.reference_hu, rois.mask, rois.inside, strict=True)
    lungs = [hu[there & _near(mask, rois.spacing_mm) & (hu < LUNG_BELOW_HU)] for hu, mask, there in triples]
    return np.array([_mean_or_typical(lung) for lung in lungs], dtype=np.float32)


def _near(mask: np.ndarray, spacing_mm: float) -> np.ndarray:
    away_mm = ndimage.distance_transform_edt(mask < 0.5 * mask.max(), sampling=spacing_mm)
    near: np.ndarray = (away_mm > LUNG_FROM_MM) & (away_mm <= LUNG_TO_MM)
    return near


def _mean_or_typical(lung_hu: np.ndarray) -> float:
    return float(lung_hu.mean()) if lung_hu.size >= LUNG_VOXELS else TYPICAL_LUNG_HU


def hold(denoise: Denoiser, wish: Moments, schedule: NoiseSchedule) -> Denoiser:
    """`match_moments` for the items of a batch that have any weight in `wish.counted`."""
    has = (wish.counted.flatten(1).sum(dim=1) > 0).reshape(-1, *[1] * (wish.counted.ndim - 1))

    def changed(x: Tensor, t: int) -> Tensor:
        estimate = denoise(x, t)
        matched = match_moments(lambda x, t: estimate, wish, schedule)(x, t)
        return torch.where(has, matched, estimate)

    return changed


def capped(denoise: Denoiser, region: Tensor, most: Tensor, schedule: NoiseSchedule) -> Denoiser:
    """No estimate exceeds most (B,) in the region, while more than grain is left to be made."""
    limit = most.reshape(-1, *[1] * (region.ndim - 1))

    def changed(x: Tensor, t: int) -> Tensor:
        estimate = denoise(x, t)
        if schedule.sigma(t) / schedule.alpha(t) < SHAPED_ABOVE_RATIO:
            return estimate
        return torch.where(region > 0, estimate.minimum(limit.to(estimate)), estimate)

    return changed


def _middles(masks: np.ndarray, grid: Grid) -> np.ndarray:
    return np.stack([middle(mask, grid) for mask in masks]).astype(np.float32)


def middle(mask: np.ndarray, grid: Grid) -> np.ndarray:
    """(Z, Y, X) bool: what of a lesion its surroundings do not blur; nothing if there is little of it."""
    depth_mm = ndimage.distance_transform_edt(mask >= 0.5, sampling=grid.spacing_mm)
    rim_mm = max(CORE_DEPTH_MM, CORE_DEPTH_SLICES * (grid.slice_mm or 0.0))
    deep: np.ndarray = (depth_mm > rim_mm) & (mask > 0.95)
    return deep & (deep.sum() * grid.spacing_mm**3 >= CORE_MM3)


def _covered(cores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B,) how much of its voxels a core fills, by these weights: less than 1, for its border is blurred."""
    filled = (weights * cores).sum(axis=(1, 2, 3)) / np.maximum(weights.sum(axis=(1, 2, 3)), 1e-6)
    return filled.astype(np.float32)
