"""Lung that gives way to fluid: it lies beside it, pressed together, with its vessels. Arrays are (Z, Y, X).

A voxel at distance d of fluid that is t thick there shows what lay t exp(-d / L) nearer to the wall, L being
short: most of what the fluid took the place of lies within a finger's breadth of it, as in atelectasis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lesionbrush.core.boxes import bounding_box, dilate
from lesionbrush.systems.medsyn.finding.averages import average

FADES_SHARE, FADES_MM = 0.16, 1.5
"""L: this share of the fluid's thickness, and so much more."""
FULL, FULL_MM = 2.2, 6.0
"""Beside thick fluid there is no air left in a rim, and half as much of that where it is so thick. Lung that
kept its tissue alone would have a rim two thirds as wide; collapsed lung holds more blood."""
SMOOTH_MM, CLEAR_MM = 3.0, 0.5
"""How far thickness and way are averaged; less than the second is no way."""
TISSUE_HU, MOST_DENSE = 60.0, 1.0
"""What lung without air is; and how much of that it becomes at most."""
EDGE_VOXELS = 0.8
"""How far density is averaged, which is told in steps of voxels; beyond the lung it goes on, for the wall is
half air."""
HALVINGS, LOOKS, FAR_MM, AROUND_VOXELS = 4, 20, 40.0, 3
"""How often a way is halved that begins outside the lung; in how many places it is looked for a wall between
lung and fluid; and from where on it stays as it is."""


@dataclass(frozen=True, eq=False)
class GivingWay:
    """pull_mm: (3, Z, Y, X) along z, y, x, from how far away the lung is that comes to lie here; dense:
    (Z, Y, X), 0..1, how much of it is as without air."""

    pull_mm: np.ndarray
    dense: np.ndarray

    @classmethod
    def none(cls, shape: tuple[int, ...]) -> GivingWay:
        return cls(np.zeros((3, *shape)), np.zeros(shape))


def give_way(fluid: np.ndarray, lung: np.ndarray, spacing_mm: np.ndarray) -> GivingWay:
    """fluid, lung: bool, what is filled and all that may be; of fluid what lies in the lung counts."""
    way = GivingWay.none(lung.shape)
    if not (lung & fluid).any() or not (lung & ~fluid).any():
        return way
    box = dilate(bounding_box(lung), AROUND_VOXELS * float(spacing_mm.max()), spacing_mm, lung.shape)
    there = _give_way(fluid[box] & lung[box], lung[box], spacing_mm)
    z, y, x = box
    way.pull_mm[:, z, y, x], way.dense[box] = there.pull_mm, there.dense
    return way


def _give_way(fluid: np.ndarray, lung: np.ndarray, spacing_mm: np.ndarray) -> GivingWay:
    away_mm, nearest = ndimage.distance_transform_edt(~fluid, sampling=spacing_mm, return_indices=True)
    deep_mm = ndimage.distance_transform_edt(lung, sampling=spacing_mm)
    seen = _seen(lung & (away_mm < FAR_MM), lung, nearest)
    rest, voxels = seen & ~fluid, SMOOTH_MM / spacing_mm
    thick_mm = average(deep_mm[tuple(nearest)], lung, voxels)  # at its surface: how far the wall is
    length_mm = FADES_SHARE * thick_mm + FADES_MM
    share = np.exp(-away_mm / length_mm)
    towards = (nearest - np.indices(fluid.shape)) * spacing_mm.reshape(3, 1, 1, 1) / np.maximum(away_mm, 1e-6)
    pull_mm = rest * average(towards * thick_mm * share * rest, rest, voxels)
    dense = np.clip(FULL * thick_mm / (thick_mm + FULL_MM) * share, 0, MOST_DENSE)
    smooth = average(dense * seen, lung, EDGE_VOXELS) * (seen | ~lung)
    return GivingWay(_stay_inside(pull_mm, lung, spacing_mm), smooth)


def _seen(near: np.ndarray, lung: np.ndarray, nearest: np.ndarray) -> np.ndarray:
    """Of what is near, lung with nothing but lung on the straight way to its nearest fluid: not the other
    one."""
    there, to = np.argwhere(near).T, nearest[:, near]
    free = np.ones(there.shape[1], bool)
    for share in np.linspace(0, 1, LOOKS, endpoint=False):
        z, y, x = np.rint(there + share * (to - there)).astype(int)
        free &= lung[z, y, x]
    seen = np.zeros_like(lung)
    seen[near] = free
    return seen


def _stay_inside(pull_mm: np.ndarray, lung: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """Shorter where it would begin outside the lung: nothing of the wall is drawn into it."""
    inside, there = lung.astype(np.float32), np.indices(lung.shape).astype(np.float64)
    for _ in range(HALVINGS):
        at = there + pull_mm / spacing_mm.reshape(3, 1, 1, 1)
        outside = ndimage.map_coordinates(inside, at, order=1, mode="nearest") < 0.99
        pull_mm = np.where(outside, 0.5 * pull_mm, pull_mm)
    return np.where(np.linalg.norm(pull_mm, axis=0) > CLEAR_MM, pull_mm, 0)
