"""Chests as the network that reads a text sees them, and what makes more bodies of a few.

Bodies are bent, lungs are given findings that the few have not: fluid, emphysema, consolidation, a wide
heart, each by a rule and each measured on the result, so that a text about it is true. Nothing is mirrored:
a heart on the right is another disease. Arrays are (Z, Y, X), superior, anterior, right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from lesionbrush.anatomy.chest.naming import (
    LEFT_LOWER,
    LEFT_UPPER,
    LEFT_WHOLE,
    RIGHT_LOWER,
    RIGHT_MIDDLE,
    RIGHT_UPPER,
    RIGHT_WHOLE,
)
from lesionbrush.reports.findings import ChestFindings, Measurement
from lesionbrush.systems.medsyn.channels import AIRWAY_BIT, HEART_BIT, LOBE_BITS, VESSEL_BIT
from lesionbrush.systems.medsyn.pack import HIGH, PackedChest

SIDES: Mapping[str, tuple[int, ...]] = {
    "right": (RIGHT_UPPER, RIGHT_MIDDLE, RIGHT_LOWER, RIGHT_WHOLE),
    "left": (LEFT_UPPER, LEFT_LOWER, LEFT_WHOLE),
}
OUTSIDE_HU = -1024.0
FLUID_HU, DENSE_HU, EMPHYSEMA_HU = 8.0, 30.0, -978.0
LAA_HU = -950
SEAM_HU = -150.0
"""Between a lung and its wall voxels are darker than tissue, and part of neither."""
NOT_SAID = Measurement(why_not="the field is as large as the lungs")
"""Of lung volumes: every chest fills its field alike, so a text about them would say nothing of the image."""


@dataclass(frozen=True, eq=False)
class FieldChest:
    """(N, N, N) arrays of one chest in its field.

    hu: float32; lobes: uint8; airways, vessels, heart: float32 shares, 0..1; known: bool, where there is
    data; size_mm: of the field.
    """

    hu: np.ndarray
    lobes: np.ndarray
    airways: np.ndarray
    vessels: np.ndarray
    heart: np.ndarray
    known: np.ndarray
    size_mm: tuple[float, float, float]
    findings: ChestFindings

    @property
    def scale(self) -> float:
        """Of lengths that were chosen at 64 voxels a side."""
        return self.hu.shape[0] / 64

    @property
    def voxel_ml(self) -> float:
        return float(np.prod(self.size_mm)) / self.hu.size / 1000

    def lung(self, side: str) -> np.ndarray:
        """bool: one lung without its airways."""
        inside: np.ndarray = np.isin(self.lobes, SIDES[side]) & (self.airways < 0.5)
        return inside


def reduce(array: np.ndarray, factor: int) -> np.ndarray:
    """Means of blocks of `factor` voxels a side, float32."""
    z, y, x = (side // factor for side in array.shape)
    blocks = array.reshape(z, factor, y, factor, x, factor)
    means: np.ndarray = blocks.mean(axis=(1, 3, 5), dtype=np.float32)
    return means


def low_chest(packed: PackedChest, side: int) -> FieldChest:
    """At so many voxels a side: means of blocks of voxels, and the nearest lobe (Sec. V.A of the paper)."""
    factor = HIGH // side
    known = np.zeros(packed.hu.shape, bool)
    known[packed.known] = True
    airways, vessels, heart = (
        reduce(packed.labels & bit > 0, factor) for bit in (AIRWAY_BIT, VESSEL_BIT, HEART_BIT)
    )
    middle = slice(factor // 2, None, factor)
    lobes = packed.labels[middle, middle, middle] & LOBE_BITS
    covered = reduce(known, factor) > 0.99
    hu = np.where(covered, reduce(packed.hu, factor), OUTSIDE_HU).astype(np.float32)
    findings = packed.findings.model_copy(update={"right_lung_ml": NOT_SAID, "left_lung_ml": NOT_SAID})
    return FieldChest(hu, lobes, airways, vessels, heart, covered, packed.size_mm, findings)


@dataclass(frozen=True)
class Wishes:
    """What a chest is to be given; None leaves one as it is. heart: how many times wider."""

    effusion_ml: Mapping[str, float]
    emphysema_percent: float | None = None
    consolidation_ml: float | None = None
    heart: float | None = None

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Wishes:
        """Half of all chests get no fluid, and half no emphysema; all hearts are a little wider or not."""
        effusions = {side: float(rng.uniform(80, 1800)) for side in SIDES if rng.random() < 0.35}
        emphysema = float(rng.uniform(6, 45)) if rng.random() < 0.45 else None
        dense = float(rng.uniform(20, 400)) if rng.random() < 0.2 else None
        heart = float(rng.uniform(1.15, 1.7)) if rng.random() < 0.45 else float(rng.uniform(0.9, 1.1))
        return cls(effusions, emphysema, dense, heart)


def vary(chest: FieldChest, rng: np.random.Generator) -> FieldChest:
    """Another body with other findings."""
    wishes = Wishes.draw(rng)
    return give(bend(chest, wishes.heart or 1.0, rng), wishes, rng)


# --- findings by rule ---


def give(chest: FieldChest, wishes: Wishes, rng: np.random.Generator) -> FieldChest:
    """The findings that are wished for, as far as there is lung, and what was measured of them."""
    said: dict[str, Measurement] = {}
    if wishes.emphysema_percent is not None:
        chest = _darken(chest, wishes.emphysema_percent, rng)
    if wishes.consolidation_ml is not None:
        chest, ml = _consolidate(chest, wishes.consolidation_ml, rng)
        before = chest.findings.consolidation_ml.value
        said["consolidation_ml"] = Measurement(value=round(ml + (before or 0.0), 1))
    for side, wished_ml in wishes.effusion_ml.items():
        chest, ml = _flood(chest, side, wished_ml, rng)
        said[f"effusion_{side}_ml"] = Measurement(value=round(ml))
    said["laa950_percent"] = measure_emphysema(chest)
    said |= measure_heart(chest)
    return replace(chest, findings=chest.findings.model_copy(update=said))


def measure_emphysema(chest: FieldChest) -> Measurement:
    """Percent of both lungs below -950 HU, on these voxels."""
    inside = chest.lung("right") | chest.lung("left")
    if not inside.any():
        return Measurement(why_not="no lung is left")
    return Measurement(value=round(100 * float((chest.hu[inside] < LAA_HU).mean()), 2))


def measure_heart(chest: FieldChest) -> dict[str, Measurement]:
    """Widths of heart and chest on the axial slice where the heart is widest; nothing where none is known."""
    inside = chest.heart > 0.5
    if not inside.any():
        return {}
    x_mm = chest.size_mm[2] / chest.hu.shape[2]
    widths = np.array([_width(one) for one in inside])
    z = int(widths.argmax())
    across = _width(chest.lung("right")[z] | chest.lung("left")[z])
    heart_mm, chest_mm = widths[z] * x_mm, max(across, widths[z]) * x_mm
    found = {"heart_width_mm": heart_mm, "chest_width_mm": chest_mm}
    ratio = Measurement(value=round(float(heart_mm / chest_mm), 3))
    return {name: Measurement(value=round(float(mm))) for name, mm in found.items()} | {
        "cardiothoracic_ratio": ratio
    }


def _width(mask: np.ndarray) -> int:
    across = np.flatnonzero(mask.any(axis=0))
    return int(across[-1] - across[0] + 1) if len(across) else 0


def _flood(chest: FieldChest, side: str, ml: float, rng: np.random.Generator) -> tuple[FieldChest, float]:
    """Fluid in the place of lung, from the back and the base upwards, as it lies in a supine patient."""
    lung = chest.lung(side)
    if not lung.any():
        return chest, 0.0
    z, y, _ = (_share_along(lung, axis) for axis in range(3))
    score = -(y + float(rng.uniform(0.25, 0.6)) * z) + 0.06 * _smooth(chest.hu.shape, 4 * chest.scale, rng)
    filled = _highest(score, lung, min(ml / chest.voxel_ml, 0.75 * np.count_nonzero(lung)))
    flooded = _replace(chest, filled, FLUID_HU + float(rng.uniform(-6, 10)), aerated=False)
    return flooded, float(np.count_nonzero(filled) * chest.voxel_ml)


def _consolidate(chest: FieldChest, ml: float, rng: np.random.Generator) -> tuple[FieldChest, float]:
    """A dense part of one lung around a random place in it."""
    lung = chest.lung("right" if rng.random() < 0.55 else "left")
    if not lung.any():
        return chest, 0.0
    places = np.argwhere(lung)
    away = np.indices(lung.shape) - places[rng.integers(len(places))][:, None, None, None]
    rough = 2 * chest.scale
    score = -np.sqrt((away**2).sum(axis=0)) + rough * _smooth(lung.shape, rough, rng)
    filled = _highest(score, lung, min(ml / chest.voxel_ml, 0.5 * np.count_nonzero(lung)))
    dense = _replace(chest, filled, DENSE_HU + float(rng.uniform(-15, 20)), aerated=True)
    return dense, float(np.count_nonzero(filled) * chest.voxel_ml)


def _darken(chest: FieldChest, percent: float, rng: np.random.Generator) -> FieldChest:
    """Emphysema: patches of lung, more of them above, without most of its tissue."""
    lung = (chest.lung("right") | chest.lung("left")) & (chest.vessels < 0.3)
    if not lung.any():
        return chest
    score = _smooth(lung.shape, 2.5 * chest.scale, rng) + float(rng.uniform(0, 1.2)) * _share_along(lung, 0)
    dark = _highest(score, lung, percent / 100 * np.count_nonzero(lung))
    wanted = np.minimum(chest.hu, EMPHYSEMA_HU + 8 * _smooth(lung.shape, 1.0, rng))
    share = np.maximum(ndimage.gaussian_filter(dark.astype(np.float32), 0.6) * lung, dark)
    return replace(chest, hu=(chest.hu + share * (wanted - chest.hu)).astype(np.float32))


def _replace(chest: FieldChest, filled: np.ndarray, hu: float, *, aerated: bool) -> FieldChest:
    """Those voxels at one density with a soft border. aerated: they stay part of their lobe."""
    seam = ndimage.binary_dilation(filled) & (chest.hu < SEAM_HU) & (chest.lobes == 0)
    whole = filled | seam & (chest.airways < 0.5)
    share = np.maximum(ndimage.gaussian_filter(whole.astype(np.float32), 0.5), whole)
    share *= chest.airways < 0.5
    inside = share > 0.5
    return replace(
        chest,
        hu=(chest.hu + share * (hu - chest.hu)).astype(np.float32),
        lobes=chest.lobes if aerated else np.where(inside, 0, chest.lobes).astype(np.uint8),
        vessels=np.where(inside, 0, chest.vessels).astype(np.float32),
    )


def _highest(score: np.ndarray, inside: np.ndarray, count: float) -> np.ndarray:
    """bool: so many voxels of `inside`, those of the highest score."""
    chosen = np.zeros(inside.shape, bool)
    places = np.flatnonzero(inside)
    count = min(int(count), len(places))
    if count:
        chosen.flat[places[np.argpartition(-score.flat[places], count - 1)[:count]]] = True
    return chosen


def _share_along(inside: np.ndarray, axis: int) -> np.ndarray:
    """0 where `inside` begins along an axis, 1 where it ends; broadcasts over the others."""
    there = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
    shape = [1, 1, 1]
    shape[axis] = -1
    share = (np.arange(inside.shape[axis]) - there[0]) / max(there[-1] - there[0], 1)
    along: np.ndarray = share.reshape(shape)
    return along


def _smooth(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Noise of unit spread, smooth over `sigma` voxels."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape).astype(np.float32), sigma, mode="wrap")
    smooth: np.ndarray = field / field.std()
    return smooth


# --- other bodies ---


def bend(chest: FieldChest, heart: float, rng: np.random.Generator) -> FieldChest:
    """All arrays along one smooth field of displacements, with the heart so many times as wide."""
    shape = chest.hu.shape
    places = np.indices(shape).astype(np.float32)
    middle = (np.array(shape, np.float32)[:, None, None, None] - 1) / 2
    scale = rng.uniform(0.92, 1.08, 3)[:, None, None, None]
    knots = rng.uniform(-1, 1, (3, 4, 4, 4))
    strength = rng.uniform(0, 2.5) * chest.scale
    field = np.stack([ndimage.zoom(one, shape[0] // 4, order=3, mode="nearest") for one in knots])
    shift = chest.scale * rng.uniform(-1.5, 1.5, 3)[:, None, None, None]
    at = middle + (places - middle) / scale + strength * field + shift
    at += _widen(chest.heart, at, heart)

    def move(array: np.ndarray, order: int, beyond: float) -> np.ndarray:
        moved = ndimage.map_coordinates(array, at, order=order, mode="constant", cval=beyond)
        same: np.ndarray = moved.astype(array.dtype)
        return same

    known = ndimage.map_coordinates(chest.known.astype(np.uint8), at, order=0, mode="constant") > 0
    return replace(
        chest,
        hu=np.where(known, move(chest.hu, 1, OUTSIDE_HU), OUTSIDE_HU).astype(np.float32),
        lobes=move(chest.lobes, 0, 0),
        airways=move(chest.airways, 1, 0),
        vessels=move(chest.vessels, 1, 0),
        heart=move(chest.heart, 1, 0),
        known=known,
    )


def _widen(heart: np.ndarray, at: np.ndarray, times: float) -> np.ndarray:
    """What is added to places so that the heart is wider to both sides, and half as much to the front; the
    chest wall stays where it is."""
    inside = heart > 0.5
    if times == 1 or not inside.any():
        return np.zeros_like(at)
    where = np.argwhere(inside)
    centre = where.mean(axis=0)
    reach = 1.6 * times**0.5 * np.maximum(where.std(axis=0) * 1.7, 3 * heart.shape[0] / 64)
    away = at - centre[:, None, None, None]
    weight = np.exp(-(((away / reach[:, None, None, None]) ** 2).sum(axis=0) ** 2))
    shrink = 1 - 1 / np.array([1.0, times**0.5, times])
    added: np.ndarray = -shrink[:, None, None, None] * away * weight
    return added
