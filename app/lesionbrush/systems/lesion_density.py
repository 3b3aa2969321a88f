"""How dense the parts of a lesion are, where it was not asked for: soft tissue in the middle of a solid one,
ground glass, ground glass around a solid core, or calcified.

A network trained on a squared error for few steps makes large solid lesions too dark in the soft-tissue
window, and makes no core. The mean HU of each part is drawn from what real ones have, and held. Arrays are
(B, Z, Y, X) on the ROI.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
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
from lesionbrush.systems.lesion_cores import Draws, core_shares, drawn_cores

CORE_DEPTH_MM, CORE_DEPTH_SLICES, CORE_MM3 = 2.5, 1.5, 20.0
"""So deep inside, and so many slices, the blurred rim no longer counts; lesions with less of it are left
alone."""
ABOVE_CORE_HU = 0.0
LEAST_BESIDE = 0.5
NEIGHBOURS, CORE_EDGE = (1, 3, 3, 3), 0.05
GLASS_STRAYS_HU = 80.0
"""In the middle of the 11 largest ground-glass lesions of LIDC-IDRI, after 1 mm of blur, 5 % of the voxels
are 110 HU or more above their mean (median), and a sample strays further than the estimates that are kept to
this. The network alone makes rings and holes in glass."""
LUNG_FROM_MM, LUNG_TO_MM, LUNG_BELOW_HU, LUNG_VOXELS = 3.0, 8.0, -500.0, 50
TYPICAL_LUNG_HU = -852.0
"""Around 62 ground-glass lesions of LIDC-IDRI, the standard deviation is 38 HU."""
INNER_POWER = 4
"""A core is measured by this power of its coverage: well inside, or its middle would make up for its rim."""


class Grid(NamedTuple):
    """Of the ROI, and how far apart the slices of the CT are; None if unknown."""

    spacing_mm: float
    slice_mm: float | None = None


class Part(NamedTuple):
    """region: where HU change; weights: where they are measured, all 0 for none; mean_hu: (B,).

    even: all of the region is moved alike, and not the more the denser it is; most_hu: (B,), or None, what
    none of it exceeds, grain apart; at_most: a mean below mean_hu is left as it is.
    """

    region: np.ndarray
    weights: np.ndarray
    mean_hu: np.ndarray
    even: bool = False
    most_hu: np.ndarray | None = None
    at_most: bool = False


class Haze(NamedTuple):
    """Nothing in `region` is denser than `most_hu` (B,), nothing in `inner` less dense than `least_hu`."""

    region: np.ndarray
    inner: np.ndarray
    least_hu: np.ndarray
    most_hu: np.ndarray


class Painted(NamedTuple):
    """The lesions as painted, and how their mean HU is counted on the CT's own grid: see `NativeMean`.

    mask: coverage 0..1; outline: the same, narrowed or widened; counted: like it; kept_hu: (B,);
    lung_hu: (B,) of the lung around, see `lung_around`.
    """

    mask: np.ndarray
    outline: np.ndarray
    counted: np.ndarray
    kept_hu: np.ndarray
    lung_hu: np.ndarray

    @classmethod
    def of(cls, rois: RoiBatch, outlines: np.ndarray, lesions: list[int]) -> Painted:
        """outlines: (L, Z, Y, X) of all the ROIs; lesions: which of them."""
        native = rois.native_mean
        arrays = (rois.mask, outlines, native.counted, native.kept_hu, lung_around(rois))
        return cls(*(array[lesions] for array in arrays))

    def beside(self, vessels: np.ndarray) -> Painted:
        """Counted beside vessels (B, Z, Y, X) bool, unless these are most of a lesion."""
        open_ = np.where(vessels, 0, self.counted)
        share = open_.sum(axis=(1, 2, 3)) / np.maximum(self.counted.sum(axis=(1, 2, 3)), 1e-6)
        share = share[:, None, None, None]
        counted = np.where(share > LEAST_BESIDE, open_ / np.maximum(share, 1e-6), self.counted)
        return self._replace(counted=counted.astype(np.float32))

    def left(self, masks: np.ndarray) -> np.ndarray:
        """(B,) the share of the coverage, as it counts, that these masks have of it."""
        had, has = ((self.counted * mask).sum(axis=(1, 2, 3)) for mask in (self.outline, masks))
        share: np.ndarray = np.clip(has / np.maximum(had, 1e-6), 0, 1)
        return share

    def held(self, mean_hu: np.ndarray, *, even: bool = False) -> Part:
        """The whole lesion, with a mean HU on the CT's own grid."""
        return Part(self.mask, self.counted, (mean_hu - self.kept_hu).astype(np.float32), even)


class Density(NamedTuple):
    """Mean and standard deviation over real lesions, HU; None: nothing is held.

    core: of the middle of solid ones; ground_glass: of what is not solid, above the lung around it;
    calcified: of those, as a whole.
    """

    core: tuple[float, float] | None
    ground_glass: tuple[float, float] | None
    calcified: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class Densities:
    """How dense the parts of B lesions are to be.

    masks: coverage 0..1 as they are made, narrowed or with lobes; painted: as they were painted.
    """

    wish: Attributes
    density: Density
    masks: np.ndarray
    painted: Painted
    grid: Grid
    draws: Draws

    def parts(self) -> list[Part]:
        """In the order in which to hold them: none where density was asked for, or texture left open."""
        wish, known = self.wish, self.density
        if wish.lesion == "none" or wish.mean_hu is not None:
            return []
        if wish.calcification == "solid":
            return [self.painted.held(self.draws.hu(known.calcified))] if known.calcified else []
        if wish.texture == "solid" and known.core:
            return [Part(self.masks, _middles(self.masks, self.grid), self.draws.hu(known.core))]
        if self.glass_hu is None:
            return []
        return (
            [self._whole(self.glass_hu)]
            if wish.texture == "ground_glass"
            else self._part_solid(self.glass_hu)
        )

    @cached_property
    def glass_hu(self) -> np.ndarray | None:
        """(B,) of the ground glass; None where there is none, or nothing is known of it."""
        wish, above_lung = self.wish, self.density.ground_glass
        if wish.lesion == "none" or wish.calcification == "solid" or above_lung is None:
            return None
        if wish.texture == "ground_glass" and wish.mean_hu is not None:
            return np.full(len(self.masks), wish.mean_hu, np.float32)
        glass: np.ndarray = self.painted.lung_hu + self.draws.hu(above_lung)
        return glass if wish.texture in ("ground_glass", "part_solid") else None

    @property
    def even_glass(self) -> Haze | None:
        """How far ground glass strays, where no spread was asked for."""
        wish, level = self.wish, self.glass_hu
        if level is None or wish.heterogeneity_hu is not None:
            return None
        if wish.texture == "part_solid" and self.cores is None:
            return None
        inner = (ndimage.minimum_filter(self.masks, size=NEIGHBOURS) > 0.95) & (self.glass > 0)
        return Haze(self.glass, inner, level - GLASS_STRAYS_HU, level + GLASS_STRAYS_HU)

    @cached_property
    def cores(self) -> np.ndarray | None:
        """(B, Z, Y, X) coverage of solid cores; None if not part-solid, or if a mean was asked for."""
        wish, known = self.wish, self.density
        if wish.texture != "part_solid" or wish.mean_hu is not None:
            return None
        if self.glass_hu is None or known.core is None:
            return None
        return drawn_cores(self.masks, self.grid.spacing_mm, core_shares(self.wish, self.draws), self.draws)

    @property
    def glass(self) -> np.ndarray:
        """(B, Z, Y, X) coverage of what is neither a core nor blurred by one."""
        if self.cores is None:
            return self.masks
        return self.masks * (ndimage.maximum_filter(self.cores, size=NEIGHBOURS) < CORE_EDGE)

    def _part_solid(self, glass: np.ndarray) -> list[Part]:
        """The glass, the cores in it, and no more than both in the whole: small ones hardly show two."""
        cores, core = self.cores, self.density.core
        if cores is None or core is None:
            return []
        solid, shares = self.draws.hu(core), core_shares(self.wish, self.draws)
        around, inner = np.clip(self.masks - cores, 0, 1), cores**INNER_POWER
        hazy, dense = (glass + (solid - glass) * _covered(cores, weights) for weights in (around, inner))
        return [
            Part(around, around, hazy),
            Part(cores, inner, dense, even=True, most_hu=solid + ABOVE_CORE_HU),
            self._whole(glass + shares * (solid - glass))._replace(at_most=True),
        ]

    def _whole(self, mean_hu: np.ndarray) -> Part:
        """With this mean HU, if the outline is as it was painted; a soft one has less of the lesion in it."""
        lung = self.painted.lung_hu
        mean_hu = lung + self.painted.left(self.masks) * (mean_hu - lung)
        return self.painted.held(mean_hu, even=self.wish.texture == "ground_glass")


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


def hold(denoise: Denoiser, wish: Moments, schedule: NoiseSchedule, *, at_most: bool = False) -> Denoiser:
    """`match_moments` for the items of a batch that have any weight in `wish.counted`.

    at_most: and that are denser than the mean wished for.
    """
    total, shape = wish.counted.flatten(1).sum(dim=1), (-1, *[1] * (wish.counted.ndim - 1))

    def changed(x: Tensor, t: int) -> Tensor:
        estimate, chosen = denoise(x, t), total > 0
        if at_most and wish.mean is not None:
            sums = (wish.counted * estimate).flatten(1).sum(dim=1)
            chosen = chosen & (sums > wish.mean.to(sums) * total)
        matched = match_moments(lambda x, t: estimate, wish, schedule)(x, t)
        return torch.where(chosen.reshape(shape), matched, estimate)

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


def raised(denoise: Denoiser, region: Tensor, least: Tensor, schedule: NoiseSchedule) -> Denoiser:
    """As `capped`; no estimate is below least (B,)."""
    minus = capped(lambda x, t: -denoise(x, t), region, -least, schedule)
    return lambda x, t: -minus(x, t)


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
