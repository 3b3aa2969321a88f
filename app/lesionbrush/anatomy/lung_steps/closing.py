"""The smooth surface of each lung: vessels and nodules at the pleura inside, mediastinum outside."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from lesionbrush.anatomy.lung_steps.air import Parts
from lesionbrush.anatomy.lung_steps.grid import CoarseGrid
from lesionbrush.anatomy.lung_steps.sides import LEFT, RIGHT, next_labels
from lesionbrush.core.boxes import bounding_box, dilate
from lesionbrush.core.volume import Array

VESSEL_MM = 5.0  # radius of a ball that rolls around the lung towards the mediastinum ...
PLEURA_MM = 20.0  # ... and along the chest wall and the diaphragm, where nodules sit
FILM_MM = 2.5  # what the larger ball adds is at least twice as thick: thinner is pleura or muscle
BONE_HU = 250.0
COSTAL_SHARE = 0.7
HILUM_MM = 15.0
TUBE_MM = 3.0


def close_lungs(grid: CoarseGrid, labels: Array, never: Array) -> Array:
    """Labels (X, Y, Z) with vessels, nodules at the pleura and enclosed holes filled; nothing of `never`."""
    closed = labels.copy()
    reach_mm = 2 * PLEURA_MM
    for lung in (RIGHT, LEFT):
        mine = labels == lung
        if not mine.any():
            continue
        box = dilate(bounding_box(mine), reach_mm, np.array(grid.spacing_mm), mine.shape)
        costal = ~_faces_the_middle(labels[box], lung)
        filled = _close(grid.crop(box), mine[box], costal) & (closed[box] == 0) & ~never[box]
        closed[box][filled] = lung
    return closed


def without_tubes(grid: CoarseGrid, labels: Array, airways: Array) -> Array:
    """The labels without thin ends of bronchi that stick out of the lungs near the main airways."""
    if not airways.any():
        return labels
    box = dilate(bounding_box(airways), HILUM_MM, np.array(grid.spacing_mm), labels.shape)
    part, inside = grid.crop(box), labels[box]
    near = part.distance_mm(airways[box]) < HILUM_MM
    tidy = labels.copy()
    for lung in (RIGHT, LEFT):
        mine = inside == lung
        core = part.distance_mm(~mine) > TUBE_MM
        tidy[box][mine & near & (part.distance_mm(core) > TUBE_MM)] = 0
    return tidy


def _faces_the_middle(labels: Array, lung: int) -> Array:
    """Voxels with this lung next on their outer side along X, and something else on the inner side."""
    outer, inner = (-1, 1) if lung == RIGHT else (1, -1)
    return (next_labels(labels, outer) == lung) & (next_labels(labels, inner) != lung)


def _close(grid: CoarseGrid, lung: Array, costal: Array) -> Array:
    margin = [int(np.ceil(PLEURA_MM / mm)) + 1 for mm in grid.spacing_mm]
    padded = np.pad(lung, [(n, n) for n in margin], mode="edge")
    inner = tuple(slice(n, -n) for n in margin)
    distance_mm = grid.distance_mm(padded)
    vessels, pleura = (
        (grid.distance_mm(distance_mm > radius_mm) > radius_mm)[inner] for radius_mm in (VESSEL_MM, PLEURA_MM)
    )
    added = pleura & ~vessels & ~lung & (grid.hu < BONE_HU)
    lumps = Parts.of(added & (grid.distance_mm(grid.distance_mm(~added) > FILM_MM) <= FILM_MM))
    nodules = lumps.mask(lumps.share(costal) > COSTAL_SHARE)
    return ndimage.binary_fill_holes(lung | vessels | nodules)
