"""A lesion as a body in mm, whatever grid it was painted on; turned, scaled, bent, and drawn on another grid.

Positions and offsets are RAS mm, (..., 3). For the point `centre + matrix @ q` it is asked at `q + bend(q)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt, map_coordinates

from lesionbrush.core.boxes import Box, bounding_box, box_of, cut
from lesionbrush.core.volume import Array, Volume

_POINTS_ALONG = 12
"""How finely a lesion is looked at before it is drawn: points along its longest side."""
_WAVES = 6


@dataclass(frozen=True, eq=False)
class Bend:
    """A smooth displacement: waves (N, 3) in radians per mm, phases (N,), heights (N, 3) in mm."""

    waves: Array
    phases: Array
    heights: Array

    @classmethod
    def draw(cls, radius_mm: float, share: float, generator: np.random.Generator) -> Bend:
        """No point moves further than `share` of the radius; waves are one to two diameters long."""
        lengths_mm = radius_mm * generator.uniform(2, 4, _WAVES)
        waves = _directions(_WAVES, generator) * (2 * np.pi / lengths_mm)[:, None]
        phases = generator.uniform(0, 2 * np.pi, _WAVES)
        return cls(waves, phases, _directions(_WAVES, generator) * radius_mm * share / _WAVES)

    @property
    def most_mm(self) -> float:
        return float(np.linalg.norm(self.heights, axis=1).sum())

    def at(self, offsets_mm: Array) -> Array:
        """(..., 3): where the body is asked for these points."""
        if not self.most_mm:
            return offsets_mm
        moved: Array = offsets_mm + np.sin(offsets_mm @ self.waves.T + self.phases) @ self.heights
        return moved


def _directions(count: int, generator: np.random.Generator) -> Array:
    drawn = generator.normal(size=(count, 3))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


@dataclass(frozen=True, eq=False)
class LesionForm:
    """signed_mm: (I, J, K) distance to the surface around the lesion, negative inside; to_index: (3, 3), mm
    to voxels of it; middle_index: where its centroid lies in it; centre_mm: the same in the patient;
    reach_mm: of its furthest voxel from there.
    """

    signed_mm: Array
    to_index: Array
    middle_index: Array
    centre_mm: Array
    volume_mm3: float
    reach_mm: float

    @classmethod
    def of(cls, lesion: Volume) -> LesionForm:
        """lesion: not 0 in it. Between thick slices the body is interpolated. Raises EmptyMask."""
        box = bounding_box(lesion.array)
        start = np.array([part.start - 2 for part in box])
        inside = cut(lesion.array, start, [part.stop - part.start + 4 for part in box], 0) > 0
        sampling = lesion.spacing_mm
        signed = distance_transform_edt(~inside, sampling=sampling)
        signed -= distance_transform_edt(inside, sampling=sampling)
        voxels = np.argwhere(inside)
        middle, axes = voxels.mean(axis=0), lesion.affine[:3, :3]
        reach = np.linalg.norm((voxels - middle) @ axes.T, axis=1).max() + min(sampling) / 2
        centre = axes @ (middle + start) + lesion.affine[:3, 3]
        volume = len(voxels) * lesion.voxel_volume_mm3
        return cls(signed, np.linalg.inv(axes), middle, centre, volume, float(reach))

    @property
    def radius_mm(self) -> float:
        """Of a ball with its volume."""
        return float(np.cbrt(self.volume_mm3 * 3 / (4 * np.pi)))

    def signed_distance(self, offsets_mm: Array) -> Array:
        """(...): to the surface in mm, negative inside, at offsets (..., 3) from the centroid."""
        index = offsets_mm @ self.to_index.T + self.middle_index
        values: Array = map_coordinates(self.signed_mm, np.moveaxis(index, -1, 0), order=1, mode="nearest")
        return values

    def points(self, bend: Bend) -> Array:
        """(P, 3) offsets that fill the bent body, the centroid first."""
        most = self.reach_mm + bend.most_mm
        along = np.linspace(-most, most, _POINTS_ALONG + 1)
        lattice = np.stack(np.meshgrid(along, along, along, indexing="ij"), axis=-1).reshape(-1, 3)
        inside = lattice[self.signed_distance(bend.at(lattice)) <= 0]
        return np.concatenate([np.zeros((1, 3)), inside])

    def draw(self, grid: Volume, centre_mm: Array, matrix: Array, bend: Bend) -> tuple[Box, Array]:
        """A box of the grid and bool on it: the body there, with its volume to half a voxel.

        Those voxels are taken that lie deepest in the body, so that neither thick slices nor the bend make it
        larger or smaller. Nothing is in it when the lesion is less than half a voxel. The box ends where the
        grid does.
        """
        to_index = np.linalg.inv(grid.affine[:3, :3])
        centre = to_index @ (centre_mm - grid.affine[:3, 3])
        around = np.abs((self.points(bend) @ matrix.T) @ to_index.T).max(axis=0) + 2
        box = _clipped(centre, around, grid.shape)
        index = np.stack(np.meshgrid(*(np.arange(p.start, p.stop) for p in box), indexing="ij"), axis=-1)
        away_mm = (index - centre) @ grid.affine[:3, :3].T
        signed = self.signed_distance(bend.at(away_mm @ np.linalg.inv(matrix).T))
        wanted_mm3 = self.volume_mm3 * abs(np.linalg.det(matrix))
        count = min(round(wanted_mm3 / grid.voxel_volume_mm3), signed.size)
        inside = np.zeros(signed.size, bool)
        inside[np.argsort(signed, axis=None, kind="stable")[:count]] = True
        return box, inside.reshape(signed.shape)


def _clipped(centre: Array, around: Array, shape: tuple[int, ...]) -> Box:
    low = np.clip(np.floor(centre - around), 0, shape).astype(int)
    high = np.clip(np.ceil(centre + around) + 1, low, shape).astype(int)
    return box_of(zip(low, high, strict=True))
