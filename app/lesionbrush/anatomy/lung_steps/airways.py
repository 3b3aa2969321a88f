"""The windpipe and the main bronchi: a round tube of gas, followed down without leaking into lung."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from lesionbrush.anatomy.lung_steps.air import IN_PLANE, SOFT_HU, Parts
from lesionbrush.anatomy.lung_steps.grid import CoarseGrid
from lesionbrush.core.boxes import bounding_box, dilate
from lesionbrush.core.volume import Array

LUMEN_HU = -850.0  # a tube of gas on coarse voxels; its edge is lighter
CORE_HU = -930.0  # at least this dark somewhere in each slice
AREA_MM2 = (40.0, 900.0)
SOFT_SHARE = 0.35  # of what is around the tube: mediastinum, not lung
LENGTH_MM = 18.0
AIRWAYS_ML = 110.0
LEAK_ML = 18.0  # more than this at one step of the threshold is lung
THRESHOLDS_HU = (-980.0, -965.0, -950.0, -935.0, -920.0, -905.0, -890.0, -875.0, -860.0)
WALL_MM = 2.2
NARROW_MM = 3.0  # airways thinner than twice this may be filled again: they lie in the lung


def find_airways(grid: CoarseGrid, air: Array, midline: float) -> Array:
    """Windpipe and main bronchi with their wall; all False where there is no windpipe.

    midline: index along X where the middle of the body is.
    """
    trachea = _trachea(grid, air, midline)
    if not trachea.any():
        return trachea
    lumen = _follow(grid, air, trachea)
    wall_mm = max(WALL_MM, *grid.spacing_mm[:2])
    box = dilate(bounding_box(lumen), wall_mm + NARROW_MM, np.array(grid.spacing_mm), lumen.shape)
    part = grid.crop(box)
    wide = _open(part, lumen[box], NARROW_MM) | trachea[box]
    airways = np.zeros_like(lumen)
    airways[box] = part.distance_mm(wide) <= wall_mm
    return airways


def _trachea(grid: CoarseGrid, air: Array, midline: float) -> Array:
    rounds = _round_parts(grid, (grid.hu < LUMEN_HU) & air)
    chains = Parts.of(rounds, np.ones((3, 3, 3), dtype=bool))
    best, longest_mm = 0, 0.0
    lungs_z = np.nonzero(((grid.hu > -930) & (grid.hu < -600) & air).any(axis=(0, 1)))[0]
    middle_z = np.median(lungs_z) if len(lungs_z) else 0
    for number, box in enumerate(ndimage.find_objects(chains.labels), start=1):
        height = box[2].stop - box[2].start
        length_mm = height * grid.spacing_mm[2]
        centre = ndimage.center_of_mass(chains.labels[box] == number)[0] + box[0].start
        off_centre = abs(centre - midline) > 0.16 * grid.hu.shape[0]
        if height < 3 or length_mm < LENGTH_MM or off_centre or box[2].stop - 1 < middle_z:
            continue
        if length_mm > longest_mm:
            best, longest_mm = number, length_mm
    return (chains.labels == best) & (best > 0)


def _round_parts(grid: CoarseGrid, gas: Array) -> Array:
    """What is, in its slice, of the size and shape of a windpipe with soft tissue around it."""
    parts = Parts.of(gas, IN_PLANE)
    x_mm, y_mm, _ = grid.spacing_mm
    area_mm2 = parts.voxels * x_mm * y_mm
    fits = (area_mm2 >= AREA_MM2[0]) & (area_mm2 <= AREA_MM2[1])
    fits &= parts.share(grid.hu < CORE_HU) > 0
    fits[0] = False
    labels = np.where(fits[parts.labels], parts.labels, 0)
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        width_mm, depth_mm = ((p.stop - p.start) * mm for p, mm in zip(box[:2], (x_mm, y_mm), strict=True))
        round_enough = max(width_mm, depth_mm) < 2.6 * min(width_mm, depth_mm)
        fits[number] = round_enough and area_mm2[number] > 0.5 * width_mm * depth_mm
    labels = np.where(fits[parts.labels], parts.labels, 0)
    size = [2 * max(1, round(4 / mm)) + 1 for mm in (x_mm, y_mm)]
    around = ndimage.grey_dilation(labels, (*size, 1))
    around[parts.labels > 0] = 0
    ring = Parts.numbered(around, len(fits))
    return parts.mask(fits & (ring.share(grid.hu > SOFT_HU) > SOFT_SHARE))


def _follow(grid: CoarseGrid, air: Array, trachea: Array) -> Array:
    """The lumen that hangs on the windpipe, at the highest threshold before it leaks into the lung."""
    lumen = trachea
    for number, threshold in enumerate(THRESHOLDS_HU):
        parts = Parts.of((grid.hu < threshold) & air)
        grown = parts.mask(parts.find_touching(trachea)) | trachea
        grown_ml, lumen_ml = (np.count_nonzero(mask) * grid.voxel_ml for mask in (grown, lumen))
        if grown_ml > AIRWAYS_ML or (number and grown_ml - lumen_ml > LEAK_ML):
            break
        lumen = grown
    return lumen


def _open(grid: CoarseGrid, mask: Array, radius_mm: float) -> Array:
    core = grid.distance_mm(~mask) > radius_mm
    return (grid.distance_mm(core) <= radius_mm) & mask
