"""Small pictures of results. numpy alone."""

from __future__ import annotations

import numpy as np

from .layout import windows_for
from .voxels import Grid


def grey(hu: np.ndarray, level_hu: float, width_hu: float) -> np.ndarray:
    """uint8: 0 at and below level - width / 2, 255 at and above level + width / 2."""
    return np.rint(np.clip((hu - level_hu) / width_hu + 0.5, 0, 1) * 255).astype(np.uint8)


def thumbnail(
    hu_kji: np.ndarray, grid: Grid, size_px: int, through_ijk: np.ndarray | None = None
) -> np.ndarray:
    """(size_px, size_px, 3) uint8 RGB of a slice of a box, square millimetres.

    As radiologists look at an axial slice: the patient's right on the left, front up, in the window of its
    tissue. hu_kji: (k, j, i); through_ijk: a voxel of the slice, the middle one by default.
    """
    axes = [int(np.argmax(np.abs(grid.ijk_to_ras[row, :3]))) for row in range(3)]
    if len(set(axes)) < 3:  # turned by 45 degrees: any slice is as good
        axes = [0, 1, 2]
    right, front, up = axes
    middle = np.array(hu_kji.shape[::-1]) // 2 if through_ijk is None else np.rint(through_ijk)
    plane = hu_kji.transpose(2, 1, 0).take(int(middle[up]), axis=up, mode="clip")
    if right > front:
        plane = plane.T  # axes of `plane` are now (right, front)
    if grid.ijk_to_ras[0, right] > 0:
        plane = plane[::-1]
    if grid.ijk_to_ras[1, front] > 0:
        plane = plane[:, ::-1]
    mm = (float(grid.spacing_mm[front]), float(grid.spacing_mm[right]))
    window = windows_for(plane)[0]
    picture = _square(grey(plane.T, window.level_hu, window.width_hu), mm, size_px)
    return np.repeat(picture[:, :, None], 3, axis=2)


def _square(rows: np.ndarray, mm: tuple[float, float], size_px: int) -> np.ndarray:
    """The whole picture, in the middle of a black square, nearest neighbour... linear along both axes."""
    height_mm, width_mm = rows.shape[0] * mm[0], rows.shape[1] * mm[1]
    scale = size_px / max(height_mm, width_mm)
    height, width = max(1, round(height_mm * scale)), max(1, round(width_mm * scale))
    small = _linear(_linear(rows.astype(np.float32), height).T, width).T
    square = np.zeros((size_px, size_px), np.uint8)
    top, left = (size_px - height) // 2, (size_px - width) // 2
    square[top : top + height, left : left + width] = np.rint(small)
    return square


def _linear(rows: np.ndarray, count: int) -> np.ndarray:
    """(count, width): rows interpolated linearly, each at its centre."""
    at = np.clip((np.arange(count) + 0.5) * len(rows) / count - 0.5, 0, len(rows) - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, len(rows) - 1)
    part = (at - low)[:, None]
    return rows[low] * (1 - part) + rows[high] * part
