"""Balls in balls on any grid: patients whose lesions and organs are closed forms in mm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from lesionbrush.core.volume import Array, Volume

THIN, THICK = (1.4, 1.4, 2.0), (1.1, 1.1, 5.0)
TILT = np.array([[0.96, 0.28, 0.0], [-0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])


def grid(
    spacing_mm: Sequence[float] = THIN, field_mm: float = 120.0, axes: Array | None = None
) -> tuple[tuple[int, ...], Array]:
    """Shape and affine of a cube around the origin; axes: (3, 3) directions of I, J, K."""
    shape = tuple(round(field_mm / mm) for mm in spacing_mm)
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if axes is None else axes) * spacing_mm
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return shape, affine


def positions_mm(shape: Sequence[int], affine: Array) -> Array:
    """(I, J, K, 3) of every voxel's centre."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return index @ affine[:3, :3].T + affine[:3, 3]


def ball(
    centre_mm: Sequence[float],
    radius_mm: float,
    on: tuple[tuple[int, ...], Array],
    squash: Sequence[float] = (1, 1, 1),
) -> Volume:
    """uint8, 1 in it; squash: factors of the radius along the patient's axes."""
    shape, affine = on
    away = (positions_mm(shape, affine) - np.array(centre_mm)) / squash
    return Volume((np.linalg.norm(away, axis=-1) <= radius_mm).astype(np.uint8), affine)


def union(*masks: Volume) -> Volume:
    return masks[0].with_array(np.max([mask.array for mask in masks], axis=0))


def centroid_mm(mask: Volume) -> Array:
    index = np.argwhere(mask.array).mean(axis=0)
    return mask.affine[:3, :3] @ index + mask.affine[:3, 3]


def spread_mm(mask: Volume) -> Array:
    """Standard deviations along the patient's axes; of a ball its radius / sqrt(5)."""
    places = np.argwhere(mask.array) @ mask.affine[:3, :3].T
    return places.std(axis=0)


def volume_mm3(mask: Volume) -> float:
    return float(np.count_nonzero(mask.array) * mask.voxel_volume_mm3)
