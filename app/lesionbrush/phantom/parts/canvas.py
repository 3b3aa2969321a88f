"""Drawing soft-edged solids on a voxel grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lesionbrush.core.volume import Array, Box

NODE_MM = 4.0
Point = Sequence[float] | Array
Path = tuple[tuple[float, float, float, float], ...]  # x, y, z, radius, mm


@dataclass(frozen=True, eq=False)
class Canvas:
    """hu: (I, J, K) float32, drawn on in place; x, y, z: evenly spaced voxel centres, mm."""

    hu: Array
    x: Array
    y: Array
    z: Array
    voxel_mm: tuple[float, ...]

    @classmethod
    def blank(cls, axes: Sequence[Array], hu: float = 0.0) -> Canvas:
        x, y, z = (np.asarray(axis, dtype=np.float32) for axis in axes)
        voxel_mm = tuple(float(axis[1] - axis[0]) for axis in (x, y, z))
        return cls(np.full((len(x), len(y), len(z)), hu, dtype=np.float32), x, y, z, voxel_mm)

    @property
    def axes(self) -> tuple[Array, Array, Array]:
        return self.x, self.y, self.z

    @property
    def grid(self) -> tuple[Array, Array, Array]:
        """x, y, z shaped to broadcast to (I, J, K)."""
        return self.x[:, None, None], self.y[None, :, None], self.z[None, None, :]

    @property
    def edge_mm(self) -> float:
        """Width over which a surface fades: one voxel, which is what partial volume does."""
        return float(math.prod(self.voxel_mm) ** (1 / 3))

    def box(self, low_mm: Point, high_mm: Point) -> Box:
        """Indices of the voxels with centres between two corners."""
        corners = zip(self.axes, low_mm, high_mm, strict=True)
        i, j, k = (slice(*axis.searchsorted((low, high))) for axis, low, high in corners)
        return i, j, k

    def view(self, box: Box) -> Canvas:
        """That part of this canvas; drawing on it draws here."""
        return Canvas(self.hu[box], self.x[box[0]], self.y[box[1]], self.z[box[2]], self.voxel_mm)

    def paint(self, distance_mm: Array, hu: float | Array) -> None:
        """Fill the solid of this signed distance, broadcast to (I, J, K)."""
        self.blend(_between_0_and_1(0.5 - distance_mm / self.edge_mm), hu)

    def blend(self, coverage: Array, hu: float | Array) -> None:
        """Replace the fraction `coverage` (0 to 1) of every voxel."""
        self.hu[...] += coverage * (hu - self.hu)

    def coarse(self) -> Canvas:
        """A grid of nodes over the same field, fine enough for smooth distance fields and cheap to fill."""
        pitches_mm = [max(NODE_MM, step) for step in self.voxel_mm]
        return Canvas.blank(
            [np.arange(a[0] - mm, a[-1] + 2 * mm, mm) for a, mm in zip(self.axes, pitches_mm, strict=True)]
        )

    def refine(self, field: Array, nodes: Canvas) -> Array:
        """A field on `nodes` (from `coarse`) interpolated linearly to the voxels of this canvas."""
        along_z = field.astype(np.float32) @ _linear_weights(nodes.z, self.z).T
        along_y = _linear_weights(nodes.y, self.y) @ along_z
        flat = _linear_weights(nodes.x, self.x) @ along_y.reshape(len(nodes.x), -1)
        return flat.reshape(self.hu.shape)


def _between_0_and_1(values: Array) -> Array:
    return np.minimum(
        np.maximum(values, 0), 1
    )  # several times as fast as np.clip on the small boxes of tubes


def _linear_weights(nodes: Array, positions: Array) -> Array:
    """(positions, nodes) float32: each row holds the two weights of linear interpolation."""
    right = np.clip(np.searchsorted(nodes, positions), 1, len(nodes) - 1)
    weight = (positions - nodes[right - 1]) / (nodes[right] - nodes[right - 1])
    matrix = np.zeros((len(positions), len(nodes)), dtype=np.float32)
    rows = np.arange(len(positions))
    matrix[rows, right - 1] = 1 - weight
    matrix[rows, right] = weight
    return matrix


def smooth_min(a: Array, b: Array, blend_mm: float) -> Array:
    """Union of two distances with a fillet (quadratic smooth minimum, Quilez 2013)."""
    overlap = np.maximum(blend_mm - np.abs(a - b), 0) / blend_mm
    return np.minimum(a, b) - overlap * overlap * (blend_mm / 4)


def smooth_step(low: float, high: float, value: Array) -> Array:
    """0 below `low`, 1 above `high` (or the other way round), a cubic between."""
    t = _between_0_and_1((value - low) / (high - low))
    return t * t * (3 - 2 * t)


def ellipsoid(canvas: Canvas, centre: Point, radii: Point) -> Array:
    """Signed distance to an axis-aligned ellipsoid, exact to first order at its surface."""
    x, y, z = (grid - c for grid, c in zip(canvas.grid, centre, strict=True))
    a, b, c = radii
    return ellipse_distance(
        np.sqrt((x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2), (x / a**2, y / b**2, z / c**2)
    )


def ellipse(u: Array, v: Array, radii: tuple[float, float]) -> Array:
    """Signed distance to an ellipse around the origin of the plane (u, v), exact to first order."""
    a, b = radii
    return ellipse_distance(np.hypot(u / a, v / b), (u / a**2, v / b**2))


def ellipse_distance(scaled: Array, gradient: Sequence[Array]) -> Array:
    """From the scaled radius (1 on the surface) and its gradient times itself (Quilez 2008)."""
    slope = np.sqrt(sum(part * part for part in gradient))
    return scaled * (scaled - 1) / np.maximum(slope, 1e-4)


def capsule(canvas: Canvas, start: Point, end: Point, radii: tuple[float, float]) -> Array:
    """Signed distance to a round-ended cone from `start` to `end` (mm) whose radius goes linearly."""
    a, b, c = (float(to - origin) for origin, to in zip(start, end, strict=True))
    x, y, z = (grid - np.float32(origin) for grid, origin in zip(canvas.grid, start, strict=True))
    length2 = max(a * a + b * b + c * c, 1e-6)
    projected = x * a + y * b + z * c
    along = _between_0_and_1(projected / length2)
    squared = x * x + y * y + z * z - along * (2 * projected - along * length2)
    return np.sqrt(np.maximum(squared, 0)) - (radii[0] + along * (radii[1] - radii[0]))


def draw_capsule(canvas: Canvas, start: Point, end: Point, radii: tuple[float, float], hu: float) -> None:
    """Blend one tube segment in, soft at its edge, and as bright in all as a tube of that calibre.

    A disc of radius R whose edge is a linear ramp of width e covers pi (R^2 + e^2 / 12), so R is below the
    true radius. A tube too thin for that is drawn one voxel wide and fainter.
    """
    edge = canvas.edge_mm
    drawn = tuple(math.sqrt(max(r * r - edge * edge / 12, edge * edge / 4)) for r in radii)
    reach = max(drawn) + edge
    view = canvas.view(canvas.box(np.minimum(start, end) - reach, np.maximum(start, end) + reach))
    if view.hu.size:
        share = min(1.0, 3 * radii[0] * radii[1] / edge**2)
        distance = capsule(view, start, end, (drawn[0], drawn[1]))
        view.blend(_between_0_and_1(0.5 - distance / edge) * share, hu)


def draw_tube(canvas: Canvas, path: Path, hu: float, thicker_mm: float = 0.0) -> None:
    """Blend in a curved tube, its radius `thicker_mm` larger than the path says."""
    curve = smooth_curve(path)
    curve[:, 3] += thicker_mm
    for a, b in pairwise(curve):
        draw_capsule(canvas, a[:3], b[:3], (a[3], b[3]), hu)


def smooth_curve(path: Path, pieces: int = 6) -> Array:
    """Catmull-Rom curve through the points of a path -> (N, 4), mm (Catmull and Rom 1974)."""
    knots = np.asarray(path, dtype=np.float64)
    knots = np.vstack([2 * knots[0] - knots[1], knots, 2 * knots[-1] - knots[-2]])
    t = np.linspace(0, 1, pieces, endpoint=False)[:, None]
    spans = [
        b + 0.5 * t * ((c - a) + t * ((2 * a - 5 * b + 4 * c - d) + t * (3 * (b - c) + d - a)))
        for a, b, c, d in zip(knots, knots[1:], knots[2:], knots[3:], strict=False)
    ]
    return np.vstack([*spans, knots[-2:-1]])
