"""A fissure as a smooth surface, drawn to the faint line that it is on CT, and away from vessels.

Vessels do not cross a fissure, and it is a thin sheet, some ten HU brighter than the lung beside it. Both are
summed over the whole surface, so that it is found in noise in which no single voxel shows it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage
from scipy.optimize import minimize

from lesionbrush.anatomy.lung_steps.grid import CoarseGrid
from lesionbrush.core.boxes import bounding_box
from lesionbrush.core.volume import Array

UNIT_MM = 60.0  # coordinates on the surface are counted in these, so that all coefficients are mm
STEP_MM, REACH_MM = 2.0, 40.0
SHEET_MM = 4.0  # that far beside a fissure there is lung again
SHEET_HU, VESSEL_HU = 25.0, 90.0
SMOOTH_MM = 0.8
BLURS_MM = (2.0, 1.0)
USUAL_MM = np.array((14.0, 9.0, 9.0, 4.0, 4.0, 4.0))
PRIOR_HU = 0.5  # what one usual deviation costs, of the mean over the surface
SHIFTS_MM = np.array((-18.0, -15, -12, -9, -6, 6, 9, 12, 15, 18))
SEEN_HU, SEEN_DEVIATIONS = 2.0, 3.0
LEAST_CM2 = 15.0


@dataclass(frozen=True, eq=False)
class Fissure:
    """u = coefficients . (1, s, t, s^2, s t, t^2) about a plane, in mm; s, t in UNIT_MM.

    origin_mm: (3,), along the axes of the grid (left, back, head); tilt_deg: of the plane, how steeply it
    rises to the back. s runs to the left, t up the plane, u across it, upward. seen: the CT shows it.
    """

    origin_mm: Array
    tilt_deg: float
    coefficients: Array
    seen: bool = False

    @property
    def axes(self) -> Array:
        """(3, 3): unit vectors of s, t, u."""
        tilt = np.deg2rad(self.tilt_deg)
        sin, cos = np.sin(tilt), np.cos(tilt)
        return np.array(((1, 0, 0), (0, cos, sin), (0, -sin, cos)))

    def height_mm(self, points_mm: Array) -> Array:
        """(N,): how far points (N, 3) lie above it, along the normal of its plane."""
        s, t, u = ((points_mm - self.origin_mm) @ self.axes.T).T
        return u - basis(s / UNIT_MM, t / UNIT_MM) @ self.coefficients


def basis(s: Array, t: Array) -> Array:
    """(..., 6)."""
    return np.stack((np.ones_like(s), s, t, s * s, s * t, t * t), axis=-1)


def fit_fissure(grid: CoarseGrid, lung: Array, origin_mm: Array, tilt_deg: float) -> Fissure:
    """The surface near a plane through `origin_mm` that looks most like a fissure of this lung (X, Y, Z).

    `seen` is False where no surface stands out from those beside it; then the plane itself is returned.
    """
    plane = Fissure(origin_mm, tilt_deg, np.zeros(6))
    evidence = _Evidence.of(grid, lung, plane)
    if evidence.area_cm2(plane.coefficients) < LEAST_CM2:
        return plane
    best = evidence.search()
    for blur_mm in BLURS_MM:
        best = evidence.improve(best, blur_mm)
    return replace(plane, coefficients=best, seen=True) if evidence.stands_out(best) else plane


@dataclass(frozen=True, eq=False)
class _Evidence:
    """hu: (S, T, U), how much a place looks like a fissure that lies across U; inside: the lung.

    u_mm: (U,), every mm; basis: (S, T, 6).
    """

    hu: Array
    inside: Array
    u_mm: Array
    basis: Array

    @classmethod
    def of(cls, grid: CoarseGrid, lung: Array, plane: Fissure) -> _Evidence:
        spacing = np.array(grid.spacing_mm)
        box = bounding_box(lung)
        ends = [(part.start * mm, (part.stop - 1) * mm) for part, mm in zip(box, spacing, strict=True)]
        corners = np.array(np.meshgrid(*ends)).reshape(3, -1).T - plane.origin_mm
        s_mm, t_mm = (np.arange(c.min(), c.max() + 1, STEP_MM) for c in (corners @ plane.axes[:2].T).T)
        u_mm = np.arange(-REACH_MM - SHEET_MM, REACH_MM + SHEET_MM + 1)
        steps = np.stack(np.meshgrid(s_mm, t_mm, u_mm, indexing="ij"), axis=-1)
        places = (plane.origin_mm + steps @ plane.axes) / spacing - [part.start for part in box]
        part = lung[box]
        base = float(np.median(grid.hu[box][part]))
        smooth = ndimage.gaussian_filter(np.where(part, grid.hu[box], base), SMOOTH_MM / spacing)
        hu = ndimage.map_coordinates(smooth, np.moveaxis(places, -1, 0), order=1, cval=base)
        deep = ndimage.binary_erosion(part, iterations=2).astype(np.uint8)
        inside = ndimage.map_coordinates(deep, np.moveaxis(places, -1, 0), order=0) > 0
        s, t = np.meshgrid(s_mm / UNIT_MM, t_mm / UNIT_MM, indexing="ij")
        return cls(_sheets(hu - base), inside, u_mm, basis(s, t))

    def score(self, coefficients: Array, hu: Array) -> float:
        """Mean over the surface in the lung, less what it costs to be unusual."""
        found = self._on_surface(hu, coefficients)
        return float(found.sum() / max(found.size, self._least)) - _unusual(coefficients)

    @property
    def _least(self) -> int:
        return int(LEAST_CM2 * 100 / STEP_MM**2)

    def area_cm2(self, coefficients: Array) -> float:
        """Of the part that lies in the lung."""
        return float(self._on_surface(self.hu, coefficients).size) * STEP_MM**2 / 100

    def _on_surface(self, values: Array, coefficients: Array) -> Array:
        """(N,), in the lung alone."""
        index = np.rint(self.basis @ coefficients - self.u_mm[0]).astype(int)
        index = np.clip(index, 0, len(self.u_mm) - 1)[..., None]
        inside = np.take_along_axis(self.inside, index, 2)
        found: Array = np.take_along_axis(values, index, 2)[inside]
        return found

    def search(self) -> Array:
        """The best of all planes within reach, on a coarse net of them."""
        hu = ndimage.gaussian_filter1d(self.hu, 3.0, axis=2)[::2, ::2]
        thin = _Evidence(hu, self.inside[::2, ::2], self.u_mm, self.basis[::2, ::2])
        weight = thin.inside.astype(np.float32)
        shifts = np.arange(-30, 31, 2)
        best, found = -np.inf, np.zeros(6)
        for across in np.arange(-18, 19, 4.5):
            for along in np.arange(-18, 19, 4.5):
                start = np.rint(thin.basis @ (0, across, along, 0, 0, 0) - thin.u_mm[0]).astype(int)
                index = np.clip(start[..., None] + shifts, 0, len(thin.u_mm) - 1)
                inside = np.take_along_axis(weight, index, 2)
                sums = (np.take_along_axis(hu, index, 2) * inside).sum(axis=(0, 1))
                means = sums / np.maximum(inside.sum(axis=(0, 1)), self._least / 4)
                costs = [_unusual(np.array((shift, across, along, 0, 0, 0))) for shift in shifts]
                scores = means - costs
                if scores.max() > best:
                    best = float(scores.max())
                    found = np.array((shifts[scores.argmax()], across, along, 0.0, 0.0, 0.0))
        return found

    def improve(self, start: Array, blur_mm: float) -> Array:
        hu = ndimage.gaussian_filter1d(self.hu, blur_mm, axis=2)
        simplex = np.vstack((start, start + np.diag(USUAL_MM / 2)))
        options = {"initial_simplex": simplex, "maxfev": 900, "xatol": 0.2, "fatol": 1e-3}
        found = minimize(lambda c: -self.score(c, hu), start, method="Nelder-Mead", options=options)
        return np.asarray(found.x)

    def stands_out(self, coefficients: Array) -> bool:
        """Against the same surface moved up and down."""
        own = self.score(coefficients, self.hu) + _unusual(coefficients)
        beside = [
            self.score(moved, self.hu) + _unusual(moved)
            for moved in (coefficients + np.eye(6)[0] * shift for shift in SHIFTS_MM)
        ]
        return bool(own - np.mean(beside) > max(SEEN_HU, SEEN_DEVIATIONS * np.std(beside)))


def _sheets(hu: Array) -> Array:
    """hu: above that of the lung. A thin bright sheet across U counts for, vessels beside it against."""
    beside = [np.roll(hu, int(shift), axis=2) for shift in (-SHEET_MM, SHEET_MM)]
    ridge = np.clip(hu - np.maximum(*beside) / 2 - np.minimum(*beside) / 2, -SHEET_HU, SHEET_HU)
    vessel = np.maximum(*beside) > VESSEL_HU
    return np.where(vessel, -SHEET_HU, ridge).astype(np.float32)


def _unusual(coefficients: Array) -> float:
    return PRIOR_HU * float(((coefficients / USUAL_MM) ** 2).sum())
