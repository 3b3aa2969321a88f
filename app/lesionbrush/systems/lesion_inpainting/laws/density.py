"""How dense the parts of a lesion are to be, where it was not asked for: soft tissue in the middle of a solid
one, ground glass, or ground glass around a solid core.

The mean HU of each part is drawn from what real ones have. Arrays are (B, Z, Y, X) on the ROI.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from lesionbrush.systems.lesion_inpainting.card import SmallSolid
from lesionbrush.systems.lesion_inpainting.laws.cores import (
    LesionDraws,
    Purpose,
    draw_core_shares,
    draw_cores,
)
from lesionbrush.systems.lesion_inpainting.laws.painted import Painted, Part
from lesionbrush.systems.lesion_inpainting.request import Attributes
from lesionbrush.systems.lesion_inpainting.shape import ball_radius_mm

CORE_DEPTH_MM, CORE_DEPTH_SLICES, CORE_MM3 = 2.5, 1.5, 20.0
"""So deep inside, and so many slices, the blurred rim no longer counts; lesions with less of it are left
alone."""
NEIGHBOURS, CORE_EDGE = (1, 3, 3, 3), 0.05


class RoiSpacing(NamedTuple):
    """Of the ROI, and how far apart the slices of the CT are; None if unknown."""

    spacing_mm: float
    slice_mm: float | None = None


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
    grid: RoiSpacing
    draws: LesionDraws

    @property
    def left_open(self) -> bool:
        """Whether a lesion is made, and no mean HU was asked for."""
        return self.wish.lesion != "none" and self.wish.mean_hu is None

    @cached_property
    def core_hu(self) -> np.ndarray | None:
        """(B,) of solid tissue; None where nothing is known of it."""
        return None if self.density.core is None else self.draws.hu(self.density.core, Purpose.CORE_HU)

    @cached_property
    def glass_hu(self) -> np.ndarray | None:
        """(B,) of the ground glass; None where there is none, or nothing is known of it."""
        wish, above_lung = self.wish, self.density.ground_glass
        if wish.lesion == "none" or above_lung is None:
            return None
        if wish.texture == "ground_glass" and wish.mean_hu is not None:
            return np.full(len(self.masks), wish.mean_hu, np.float32)
        glass: np.ndarray = self.painted.lung_hu + self.draws.hu(above_lung, Purpose.GLASS_HU)
        return glass if wish.texture in ("ground_glass", "part_solid") else None

    @cached_property
    def middles(self) -> np.ndarray:
        """(B, Z, Y, X) float32, 0 or 1: see `find_middle`."""
        return np.stack([find_middle(mask, self.grid) for mask in self.masks]).astype(np.float32)

    @cached_property
    def cores(self) -> np.ndarray | None:
        """(B, Z, Y, X) coverage of solid cores; None if not part-solid, or if a mean was asked for."""
        wish, known = self.wish, self.density
        if wish.texture != "part_solid" or wish.mean_hu is not None:
            return None
        if self.glass_hu is None or known.core is None:
            return None
        return draw_cores(self.masks, self.grid.spacing_mm, self.core_shares, self.draws)

    @cached_property
    def core_shares(self) -> np.ndarray:
        """(B,) of the volumes of part-solid lesions."""
        return draw_core_shares(self.wish, self.diameters_mm, self.draws)

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

    def whole(self, mean_hu: np.ndarray) -> Part:
        """With this mean HU (B,), if the outline is as painted; a soft one has less of the lesion in it."""
        lung = self.painted.lung_hu
        mean_hu = lung + self.painted.measure_left(self.masks) * (mean_hu - lung)
        return self.painted.hold(mean_hu, even=self.wish.texture == "ground_glass")


def find_middle(mask: np.ndarray, grid: RoiSpacing) -> np.ndarray:
    """(Z, Y, X) bool: what of a lesion its surroundings do not blur; nothing if there is little of it.

    mask: coverage, 0..1.
    """
    depth_mm = ndimage.distance_transform_edt(mask >= 0.5, sampling=grid.spacing_mm)
    rim_mm = max(CORE_DEPTH_MM, CORE_DEPTH_SLICES * (grid.slice_mm or 0.0))
    deep: np.ndarray = (depth_mm > rim_mm) & (mask > 0.95)
    return deep & (deep.sum() * grid.spacing_mm**3 >= CORE_MM3)


def measure_cover(cores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B,) how much of its voxels a core fills, by these weights: less than 1, for its border is blurred.

    cores, weights: (B, Z, Y, X), 0..1.
    """
    filled = (weights * cores).sum(axis=(1, 2, 3)) / np.maximum(weights.sum(axis=(1, 2, 3)), 1e-6)
    return filled.astype(np.float32)
