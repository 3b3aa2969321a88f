"""The square of pixels that axial slices are looked at, whatever their own pixels. Imports no torch."""

from __future__ import annotations

import numpy as np

from lesionbrush.core.roi import axis_weights, triangle

SIDE, SPACING_MM = 192, 2.0
AIR_HU = -1024.0


def read_plane(hu: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """(SIDE, SIDE) float32 of a (Y, X) slice, its middle in the middle; air beyond it."""
    plane = np.full((SIDE, SIDE), AIR_HU, np.float32)
    (rows, wy), (columns, wx) = (_there(n, mm) for n, mm in zip(hu.shape, spacing_mm, strict=True))
    plane[rows, columns] = wy @ np.ascontiguousarray(hu, np.float32) @ wx.T
    return plane


def leave_plane(values: np.ndarray, shape: tuple[int, int], spacing_mm: np.ndarray) -> np.ndarray:
    """(C, Y, X) float32 of (C, SIDE, SIDE): the way back; beyond the square its edge goes on."""
    wy, wx = (
        axis_weights(_plane_mm(), _own_mm(n, mm), triangle) for n, mm in zip(shape, spacing_mm, strict=True)
    )
    back: np.ndarray = wy @ np.ascontiguousarray(values, np.float32) @ wx.T
    return back


def _there(n: int, mm: float) -> tuple[slice, np.ndarray]:
    """Which pixels of the square lie in a slice along one axis, and the weights that fill them."""
    own, plane = _own_mm(n, mm), _plane_mm()
    inside = np.flatnonzero((plane > own[0] - mm / 2) & (plane < own[-1] + mm / 2))
    part = slice(int(inside[0]), int(inside[-1]) + 1)
    return part, axis_weights(own, plane[part], triangle)


def _own_mm(n: int, mm: float) -> np.ndarray:
    return (np.arange(n) - (n - 1) / 2) * mm


def _plane_mm() -> np.ndarray:
    return (np.arange(SIDE) - (SIDE - 1) / 2) * SPACING_MM
