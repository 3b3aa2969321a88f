"""An organ as a field: how deep every point lies in it, in mm. Positions are RAS mm, (..., 3)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates

from lesionbrush.core.boxes import Box, bounding_box, cut
from lesionbrush.core.volume import Array, Volume

FINE_MM = 1.5
"""Finer voxels are skipped where places are searched; what is found is then looked at voxel by voxel."""
AROUND_MM = 12.0


@dataclass(frozen=True, eq=False)
class MmField:
    """Values on a grid of its own. values: (I, J, K); affine: 4x4, its voxel index to RAS mm."""

    values: Array
    affine: Array

    @cached_property
    def _to_index(self) -> Array:
        return np.linalg.inv(self.affine)

    def at(self, points_mm: Array) -> Array:
        """(...) at points (..., 3); beyond the grid what is nearest in it."""
        index = points_mm @ self._to_index[:3, :3].T + self._to_index[:3, 3]
        values: Array = map_coordinates(self.values, np.moveaxis(index, -1, 0), order=1, mode="nearest")
        return values

    def blurred(self, mm: float) -> MmField:
        """The same with values blurred by so much."""
        spacing = np.linalg.norm(self.affine[:3, :3], axis=0)
        return MmField(gaussian_filter(self.values, mm / spacing), self.affine)

    def fall_at(self, points_mm: Array) -> Array:
        """(N, 3): the direction, of length 1, in which values fall fastest, at points (N, 3)."""
        spacing = np.linalg.norm(self.affine[:3, :3], axis=0)
        axes = self.affine[:3, :3] / spacing
        falls = [
            (self.at(points_mm - axis * mm) - self.at(points_mm + axis * mm)) / mm
            for axis, mm in zip(axes.T, spacing, strict=True)
        ]
        fall: Array = np.stack(falls, axis=-1) @ axes.T
        return fall / np.maximum(np.linalg.norm(fall, axis=-1, keepdims=True), 1e-9)


@dataclass(frozen=True, eq=False)
class Extent:
    """Where an organ lies. centre_mm, spread_mm: (3,) mean and standard deviation of its voxels along the
    patient's axes; low_mm, high_mm: (3,) where it begins and ends along them.
    """

    centre_mm: Array
    spread_mm: Array
    low_mm: Array
    high_mm: Array
    volume_mm3: float

    @classmethod
    def of(cls, organ: Volume) -> Extent:
        """organ: not 0 in it. Raises EmptyMask."""
        inside, affine = thinned(organ.array, organ)
        places = np.argwhere(inside) @ affine[:3, :3].T + affine[:3, 3]
        volume = np.count_nonzero(organ.array) * organ.voxel_volume_mm3
        mean, spread = places.mean(axis=0), places.std(axis=0)
        return cls(mean, spread, places.min(axis=0), places.max(axis=0), float(volume))


def depth_field(organ: Volume) -> MmField:
    """Depth below the organ's surface in mm, negative outside. What lies beyond the volume is not organ."""
    inside, affine = thinned(organ.array, organ)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    depth = distance_transform_edt(inside, sampling=spacing).astype(np.float32)
    depth -= distance_transform_edt(~inside, sampling=spacing).astype(np.float32)
    return MmField(depth, affine)


def distance_field(taken: Array, like: Volume, organ: Array) -> MmField:
    """How far every point is from what is taken, in mm, around an organ. taken: not 0; arrays on one grid."""
    inside, affine = thinned(organ, like, taken)
    if not inside.any():
        return MmField(np.full(inside.shape, np.inf, np.float32), affine)
    away = distance_transform_edt(~inside, sampling=np.linalg.norm(affine[:3, :3], axis=0))
    return MmField(away.astype(np.float32), affine)


def thinned(organ: Array, like: Volume, shown: Array | None = None) -> tuple[Array, Array]:
    """bool: the organ, or what is `shown` there, and `AROUND_MM` around, no finer than needed; its affine.

    Beyond the volume nothing is. Raises EmptyMask.
    """
    spacing = np.array(like.spacing_mm)
    box = bounding_box(organ)
    grow = np.ceil(AROUND_MM / spacing).astype(int)
    start = np.array([part.start for part in box]) - grow
    size = [part.stop - part.start + 2 * n for part, n in zip(box, grow, strict=True)]
    step = np.maximum(1, (FINE_MM / spacing).astype(int))
    part = (
        cut(organ if shown is None else shown, start, size, 0)[tuple(slice(None, None, n) for n in step)] > 0
    )
    affine = like.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ start
    affine[:3, :3] = affine[:3, :3] * step
    return part, affine


def depths_in(organ: Array, box: Box, margin_mm: float, like: Volume) -> Array:
    """float64 on `box`: how far each voxel's centre is from the nearest one that is not organ, in mm; true up
    to the margin, beyond it no less. What lies beyond the volume is not organ. 0 outside.
    """
    return _away_from(organ == 0, box, margin_mm, like, beyond=True)


def distances_to(taken: Array, box: Box, margin_mm: float, like: Volume) -> Array:
    """The same to the nearest voxel that is taken (not 0); nothing is taken beyond the volume."""
    return _away_from(taken > 0, box, margin_mm, like, beyond=False)


def _away_from(what: Array, box: Box, margin_mm: float, like: Volume, *, beyond: bool) -> Array:
    spacing = np.array(like.spacing_mm)
    grow = np.ceil(margin_mm / spacing).astype(int) + 1
    start = np.array([part.start for part in box]) - grow
    size = [part.stop - part.start + 2 * n for part, n in zip(box, grow, strict=True)]
    near = cut(what, start, size, beyond)
    inner = tuple(slice(n, -n) for n in grow)
    if not near.any():
        return np.full(near[inner].shape, np.inf)
    away: Array = distance_transform_edt(~near, sampling=spacing)[inner]
    return away


def closed(organ: Array, radius_mm: float, spacing_mm: Array) -> Array:
    """bool: the organ with notches narrower than two radii filled, as where a lesion was cut out of it."""
    if not organ.any():
        return organ
    grown = distance_transform_edt(~organ, sampling=spacing_mm) <= radius_mm
    if grown.all():
        return grown
    shrunk: Array = distance_transform_edt(grown, sampling=spacing_mm) > radius_mm
    return shrunk | organ
