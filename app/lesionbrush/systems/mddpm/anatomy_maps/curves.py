"""Closed cubic B-spline curves with control points in corresponding order. Points are (y, x) in mm.

y grows to the front, x to the patient's right, as in the view of `roi.Orientation`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import splev, splprep
from skimage.draw import polygon2mask
from skimage.measure import find_contours

Floats = NDArray[np.float64]
DEGREE = 3
POINTS_PER_CONTROL = 8
LEAST_POINTS = 12
"""An outline with fewer points is no organ, but some voxels."""


@dataclass(frozen=True, eq=False)
class SliceGrid:
    """A slice's pixels: shape (Y, X), spacing and where pixel (0, 0) is, both (y, x) in mm."""

    shape: tuple[int, int]
    spacing_mm: Floats
    origin_mm: Floats

    def to_mm(self, pixels: np.ndarray) -> Floats:
        return np.asarray(pixels * self.spacing_mm + self.origin_mm, dtype=np.float64)

    def to_pixels(self, points_mm: np.ndarray) -> Floats:
        return np.asarray((points_mm - self.origin_mm) / self.spacing_mm, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class ClosedCurve:
    """A uniform periodic cubic B-spline. control_mm: (K, 2), K at least 4."""

    control_mm: Floats

    @classmethod
    def through(cls, outline_mm: np.ndarray, controls: int) -> ClosedCurve:
        """The least-squares curve with `controls` control points of an outline (N, 2), its last point not
        the first again. The parameter is arc length, from `start_of` on, counter-clockwise in (x, y)."""
        points = _in_order(np.asarray(outline_mm, dtype=np.float64))
        closed = np.vstack((points, points[:1]))
        length = np.concatenate(([0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))))
        (_, coefficients, _), _ = splprep(
            closed.T, u=length / length[-1], task=-1, t=_knots(controls), per=1, k=DEGREE, quiet=2
        )
        return cls(np.stack(coefficients, axis=1)[:controls])

    def points(self, count: int | None = None) -> Floats:
        """(count, 2), evenly in the parameter; by default `POINTS_PER_CONTROL` for each control point."""
        controls = len(self.control_mm)
        count = POINTS_PER_CONTROL * controls if count is None else count
        wrapped = np.vstack((self.control_mm, self.control_mm[:DEGREE]))
        u = np.arange(count) / count
        return np.stack(splev(u, (_knots(controls), list(wrapped.T), DEGREE)), axis=1)

    def mask(self, grid: SliceGrid) -> NDArray[np.bool_]:
        """The pixels whose centre lies inside."""
        inside: NDArray[np.bool_] = polygon2mask(grid.shape, grid.to_pixels(self.points()))
        return inside


def outline_of(mask: np.ndarray, grid: SliceGrid) -> Floats | None:
    """(N, 2) mm: the longest contour of a (Y, X) mask, through the image's border where the mask ends there.

    None when there is none worth the name.
    """
    contours = find_contours(np.pad(mask.astype(np.float32), 1), 0.5)
    longest = max(contours, key=len, default=np.empty((0, 2)))
    return None if len(longest) < LEAST_POINTS else grid.to_mm(longest[:-1] - 1)


def start_of(outline_mm: np.ndarray) -> int:
    """The point in front of the centre, the foremost one if there are several: where the order begins."""
    y, x = (outline_mm - outline_mm.mean(axis=0)).T
    near = np.abs(x) <= max(1.5, 0.05 * float(np.ptp(x)))
    return int(np.where(near, y, -np.inf).argmax())


def signed_area(points: np.ndarray) -> float:
    """Positive for counter-clockwise order in (x, y)."""
    y, x = points.T
    return 0.5 * float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))


def _in_order(outline_mm: Floats) -> Floats:
    turned = outline_mm if signed_area(outline_mm) > 0 else outline_mm[::-1]
    return np.roll(turned, -start_of(turned), axis=0)


def _knots(controls: int) -> Floats:
    return np.arange(-DEGREE, controls + DEGREE + 1) / controls
