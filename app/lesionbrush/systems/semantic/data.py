"""Training batches of semantic CT: slices with their layout, cropped, mirrored and deformed together.

Arrays are (Y, X) on the pixels of a patch, row 0 posterior, column 0 left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from lesionbrush.core.roi import axis_weights
from lesionbrush.errors import InvalidRequest
from lesionbrush.systems.semantic.classes import OUTSIDE, UNKNOWN
from lesionbrush.systems.semantic.diffusion import show
from lesionbrush.systems.semantic.layouts import without_tissues
from lesionbrush.systems.semantic.pack import ClassedCT
from lesionbrush.systems.semantic.recipes import SPACING_MM, SemanticRecipe
from lesionbrush.training.recipes import Patches

AIR_HU = -1000.0
MIRROR_SHARE, SHIFT_HU = 0.3, 10.0
MIRRORED = {2: 3, 3: 2, 11: 12, 12: 11}
"""What lies on the patient's right is called right."""
KNOTS = 5
"""Of the field of a deformation along each side."""


@dataclass(frozen=True)
class SemanticBatch:
    """Float32: image (B, 1, Y, X) in units of the scale; conditions (B, C, Y, X); scored: 1 where the layout
    is known, or known to be left out; weight (B,)."""

    image: Tensor
    conditions: Tensor
    scored: Tensor
    weight: Tensor


@dataclass(frozen=True, eq=False)
class LaidSlice:
    """One patch, still numpy. labels: uint8 classes, with tissues and `UNKNOWN`; scored: bool."""

    hu: np.ndarray
    labels: np.ndarray
    scored: np.ndarray


@dataclass(frozen=True, eq=False)
class SliceFrame:
    """Where the rows and columns of a patch lie in a slice, mm from the middle of its first pixel."""

    rows_mm: np.ndarray
    columns_mm: np.ndarray

    @classmethod
    def around(cls, centre_mm: np.ndarray, side: int, spacing_mm: np.ndarray) -> SliceFrame:
        steps = np.arange(side) - (side - 1) / 2
        return cls(centre_mm[0] + steps * spacing_mm[0], centre_mm[1] + steps * spacing_mm[1])

    def cut(self, ct: ClassedCT, z: int) -> tuple[np.ndarray, np.ndarray]:
        """HU, resampled as a request does it, and the class of the nearest pixel; air beyond the CT."""
        weights, nearest, there = [], [], []
        for axis, target in enumerate((self.rows_mm, self.columns_mm), start=1):
            size, mm = ct.hu.shape[axis], float(ct.spacing_mm[axis])
            weights.append(axis_weights(np.arange(size) * mm, target))
            index = np.floor(target / mm + 0.5).astype(int)
            there.append((index >= 0) & (index < size))
            nearest.append(np.clip(index, 0, size - 1))
        inside = there[0][:, None] & there[1]
        hu = weights[0] @ ct.hu[z].astype(np.float32) @ weights[1].T
        labels = ct.labels[z][np.ix_(*nearest)]
        return np.where(inside, hu, AIR_HU), np.where(inside, labels, np.uint8(OUTSIDE))


class SemanticBatches:
    """Draws batches of the pack without end; everything random comes from the generator.

    InvalidRequest for a pack without a CT.
    """

    def __init__(
        self,
        cts: Sequence[ClassedCT],
        recipe: SemanticRecipe,
        generator: np.random.Generator,
        patches: Patches,
    ) -> None:
        if not cts:
            raise InvalidRequest("one side of the split has no CT: point --data at a folder with more")
        self.cts, self.recipe, self.rng, self.patches = cts, recipe, generator, patches

    def draw(self) -> SemanticBatch:
        side, count = self.patches.draw(self.rng)
        return self.collate([self.sample(side) for _ in range(count)])

    @cached_property
    def _slices(self) -> list[np.ndarray]:
        """For each CT, the slices with something to learn from."""
        return [np.flatnonzero(self._scored(ct, ct.labels).any(axis=(1, 2))) for ct in self.cts]

    def _scored(self, ct: ClassedCT, labels: np.ndarray) -> np.ndarray:
        return np.ones(labels.shape, bool) if ct.scores_unknown else labels != UNKNOWN

    def sample(self, side: int) -> LaidSlice:
        """One patch of so many pixels a side."""
        shares = np.array([ct.share * bool(len(z)) for ct, z in zip(self.cts, self._slices, strict=True)])
        k = int(self.rng.choice(len(self.cts), p=shares / shares.sum()))
        ct, z = self.cts[k], int(self.rng.choice(self._slices[k]))
        spacing_mm = self._spacing_mm(ct, side)
        frame = SliceFrame.around(self._centre_mm(ct, z, side * spacing_mm), side, spacing_mm)
        hu, labels = self._deform(*frame.cut(ct, z), spacing_mm)
        if self.rng.random() < MIRROR_SHARE:
            hu, labels = hu[:, ::-1], mirror_classes(labels[:, ::-1])
        return LaidSlice(hu + self.rng.uniform(-SHIFT_HU, SHIFT_HU), labels, self._scored(ct, labels))

    def _spacing_mm(self, ct: ClassedCT, side: int) -> np.ndarray:
        """(2,) of a patch's rows and columns."""
        if self.recipe.whole:
            return np.array(ct.hu.shape[1:]) * ct.spacing_mm[1:] / side
        return np.full(2, SPACING_MM * float(self.rng.uniform(*self.recipe.zoom)))

    def _centre_mm(self, ct: ClassedCT, z: int, patch_mm: np.ndarray) -> np.ndarray:
        """The middle of the slice, or a place in what can be learnt from, the patch not far beyond the CT."""
        extent_mm = np.array(ct.hu.shape[1:]) * ct.spacing_mm[1:]
        middle = (extent_mm - ct.spacing_mm[1:]) / 2
        if self.recipe.whole:
            return middle
        wanted = (ct.labels[z] != OUTSIDE) & self._scored(ct, ct.labels[z])
        places = np.argwhere(wanted) if wanted.any() else np.argwhere(np.ones_like(wanted))
        chosen = places[self.rng.integers(len(places))] * ct.spacing_mm[1:]
        room = np.maximum(0, (extent_mm - patch_mm) / 2) + 0.1 * patch_mm
        centre: np.ndarray = np.clip(chosen, middle - room, middle + room)
        return centre

    def _deform(
        self, hu: np.ndarray, labels: np.ndarray, spacing_mm: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Image and layout along one smooth field: a patient who is not among the few."""
        most = self.recipe.deform_mm
        if most <= 0:
            return hu, labels
        strength = self.rng.uniform(0, most) / spacing_mm
        field = [draw_field(hu.shape[0], self.rng) * pixels for pixels in strength]
        at = np.indices(hu.shape) + np.stack(field)
        moved = ndimage.map_coordinates(hu, at, order=3, mode="nearest")
        found = ndimage.map_coordinates(labels, at, order=0, mode="nearest")
        return moved.clip(hu.min(), hu.max()), found

    def collate(self, samples: Sequence[LaidSlice]) -> SemanticBatch:
        image = self.recipe.scale.to_unit(np.stack([one.hu for one in samples]).astype(np.float32))
        labels = np.stack([self._told(one.labels) for one in samples])
        scored = np.stack([one.scored for one in samples]).astype(np.float32)
        conditions = show(labels, self.recipe.network)
        first, third = (torch.from_numpy(array)[:, None] for array in (image, scored))
        return SemanticBatch(first, torch.from_numpy(conditions), third, torch.ones(len(samples)))

    def _told(self, labels: np.ndarray) -> np.ndarray:
        """What the network is told of a layout: now and then nothing, or no tissues, or none in a part."""
        if self.rng.random() < self.recipe.drop_layout:
            return np.full_like(labels, UNKNOWN)
        bare = without_tissues(labels)
        if not self.recipe.network.tissues or self.rng.random() < self.recipe.drop_tissues:
            return bare
        if self.rng.random() < self.recipe.drop_tissues:  # in a part, as where a request takes an organ out
            return np.where(draw_field(len(labels), self.rng) > 0, bare, labels)
        return labels


def mirror_classes(labels: np.ndarray) -> np.ndarray:
    """The classes of a mirrored patient: kidneys and adrenal glands change sides."""
    table = np.arange(256, dtype=np.uint8)
    for one, other in MIRRORED.items():
        table[one] = other
    return table[labels]


def draw_field(side: int, rng: np.random.Generator) -> np.ndarray:
    """(side, side): smooth, between about -1 and 1."""
    knots = rng.uniform(-1, 1, (KNOTS, KNOTS))
    places = np.linspace(0, KNOTS - 1, side)
    return ndimage.map_coordinates(knots, np.meshgrid(places, places, indexing="ij"), order=3, mode="nearest")
