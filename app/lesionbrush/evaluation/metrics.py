"""Figures about a synthetic lesion that need no network. Arrays are (Z, Y, X) or any one axis order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lesionbrush.core.roi import ramp

RING_MM = 4.0


def edit_region(mask: np.ndarray, spacing_mm: Sequence[float], margin_mm: float) -> np.ndarray:
    """Bool: the voxels that may change, as `roi.ramp` defines them. mask: bool; none of it, none of them."""
    region: np.ndarray = ramp(mask, spacing_mm, margin_mm) > 0
    return region


def seam_ratio(hu: np.ndarray, mask: np.ndarray, spacing_mm: Sequence[float], margin_mm: float) -> float:
    """Mean |difference| of neighbours across the edit border over that of neighbours just outside it.

    1 is no seam. Pairs are in-plane and through-plane neighbours; the background is the ring of `RING_MM`
    around the edit region. NaN where the edit region fills the image.
    """
    edit = edit_region(mask, spacing_mm, margin_mm)
    ring = edit_region(edit, spacing_mm, RING_MM) & ~edit
    border, background = [], []
    for axis in range(hu.ndim):
        step = np.abs(np.diff(hu.astype(np.float32), axis=axis))
        a, b = _neighbours(edit, axis)
        border.append(step[a ^ b])
        c, d = _neighbours(ring, axis)
        background.append(step[c & d])
    outside = np.concatenate(background)
    across = np.concatenate(border)
    return float(across.mean() / outside.mean()) if len(outside) and len(across) else float("nan")


def _neighbours(flags: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """The flags of each voxel but the last along an axis, and of the one after it."""
    n = flags.shape[axis]
    return flags.take(range(n - 1), axis), flags.take(range(1, n), axis)
