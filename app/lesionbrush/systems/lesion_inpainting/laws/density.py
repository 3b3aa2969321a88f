"""How dense the parts of a lesion are, where it was not asked for: soft tissue in the middle of a solid one,
ground glass, or ground glass around a solid core.

A network trained on a squared error for few steps makes large solid lesions too dark in the soft-tissue
window, and makes no core. The mean HU of each part is drawn from what real ones have, and held. Arrays are
(B, Z, Y, X) on the ROI.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from lesionbrush.diffusion.denoisers import Denoiser
from lesionbrush.diffusion.guidance import SHAPED_ABOVE_RATIO, Moments, match_moments
from lesionbrush.diffusion.schedules import NoiseSchedule
from lesionbrush.systems.lesion_inpainting.card import SmallSolid
from lesionbrush.systems.lesion_inpainting.laws.cores import Draws, core_shares, drawn_cores
from lesionbrush.systems.lesion_inpainting.laws.painted import Painted, Part
from lesionbrush.systems.lesion_inpainting.request import Attributes
from lesionbrush.systems.lesion_inpainting.shape import ball_radius_mm

CORE_DEPTH_MM, CORE_DEPTH_SLICES, CORE_MM3 = 2.5, 1.5, 20.0
"""So deep inside, and so many slices, the blurred rim no longer counts; lesions with less of it are left
alone."""
NEIGHBOURS, CORE_EDGE = (1, 3, 3, 3), 0.05
GLASS_STRAYS_HU = 80.0
"""In the middle of the 11 largest ground-glass lesions of LIDC-IDRI, after 1 mm of blur, 5 % of the voxels
are 110 HU or more above their mean (median), and a sample strays further than the estimates that are kept to
this. The network alone makes rings and holes in glass."""
INNER_POWER = 4
"""A core is measured by this power of its coverage: well inside, or its middle would make up for its rim."""


class Grid(NamedTuple):
    """Of the ROI, and how far apart the slices of the CT are; None if unknown."""

    spacing_mm: float
    slice_mm: float | None = None


class Haze(NamedTuple):
    """Nothing in `region` is denser than `most_hu` (B,), nothing in `inner` less dense than `least_hu`."""

    region: np.ndarray
    inner: np.ndarray
    least_hu: np.ndarray
    most_hu: np.ndarray


class Density(NamedTuple):
    """Mean and standard deviation over real lesions, HU; None: nothing is held.

    core: of the middle of solid ones; ground_glass: of what is not solid, above the lung around it;
    small_solid: of solid ones without a middle.
    """

    core: tuple[float, float] | None
    ground_glass: tuple[float, float] | None
    small_solid: SmallSolid | None = None


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
        if wish.texture == "solid" and known.core:
            return self._solid(known.core)
        if self.glass_hu is None:
            return []
        return [self._whole(self.glass_hu)] if self.cores is None else self._part_solid(self.glass_hu)

    def _solid(self, core: tuple[float, float]) -> list[Part]:
        """The middle; where there is none, the whole."""
        middles, law = _middles(self.masks, self.grid), self.density.small_solid
        held = Part(self.masks, middles, self.draws.hu(core))
        if law is None or self.grid.slice_mm is None:
            return [held]
        small = (middles.sum(axis=(1, 2, 3)) == 0)[:, None, None, None]
        rim_hu = law.per_inverse_diameter / np.maximum(self.diameters_mm, 1.0)
        blur_hu = law.per_slice_mm * self.grid.slice_mm + law.per_hu_around * self.painted.around_hu
        whole = self._whole(self.draws.hu((law.base_hu + rim_hu + blur_hu, law.spread_hu)))
        return [held, whole._replace(weights=whole.weights * small)]

    @cached_property
    def glass_hu(self) -> np.ndarray | None:
        """(B,) of the ground glass; None where there is none, or nothing is known of it."""
        wish, above_lung = self.wish, self.density.ground_glass
        if wish.lesion == "none" or above_lung is None:
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
        return drawn_cores(self.masks, self.grid.spacing_mm, self.core_shares, self.draws)

    @cached_property
    def core_shares(self) -> np.ndarray:
        """(B,) of the volumes of part-solid lesions."""
        return core_shares(self.wish, self.diameters_mm, self.draws)

    @cached_property
    def diameters_mm(self) -> np.ndarray:
        """(B,) of balls of the same volumes."""
        radii_mm = [ball_radius_mm(mask, self.grid.spacing_mm) for mask in self.painted.known]
        return 2 * np.array(radii_mm, np.float32)

    @cached_property
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
        solid, shares = self.draws.hu(core), self.core_shares
        around, inner = np.clip(self.masks - cores, 0, 1), cores**INNER_POWER
        hazy, dense = (glass + (solid - glass) * _covered(cores, weights) for weights in (around, inner))
        return [
            Part(around, around, hazy),
            Part(cores, inner, dense, even=True, most_hu=solid),
            self._whole(glass + shares * (solid - glass))._replace(at_most=True),
        ]

    def _whole(self, mean_hu: np.ndarray) -> Part:
        """With this mean HU, if the outline is as it was painted; a soft one has less of the lesion in it."""
        lung = self.painted.lung_hu
        mean_hu = lung + self.painted.left(self.masks) * (mean_hu - lung)
        return self.painted.held(mean_hu, even=self.wish.texture == "ground_glass")


def hold(denoise: Denoiser, wish: Moments, schedule: NoiseSchedule, *, at_most: bool = False) -> Denoiser:
    """`match_moments` for the items of a batch that have any weight in `wish.counted`.

    at_most: a mean below that is left as it is.
    """
    total, shape = wish.counted.flatten(1).sum(dim=1), (-1, *[1] * (wish.counted.ndim - 1))

    def changed(x: Tensor, t: int) -> Tensor:
        estimate = denoise(x, t)
        found = (wish.counted * estimate).flatten(1).sum(dim=1) / total.clamp(min=1e-6)
        mean = found if wish.mean is None else wish.mean.to(found)
        kept = replace(wish, mean=found.minimum(mean) if at_most else mean)
        matched = match_moments(lambda x, t: estimate, kept, schedule)(x, t)
        return torch.where((total > 0).reshape(shape), matched, estimate)

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
