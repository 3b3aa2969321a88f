"""The bronchial tree: grown from windpipe and main bronchi, threshold by threshold, without what leaks."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from lesionbrush.anatomy.lung_steps.air import Parts
from lesionbrush.anatomy.lung_steps.grid import CoarseGrid
from lesionbrush.core.boxes import bounding_box, dilate, hull
from lesionbrush.core.volume import Array

SMOOTH_MM = 0.6
THRESHOLDS_HU = tuple(range(-980, -889, 10))
LUMEN_HU = -900.0
LEAK_ML = 1.2  # what is added in one piece at one step of the threshold: a bronchus is less, lung is more
SOLID_MM = 4.0  # a piece that still has a core this deep is no bronchus beyond the main ones
WALL_HU = -500.0
REACH_MM = 3.0


def grow_airways(grid: CoarseGrid, main: Array, lungs: Array) -> Array:
    """bool (X, Y, Z): the lumen of the bronchial tree. main: windpipe and main bronchi, lungs: not 0 in them.

    Empty where `main` is. Every piece that a step of the threshold adds is judged by itself: a leak at one
    place ends the growth there and nowhere else.
    """
    airways = np.zeros(main.shape, bool)
    if not main.any():
        return airways
    box = hull([bounding_box(main), bounding_box(lungs)]) if lungs.any() else bounding_box(main)
    box = dilate(box, REACH_MM, np.array(grid.spacing_mm), main.shape)
    part = grid.crop(box)
    smooth = ndimage.gaussian_filter(part.hu, SMOOTH_MM / np.array(grid.spacing_mm))
    lumen = main[box] & (smooth < LUMEN_HU)
    field = ndimage.binary_dilation(main[box]) | (lungs[box] > 0)
    airways[box] = _with_border(part, _grow(part, smooth, lumen, field), lungs[box] > 0)
    return airways


def _grow(grid: CoarseGrid, smooth: Array, lumen: Array, field: Array) -> Array:
    leaked = np.zeros(lumen.shape, bool)
    for threshold in THRESHOLDS_HU:
        dark = Parts.of((field & (smooth < threshold) & ~leaked) | lumen)
        pieces = Parts.of(dark.mask(dark.find_touching(lumen)) & ~lumen)
        too_large = pieces.voxels * grid.voxel_ml > LEAK_ML
        leaked |= pieces.mask(too_large)
        lumen = lumen | pieces.mask(~too_large)
    return _main_part(lumen)


def _main_part(mask: Array) -> Array:
    parts = Parts.of(mask, np.ones((3, 3, 3), bool))
    size = parts.voxels.copy()
    size[0] = 0
    return parts.mask(size == size.max()) if size.any() else mask


def _with_border(grid: CoarseGrid, lumen: Array, lungs: Array) -> Array:
    """With the voxels that the wall shares; not in the lungs, where the wall is thinner than a voxel."""
    return lumen | (ndimage.binary_dilation(lumen) & (grid.hu < WALL_HU) & ~lungs)
