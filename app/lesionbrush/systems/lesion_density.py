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
from lesionbrush.request import Attributes

CORE_DEPTH_MM, CORE_DEPTH_SLICES, CORE_MM3 = 2.5, 1.5, 20.0
"""So deep inside, and so many slices, the blurred rim no longer counts; lesions with less of it are left
alone."""
FURTHEST = 1.5
"""Standard deviations from the mean that are drawn, at most."""
CORE_SHARES = (0.3, 0.5)
"""Of a part-solid lesion's volume, between these its core is drawn."""
UNEVEN, CORE_BLUR_MM = 0.5, 0.5
ABOVE_CORE_HU = 40.0
INNER_POWER = 4
"""A core is measured by this power of its coverage: well inside, or its middle would make up for its rim."""


class Grid(NamedTuple):
    """Of the ROI, and how far apart the slices of the CT are; None if unknown."""

    spacing_mm: float
    slice_mm: float | None = None


Item = tuple[int, int]
"""Seed and lesion of each mask of a batch, so that a draw repeats; see `RoiBatch.entropy`."""


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

    mask: coverage 0..1; counted: like it; kept_hu: (B,).
    """

    mask: np.ndarray
    counted: np.ndarray
    kept_hu: np.ndarray

    def held(self, mean_hu: np.ndarray) -> Part:
        """The whole lesion, with a mean HU on the CT's own grid."""
        return Part(self.mask, self.counted, (mean_hu - self.kept_hu).astype(np.float32))


class Density(NamedTuple):
    """Mean and standard deviation over real lesions, HU; None: nothing is held.

    core: of the middle of solid ones; ground_glass: of what is not solid; calcified: of those, as a whole.
    """

    core: tuple[float, float] | None
    ground_glass: tuple[float, float] | None
    calcified: tuple[float, float] | None = None


def held_parts(
    wish: Attributes,
    density: Density,
    masks: np.ndarray,
    painted: Painted,
    grid: Grid,
    items: Sequence[Item],
) -> list[Part]:
    """What is to be held, in this order: nothing where the density was asked for, or the texture was not.

    masks: coverage 0..1 of the lesions as they are made, narrowed or with lobes.
    """
    if wish.lesion == "none" or wish.mean_hu is not None:
        return []
    if wish.calcification == "solid":
        return [painted.held(_drawn(density.calcified, items))] if density.calcified else []
    if wish.texture == "solid" and density.core:
        return [Part(masks, _middles(masks, grid), _drawn(density.core, items))]
    if wish.texture == "ground_glass" and density.ground_glass:
        return [painted.held(_drawn(density.ground_glass, items))]
    if wish.texture == "part_solid" and density.core and density.ground_glass:
        return _part_solid(density.core, density.ground_glass, masks, grid.spacing_mm, items)
    return []


def _part_solid(
    core_hu: tuple[float, float],
    ground_glass_hu: tuple[float, float],
    masks: np.ndarray,
    spacing_mm: float,
    items: Sequence[Item],
) -> list[Part]:
    pairs = list(zip(masks, items, strict=True))
    cores = np.stack([drawn_core(mask, spacing_mm, _rng(item, 2)) for mask, item in pairs])
    around = np.clip(masks - cores, 0, 1)
    glass, solid = _drawn(ground_glass_hu, items), _drawn(core_hu, items)
    inner = cores**INNER_POWER
    dense = glass + (solid - glass) * _covered(cores, inner)
    return [Part(around, around, glass), Part(cores, inner, dense, True, solid + ABOVE_CORE_HU)]


def drawn_core(mask: np.ndarray, spacing_mm: float, rng: np.random.Generator) -> np.ndarray:
    """(Z, Y, X) coverage of a solid core: deep in the mask rather than at its border, and uneven."""
    inside = mask >= 0.5
    depth = ndimage.distance_transform_edt(inside, sampling=spacing_mm)
    noise = ndimage.gaussian_filter(rng.normal(size=mask.shape), max(float(depth.max()), 1) / spacing_mm / 2)
    if not inside.any():
        return np.zeros_like(mask)
    share = rng.uniform(*CORE_SHARES)
    height = depth / depth.max() + UNEVEN * noise / noise.std()
    solid = inside & (height >= np.quantile(height[inside], 1 - share))
    blurred: np.ndarray = ndimage.gaussian_filter(solid.astype(np.float32), CORE_BLUR_MM / spacing_mm)
    return np.minimum(blurred, mask)


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


def _drawn(hu: tuple[float, float], items: Sequence[Item]) -> np.ndarray:
    """(B,) float32, one draw per item."""
    draws = [_rng(item, 1).normal() for item in items]
    return (hu[0] + hu[1] * np.clip(draws, -FURTHEST, FURTHEST)).astype(np.float32)


def _rng(item: Item, purpose: int) -> np.random.Generator:
    return np.random.default_rng((*item, purpose))
