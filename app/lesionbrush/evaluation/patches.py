"""Nodules on one grid of 1 mm, axes (z, y, x) to superior, anterior and right: what all measures look at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lesionbrush.core.boxes import centre
from lesionbrush.core.roi import Orientation, RoiGrid, inside_volume, to_roi, triangle
from lesionbrush.core.volume import Volume

SPACING_MM = 1.0
UNKNOWN_HU = -850.0


@dataclass(frozen=True, eq=False)
class Patch:
    """hu: float32; inside: bool, the lesion mask; known: bool, where the CT has data. All (Z, Y, X)."""

    hu: np.ndarray
    inside: np.ndarray
    known: np.ndarray


def patch_of(ct: Volume, mask: Volume, array: np.ndarray | None = None, side: int | None = None) -> Patch:
    """The surroundings of a mask at 1 mm, centred on its bounding box.

    array: other HU on the grid of `ct`, say a synthesis. side: voxels of the cube; None: mask and 7 mm more.
    Where the CT has no data HU is `UNKNOWN_HU`, the same for real and synthetic.
    """
    turned = Orientation.of(ct.affine)
    spacing_mm = turned.spacing_mm(ct.spacing_mm)
    view = turned.view(ct.array if array is None else array)
    lesion = turned.view(mask.array) > 0
    places = np.argwhere(lesion)
    low_mm, high_mm = places.min(axis=0) * spacing_mm, places.max(axis=0) * spacing_mm
    shape = [side] * 3 if side else (np.ceil(high_mm - low_mm + spacing_mm).astype(int) + 14).tolist()
    grid = RoiGrid.around((low_mm + high_mm) / 2, shape, SPACING_MM)
    coverage = to_roi(lesion, spacing_mm, grid, triangle)
    known = inside_volume(grid, view.shape, spacing_mm)
    hu = np.where(known, to_roi(view, spacing_mm, grid), np.float32(UNKNOWN_HU))
    inside = known & (coverage >= 0.5 * coverage.max())  # coverage goes on beyond the last slice
    return Patch(hu, inside, known)


def resize(patch: Patch, side: int) -> Patch:
    """The middle cube of `side` voxels, filled with unknown where the patch is smaller."""
    columns = ((patch.hu, UNKNOWN_HU), (patch.inside, False), (patch.known, False))
    return Patch(*(centre(array, side, fill) for array, fill in columns))
