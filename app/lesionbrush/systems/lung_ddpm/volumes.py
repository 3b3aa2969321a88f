"""Training batches of Lung-DDPM: blocks of whole lungs with nodules put into them, and the layout of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lesionbrush.core.hu import HUWindow
from lesionbrush.core.roi import RoiGrid, inside_volume, ramp, to_roi, triangle
from lesionbrush.errors import InvalidRequest
from lesionbrush.systems.lesion_inpainting.data import (
    NoduleCrops,
    Pack,
    compose,
    noise_weight,
    stack,
    stands_free,
)
from lesionbrush.systems.lung_ddpm.cubes import NEAR_MM, NEAR_WEIGHT
from lesionbrush.systems.lung_ddpm.layout import lung_layout, threshold
from lesionbrush.systems.lung_ddpm.trainer import LayoutBatch
from lesionbrush.training.recipes import Patches
from lesionbrush.training.split import is_validation

PATCHES = Patches(sides=(32, 48, 64), shares=(0.45, 0.4, 0.15), counts=(2, 1, 1))
SPACING_MM = (2.0, 3.0)
"""Lungs of adults fill 128 voxels of about this size."""
NODULE_SIDE = 48
TRIES = 6
OUTSIDE_WEIGHT = 0.1
"""Outside the lungs nothing is ever made, but what is there tells the network where it is."""


@dataclass(frozen=True)
class Chest:
    """One chest at 1 mm, axes (z, y, x): int16 HU, bool mask of both lungs, and (N, 3) places of lung."""

    patient: str
    image: np.ndarray
    mask: np.ndarray
    centres: np.ndarray

    def part(self, low: np.ndarray, high: np.ndarray) -> Chest:
        """The box from voxel `low` up to `high`, which may lie beyond the end; as views, and no places."""
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        return Chest(self.patient, self.image[box], self.mask[box], self.centres[:0])


@dataclass(frozen=True)
class ChestBox:
    """A box at 1 mm: HU, and where lung and nodule are. (Z, Y, X)"""

    hu: np.ndarray
    lungs: np.ndarray
    nodule: np.ndarray


def read_lungs(path: Path, *, validation: bool) -> list[Chest]:
    """One side of the split. InvalidRequest when no patient is on it."""
    with np.load(path) as file:
        patients = [str(name) for name in file["patients"]]
        chosen = [k for k, name in enumerate(patients) if is_validation(name) == validation]
        found = [
            Chest(patients[k], file[f"image_{k}"], file[f"mask_{k}"], file[f"centres_{k}"]) for k in chosen
        ]
    if not found:
        side = "held-out" if validation else "training"
        raise InvalidRequest(f"{path} has no {side} chest: delete it and add patients to the data")
    return found


class LungBatches(NoduleCrops[tuple[np.ndarray, ...], LayoutBatch]):
    """Blocks from a few chests, each at another spacing, half of them mirrored left to right."""

    def __init__(
        self,
        pack: Pack,
        chests: Sequence[Chest],
        window: HUWindow,
        generator: np.random.Generator,
        patches: Patches,
    ) -> None:
        super().__init__(pack, window, generator, patches)
        self.chests = chests

    def collate(self, samples: Sequence[tuple[np.ndarray, ...]]) -> LayoutBatch:
        return LayoutBatch(*stack(samples))

    def sample(self, side: int) -> tuple[np.ndarray, ...]:
        """Image (1, Z, Y, X), layout (2, Z, Y, X): lungs and nodule, scored (1, Z, Y, X), weight."""
        spacing_mm = float(self.rng.uniform(*SPACING_MM))
        chest = self.chests[self.rng.integers(len(self.chests))]
        place = chest.centres[self.rng.integers(len(chest.centres))].astype(int)
        reach = side / 2 * spacing_mm
        centre = place + self.rng.uniform(-0.7, 0.7, 3) * reach
        low = np.maximum(np.minimum(centre - reach, place - NODULE_SIDE // 2).astype(int) - 8, 0)
        high = np.maximum(centre + reach, place + NODULE_SIDE // 2).astype(int) + 8
        box = self._with_nodule(chest.part(low, high), place - low)
        grid = RoiGrid.around(centre - low, (side,) * 3, spacing_mm)
        known = inside_volume(RoiGrid.around(centre, (side,) * 3, spacing_mm), chest.image.shape, np.ones(3))
        return self._arrays_of(box, grid, known)

    def _with_nodule(self, chest: Chest, place: np.ndarray) -> ChestBox:
        """The chest with a free-standing nodule at `place`, or as it is when none is found in a few tries."""
        hu = chest.image.astype(np.float32)
        nodule_mask = np.zeros(hu.shape, np.float32)
        start = place - NODULE_SIDE // 2
        box = tuple(slice(s, s + NODULE_SIDE) for s in start)
        fits = (start >= 0).all() and (start + NODULE_SIDE <= np.array(hu.shape)).all()
        for _ in range(TRIES if fits else 0):
            nodule = self._nodule(NODULE_SIDE)
            if stands_free(nodule):
                made = compose(nodule, hu[box], self.rng)
                hu[box], nodule_mask[box] = made.image_hu, made.mask
                break
        return ChestBox(hu, chest.mask | (nodule_mask >= 0.5), nodule_mask)

    def _arrays_of(self, box: ChestBox, grid: RoiGrid, known: np.ndarray) -> tuple[np.ndarray, ...]:
        unit_mm = np.ones(3)
        image = self.window.to_unit(to_roi(box.hu, unit_mm, grid)).astype(np.float32)
        lungs = to_roi(box.lungs, unit_mm, grid, triangle) >= 0.5
        nodule = threshold(to_roi(box.nodule, unit_mm, grid, triangle))
        near = ramp(nodule, grid.spacing_mm, NEAR_MM) > 0 if nodule.any() else nodule
        scored = np.where(near, NEAR_WEIGHT, np.where(lungs, 1.0, OUTSIDE_WEIGHT)).astype(np.float32) * known
        weight = noise_weight(image, known & lungs & ~near)
        layout = lung_layout(lungs, nodule)
        step = -1 if self.rng.random() < 0.5 else 1
        arrays = (image[None], layout, scored[None])
        return *(np.ascontiguousarray(array[..., ::step]) for array in arrays), weight
