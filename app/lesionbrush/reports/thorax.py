"""Heart, pleural fluid and dense lung by thresholds, on coarse voxels (X, Y, Z): left, back and head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.morphology import convex_hull_image

from lesionbrush.anatomy.lung_steps.air import Parts
from lesionbrush.anatomy.lung_steps.grid import CoarseGrid
from lesionbrush.core.volume import Array

HEART_HU = -20.0  # fat beside the heart is not heart
BELOW_CARINA_MM = 25.0  # the heart begins, large vessels end
NECK_MM = 6.0  # what hangs on the heart by less than twice this is none
MERGED_MM = 20.0  # wider by so much from one slice to the next is liver or stomach ...
USUAL_OF = 5  # ... in the median of so many slices
LEAST_HEART_MM = 40.0

FLUID_HU = (-10.0, 30.0)
SOFT_HU = (-200.0, 200.0)
FLUID_SMOOTH_MM = 2.5
BETWEEN_MM = 5.0  # pleura and blurred border between lung and fluid
FLUID_DEEP_MM = 4.0
LEAST_FLUID_ML = 10.0

DENSE_HU = -400.0  # half lung, half tissue
DENSE_DEEP_MM = 5.0
DENSE_SMOOTH_MM = 1.5
LEAST_DENSE_ML = 5.0


@dataclass(frozen=True)
class HeartWidths:
    """heart_mm: the greatest on an axial slice above the diaphragm.

    chest_mm: between the outer borders of both lungs on that slice.
    """

    heart_mm: float
    chest_mm: float


@dataclass(frozen=True, eq=False)
class Heart:
    """mask: bool (X, Y, Z), with the spine behind it; widths_mm: of its slices, smoothed, from above down."""

    mask: Array
    slices: tuple[int, ...]
    widths_mm: Array


def measure_heart(grid: CoarseGrid, lungs: Array, carina_mm: float) -> HeartWidths | None:
    """lungs: not 0 in both. None: no heart is seen to end above the diaphragm in this volume."""
    heart = find_heart(grid, lungs, carina_mm)
    if heart is None:
        return None
    widest = int(heart.widths_mm.argmax())
    chest = _width(lungs[:, :, heart.slices[widest]] > 0)
    return HeartWidths(float(heart.widths_mm[widest]), chest * grid.spacing_mm[0])


def find_heart(grid: CoarseGrid, lungs: Array, carina_mm: float) -> Heart | None:
    """From below the carina to above the diaphragm; None as of `measure_heart`."""
    x_mm, _, z_mm = grid.spacing_mm
    start = min(int((carina_mm - BELOW_CARINA_MM) / z_mm), lungs.shape[2] - 1)
    slices = range(start, -1, -1)
    masks = [_heart_in(grid, lungs[:, :, z] > 0, z) for z in slices]
    found = np.array([_width(mask) * x_mm for mask in masks])
    widths_mm = ndimage.median_filter(found, USUAL_OF, mode="nearest")
    ends = np.flatnonzero((np.diff(widths_mm) > MERGED_MM) | (widths_mm[1:] == 0))
    if not len(ends) or widths_mm[: ends[0] + 1].max() < LEAST_HEART_MM:
        return None
    count = int(ends[0]) + 1
    inside = np.zeros(lungs.shape, bool)
    for z, mask in zip(slices[:count], masks[:count], strict=True):
        inside[:, :, z] = mask
    return Heart(inside, tuple(slices[:count]), widths_mm[:count])


def _heart_in(grid: CoarseGrid, lung: Array, z: int) -> Array:
    """bool (X, Y): the largest body of tissue between the lungs, spine included, which is narrower."""
    if np.count_nonzero(lung) < 9:
        return np.zeros(lung.shape, bool)
    tissue = convex_hull_image(lung) & ~lung & (grid.hu[:, :, z] > HEART_HU)
    edges_mm = grid.spacing_mm[:2]
    core = ndimage.distance_transform_edt(np.pad(tissue, 1), sampling=edges_mm)[1:-1, 1:-1] > NECK_MM
    if not core.any():
        return core
    parts = Parts.of(core)
    largest = parts.mask(parts.voxels == parts.voxels[1:].max())
    return (ndimage.distance_transform_edt(~largest, sampling=edges_mm) <= NECK_MM) & tissue


def _width(mask: Array) -> int:
    across = np.flatnonzero(mask.any(axis=1))
    return int(across[-1] - across[0] + 1) if len(across) else 0


def find_fluid(grid: CoarseGrid, lung: Array) -> Array:
    """bool (X, Y, Z): what has the HU of water and lies next to one lung (bool), behind all of it.

    Fluid in front of a lung or beneath it, blood and pus are not found.
    """
    smooth = _mean_of_soft(grid)
    fluid = (smooth > FLUID_HU[0]) & (smooth < FLUID_HU[1]) & (grid.hu > SOFT_HU[0]) & (grid.hu < SOFT_HU[1])
    places = np.arange(lung.shape[1])[None, :, None]
    last = np.where(lung, places, -1).max(axis=1, keepdims=True)
    behind = (last >= 0) & (places > last)
    near = (places - last) * grid.spacing_mm[1] <= BETWEEN_MM
    ended = np.maximum.accumulate(behind & ~near & ~fluid, axis=1)
    return _thick(grid, fluid & behind & ~ended & ~lung, FLUID_DEEP_MM, LEAST_FLUID_ML)


def _mean_of_soft(grid: CoarseGrid) -> Array:
    """HU, smoothed over soft tissue alone: lung and bone beside it do not count."""
    soft = ((grid.hu > SOFT_HU[0]) & (grid.hu < SOFT_HU[1])).astype(np.float32)
    sigma = [FLUID_SMOOTH_MM / mm for mm in grid.spacing_mm]
    share = ndimage.gaussian_filter(soft, sigma)
    mean: Array = ndimage.gaussian_filter(np.where(soft > 0, grid.hu, 0), sigma) / np.maximum(share, 1e-3)
    return mean


def find_dense(grid: CoarseGrid, lung: Array, known: Array) -> Array:
    """bool (X, Y, Z): lung as dense as tissue and thicker than a vessel, without what is `known`."""
    smooth = ndimage.gaussian_filter(grid.hu, [DENSE_SMOOTH_MM / mm for mm in grid.spacing_mm])
    dense = lung & (smooth > DENSE_HU) & ~known
    return _thick(grid, dense, DENSE_DEEP_MM, LEAST_DENSE_ML)


def _thick(grid: CoarseGrid, mask: Array, deep_mm: float, least_ml: float) -> Array:
    """The parts of a mask that are somewhere so deep, as far as they are, and in which there is so much."""
    core = grid.distance_mm(~mask) > deep_mm
    parts = Parts.of((grid.distance_mm(core) <= deep_mm) & mask)
    return parts.mask(parts.voxels * grid.voxel_ml >= least_ml)
