"""Calcifications, drawn into lesions of soft tissue, of the kinds that LIDC-IDRI's readers name.

The data have 100 solid ones and seven of all other kinds, and a network knows no HU above its window, while
calcium has up to 2000. CT is linear: what calcium is denser by is added, blurred as all else; grain stays.
Arrays are (B, Z, Y, X) on the ROI, HU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from lesionbrush.systems.lesion_inpainting.card import Calcium
from lesionbrush.systems.lesion_inpainting.laws.cores import (
    Purpose,
    bumps,
    find_half_covered,
    smoothly_highest,
    steepness,
)
from lesionbrush.systems.lesion_inpainting.laws.density import Densities
from lesionbrush.systems.lesion_inpainting.laws.law import Law
from lesionbrush.systems.lesion_inpainting.request import Attributes, SynthesisRequest

if TYPE_CHECKING:
    from lesionbrush.systems.lesion_inpainting.laws.batch import LesionBatch
    from lesionbrush.systems.lesion_inpainting.laws.scene import Scene

SHARES = {"central": 0.12, "non_central": 0.1, "laminated": 0.35, "popcorn": 0.3}
"""Of a lesion's volume, where the data are too few to tell; drawn up to `SHARE_STRAYS` of it more or less."""
SHARE_STRAYS, SHARE_LIMITS = 0.4, (0.04, 0.95)
LARGE_MM = 12.0
"""A solid calcification fills more of what is larger, as its name says; the data have eight, all in part."""
GRAIN_MM, BLUR_MM, ROUNDS = 1.0, 0.6, 5
LEAST_HU, MOST_HU = 200.0, 2200.0
SHELLS_MM = 4.0
"""From one shell of a laminated calcification to the next, at least: closer ones no CT resolves."""


def is_calcified(wish: Attributes) -> bool:
    """Whether a kind of calcification was asked for."""
    return wish.lesion != "none" and wish.calcification not in (None, "none")


def leave_calcium_out(wish: Attributes) -> Attributes:
    """What a lesion is to be before its calcium is drawn, which makes up the mean HU that was asked for."""
    return wish.model_copy(update={"calcification": "none", "mean_hu": None})


def leave_room(mean_hu: float, calcium: Calcium) -> float:
    """The most that a lesion may have before, HU, so that some calcium makes it `mean_hu`."""
    return mean_hu - SHARE_LIMITS[0] * max(calcium.middle_hu[0] - mean_hu, 0.0)


class CalciumLaw(Law):
    """Draws calcifications of the kind that was asked for, into lesions that are made without any."""

    def concerns(self, request: SynthesisRequest) -> bool:
        return is_calcified(request.attributes)

    def settle(self, wish: Attributes, scene: Scene) -> Attributes:
        return wish if scene.calcium is None else leave_calcium_out(wish)

    def finish(self, hu: np.ndarray, lesions: LesionBatch) -> np.ndarray:
        if (calcium := lesions.scene.calcium) is None:
            return hu
        return Calcification(lesions.scene.request.attributes, calcium, lesions.bare).draw_into(hu)


@dataclass(frozen=True, eq=False)
class Calcification:
    """Of B lesions. wish: as asked; lesions: as they are made before."""

    wish: Attributes
    calcium: Calcium
    lesions: Densities

    def draw_into(self, hu: np.ndarray) -> np.ndarray:
        """The same lesions, calcified: with the mean HU that was asked for, or that solid ones have."""
        return np.stack([self._draw_into(k, item) for k, item in enumerate(hu)])

    def _draw_into(self, k: int, hu: np.ndarray) -> np.ndarray:
        mask, spacing_mm, draws = self._in_ct(k), self.lesions.grid.spacing_mm, self.lesions.draws
        if not (inside := find_half_covered(mask)).any():
            return hu
        tissue = ndimage.gaussian_filter(hu, GRAIN_MM / spacing_mm)
        middle_hu = float(draws.hu(self.calcium.middle_hu, Purpose.CALCIUM_MIDDLE_HU)[k])
        height = HEIGHTS[str(self.wish.calcification)](
            inside, spacing_mm, draws.generator(k, Purpose.CALCIUM_PLACE)
        )
        steep, goal, level_hu = steepness(height), self._goal(k), middle_hu
        share = self._share(k, goal, self._mean(k, hu), middle_hu)
        for _ in range(ROUNDS):
            within = float(np.clip(share, *SHARE_LIMITS))
            covered = smoothly_highest(height, steep, mask, within, BLUR_MM / spacing_mm)
            counts = self._mean(k, covered)
            if goal is None or counts == 0:
                break
            level_hu = (goal - self._mean(k, hu - covered * tissue)) / counts
            share *= np.clip(level_hu / middle_hu, 1.0, 2.0)  # blurred, it counts for less than its share
        if self.wish.mean_hu is None:
            level_hu = float(np.clip(level_hu, LEAST_HU, MOST_HU))
        calcified: np.ndarray = hu + covered * (level_hu - tissue)
        return calcified

    def _in_ct(self, k: int) -> np.ndarray:
        """(Z, Y, X) coverage of what lies in the CT; a mask goes on beyond its first and last slice."""
        painted = self.lesions.painted
        beyond = (painted.mask[k] > 0) & (painted.known[k] == 0)
        inside: np.ndarray = np.where(beyond, 0, self.lesions.masks[k])
        return inside

    def _goal(self, k: int) -> float | None:
        """The mean HU of a whole lesion, less what detail of the CT adds to it; None: whatever it becomes."""
        if self.wish.mean_hu is not None:
            return self.wish.mean_hu - float(self.lesions.painted.kept_hu[k])
        if self.wish.calcification != "solid":
            return None
        law, diameters_mm = self.calcium, np.clip(self.lesions.diameters_mm, 1.0, LARGE_MM)
        typical_hu = law.base_hu + law.per_inverse_diameter / diameters_mm
        drawn_hu = self.lesions.draws.hu((typical_hu, law.spread_hu), Purpose.CALCIFIED_MEAN_HU)
        return float((drawn_hu - self.lesions.painted.kept_hu)[k])

    def _share(self, k: int, goal: float | None, mean: float, middle_hu: float) -> float:
        """Of the volume: so that calcium of this density makes the goal of a mean, HU."""
        draws = self.lesions.draws
        if goal is None:
            strays = SHARE_STRAYS * draws.variety * draws.generator(k, Purpose.CALCIUM_SHARE).uniform(-1, 1)
            return SHARES[str(self.wish.calcification)] * (1 + strays)
        share = (goal - mean) / max(middle_hu - mean, 1.0)
        if self.wish.calcification == "solid":
            share = max(share, 1 - LARGE_MM / max(float(self.lesions.diameters_mm[k]), 1.0))
        return max(float(share), SHARE_LIMITS[0])

    def _mean(self, k: int, values: np.ndarray) -> float:
        """Over a lesion, as it counts on the CT's own grid."""
        counted = self.lesions.painted.counted[k]
        return float((counted * values).sum() / max(float(counted.sum()), 1e-6))


Height = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
"""(Z, Y, X) bool inside a lesion, spacing in mm, generator: the higher, the sooner there is calcium."""


def _depth(inside: np.ndarray, spacing_mm: float) -> tuple[np.ndarray, float]:
    """(Z, Y, X) mm to the surface, and the deepest of it."""
    depth_mm = ndimage.distance_transform_edt(inside, sampling=spacing_mm)
    return depth_mm, float(depth_mm.max())


def _solid(inside: np.ndarray, spacing_mm: float, rng: np.random.Generator) -> np.ndarray:
    depth_mm, deepest_mm = _depth(inside, spacing_mm)
    uneven: np.ndarray = depth_mm / deepest_mm + 0.2 * bumps(inside.shape, deepest_mm / 2, spacing_mm, rng)
    return uneven


def _popcorn(inside: np.ndarray, spacing_mm: float, rng: np.random.Generator) -> np.ndarray:
    depth_mm, deepest_mm = _depth(inside, spacing_mm)
    blobs = bumps(inside.shape, max(deepest_mm / 6, spacing_mm), spacing_mm, rng)
    return blobs + np.minimum(depth_mm / (0.4 * deepest_mm), 1)


def _laminate(inside: np.ndarray, spacing_mm: float, rng: np.random.Generator) -> np.ndarray:
    depth_mm, deepest_mm = _depth(inside, spacing_mm)
    apart_mm = max(deepest_mm / 1.8, SHELLS_MM)
    shells = np.cos(2 * np.pi * (depth_mm / apart_mm - rng.uniform(0.3, 0.5)))
    return shells + 0.5 * bumps(inside.shape, max(deepest_mm / 3, spacing_mm), spacing_mm, rng)


def _central(inside: np.ndarray, spacing_mm: float, rng: np.random.Generator) -> np.ndarray:
    depth_mm, deepest_mm = _depth(inside, spacing_mm)
    return _around(np.argwhere(depth_mm == deepest_mm).mean(axis=0), inside.shape, spacing_mm, rng)


def _non_central(inside: np.ndarray, spacing_mm: float, rng: np.random.Generator) -> np.ndarray:
    depth_mm, deepest_mm = _depth(inside, spacing_mm)
    off = np.argwhere(inside & (depth_mm >= 0.25 * deepest_mm) & (depth_mm <= 0.5 * deepest_mm))
    place = off[rng.integers(len(off))] if len(off) else np.argwhere(inside)[0]
    return _around(place, inside.shape, spacing_mm, rng)


def _around(
    place: np.ndarray, shape: tuple[int, ...], spacing_mm: float, rng: np.random.Generator
) -> np.ndarray:
    """The nearer the higher, but for some unevenness."""
    offsets = np.indices(shape) - place.reshape(-1, 1, 1, 1)
    near_mm = spacing_mm * np.sqrt((offsets**2).sum(axis=0))
    height: np.ndarray = -near_mm * (1 + 0.12 * bumps(shape, 2.0, spacing_mm, rng))
    return height


HEIGHTS: dict[str, Height] = {
    "solid": _solid,
    "central": _central,
    "non_central": _non_central,
    "laminated": _laminate,
    "popcorn": _popcorn,
}
