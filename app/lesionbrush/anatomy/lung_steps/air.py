"""Which air in a chest is lung: not the air around the patient, not the airways, not gas in the gut."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lesionbrush.anatomy.lung_steps.grid import AIR_HU, CoarseGrid
from lesionbrush.core.volume import Array

GAS_HU = -950.0  # darker than lung, emphysema apart
TISSUE_HU = (-940.0, -550.0)
SOFT_HU = -500.0
FOAM_HU = -900.0
VESSEL_HU = -650.0
VESSEL_SHARE = 0.03
MAIN_ML = 20.0
FRAGMENT_ML = 0.3
FRAGMENT_AWAY_MM = 12.0
MIDDLE_MM = 25.0
GAS_ML = 1.0
GAS_SOFT_SHARE = 0.6

IN_PLANE = np.zeros((3, 3, 3), dtype=bool)
IN_PLANE[:, 1, 1] = IN_PLANE[1, :, 1] = True


@dataclass(frozen=True, eq=False)
class Parts:
    """Connected parts of a mask, numbered from 1 in `labels`; each count has one more, for 0."""

    labels: Array
    voxels: Array

    @classmethod
    def of(cls, mask: Array, structure: Array | None = None) -> Parts:
        labels, count = ndimage.label(mask, structure)
        return cls(labels, np.bincount(labels.ravel(), minlength=count + 1))

    @classmethod
    def numbered(cls, labels: Array, count: int) -> Parts:
        return cls(labels, np.bincount(labels.ravel(), minlength=count))

    def share(self, where: Array) -> Array:
        """Share of the voxels of each part that are True in `where`."""
        hits = np.bincount(self.labels[where], minlength=len(self.voxels))
        return hits / np.maximum(self.voxels, 1)

    def within(self, where: Array) -> Parts:
        """The same numbers, but only the voxels that are True in `where`."""
        return Parts.numbered(np.where(where, self.labels, 0), len(self.voxels))

    def find_touching(self, where: Array) -> Array:
        """Which parts have a voxel that is True in `where`."""
        found = np.zeros(len(self.voxels), dtype=bool)
        found[np.unique(self.labels[where])] = True
        return found

    def mask(self, chosen: Array) -> Array:
        """Voxels of the parts that are True in `chosen`, one value per part; the background never is."""
        chosen = chosen.copy()
        chosen[0] = False
        return chosen[self.labels]


def outside(grid: CoarseGrid) -> Array:
    """Air around the patient, slice by slice: an open mouth joins it to the lungs only in its own slices.

    What reaches a side of the volume is outside too, unless it looks like a lung that the volume cuts: not as
    dark as the foam of a table, and with vessels, which foam has not.
    """
    parts = Parts.of(grid.hu < AIR_HU, IN_PLANE)
    at_side = parts.mask(_at_sides(parts))
    whole = Parts.of(_smooth(at_side))
    tissue = whole.share((grid.hu > FOAM_HU) & (grid.hu < TISSUE_HU[1])) > 0.5
    inner = ndimage.binary_erosion(whole.labels > 0, IN_PLANE, iterations=3, border_value=1)
    vessels = whole.within(inner).share(grid.hu > VESSEL_HU) > VESSEL_SHARE
    return at_side & ~whole.mask(tissue & vessels & (whole.voxels * grid.voxel_ml > MAIN_ML))


def _at_sides(parts: Parts) -> Array:
    """Which parts reach one of the four sides of the volume."""
    sides = (parts.labels[[0, -1]].ravel(), parts.labels[:, [0, -1]].ravel())
    found = np.zeros(len(parts.voxels), dtype=bool)
    found[np.unique(np.concatenate(sides))] = True
    return found


def _smooth(mask: Array) -> Array:
    """Closed in its slice over what is as thin as a vessel, up to the sides."""
    padded = np.pad(mask, ((3, 3), (3, 3), (0, 0)), mode="edge")
    return ndimage.binary_closing(padded, IN_PLANE, iterations=3)[3:-3, 3:-3] | mask


def _tissue(hu: Array) -> Array:
    return (hu > TISSUE_HU[0]) & (hu < TISSUE_HU[1])


def gut_gas(grid: CoarseGrid, air: Array) -> Array:
    """Larger bodies of gas in soft tissue: stomach, bowel, gullet. No bullae: lung is around them."""
    gas = grid.hu < GAS_HU
    gas &= air
    core = ndimage.binary_erosion(gas, IN_PLANE)
    parts = Parts.of(ndimage.binary_dilation(core, IN_PLANE) & gas)
    large = parts.voxels * grid.voxel_ml > GAS_ML
    large[0] = False
    around = ndimage.grey_dilation(np.where(large[parts.labels], parts.labels, 0), _shell_size(grid))
    around[parts.labels > 0] = 0
    shell = Parts.numbered(around, len(large))
    enclosed = large & (shell.share(grid.hu > SOFT_HU) > GAS_SOFT_SHARE)
    return ndimage.binary_dilation(parts.mask(enclosed), iterations=2) & air


def _shell_size(grid: CoarseGrid) -> tuple[int, ...]:
    """Voxels of a box that reaches 6 mm to all sides, one voxel at least."""
    return tuple(2 * max(1, round(6 / mm)) + 1 for mm in grid.spacing_mm)


def lung_air(grid: CoarseGrid, air: Array, gas: Array, midline: float) -> Array:
    """The parts of the air that are lung; none of them where nothing in the volume is.

    gas: what was taken out of the air before; a small part that touches it is the rest of it. Small parts at
    the midline (an index along X) are no lung either: the gullet lies there.
    """
    parts = Parts.of(air)
    inner = ndimage.binary_erosion(air, IN_PLANE, iterations=2, border_value=1)
    inside = parts.within(inner)
    tissue = inside.share(_tissue(grid.hu)) > 0.5
    empty = inside.share(grid.hu < GAS_HU) > 0.6
    emphysema = (parts.share(grid.hu > -930) > 0.25) & (parts.voxels * grid.voxel_ml > 300)
    large = (parts.voxels * grid.voxel_ml > MAIN_ML) & (inside.voxels * grid.voxel_ml > MAIN_ML / 4)
    main = large & (tissue | emphysema) & (~empty | emphysema)
    lungs = parts.mask(main)
    if not lungs.any():
        return lungs
    dark = parts.share(grid.hu < GAS_HU) > 0.05
    small = (parts.voxels * grid.voxel_ml > FRAGMENT_ML) & ~main & ~dark
    near = parts.find_touching(grid.distance_mm(lungs) < FRAGMENT_AWAY_MM)
    stray = ndimage.binary_dilation(gas)
    reach = MIDDLE_MM / grid.spacing_mm[0]
    stray[max(0, int(midline - reach)) : int(midline + reach) + 1] = True
    return lungs | parts.mask(small & near & ~parts.find_touching(stray))
