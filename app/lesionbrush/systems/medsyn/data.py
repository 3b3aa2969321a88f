"""Training batches of MedSyn: whole chests with a text at the low resolution, and tiles of finer ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from lesionbrush.reports.findings import ChestFindings
from lesionbrush.systems.medsyn.channels import (
    AIRWAY_BIT,
    CHANNELS,
    LOBE_BITS,
    VESSEL_BIT,
    WINDOW,
    lobes_to_unit,
    share_to_unit,
)
from lesionbrush.systems.medsyn.chests import OUTSIDE_HU, FieldChest, low_chest, reduce, vary
from lesionbrush.systems.medsyn.pack import HIGH, PackedChest
from lesionbrush.systems.medsyn.recipes import MedSynRecipe, Refinement

Describe = Callable[[ChestFindings, np.random.Generator], str]
Encode = Callable[[Sequence[str]], Tensor]
LEAST_KNOWN = 0.3
"""Of a tile there is data in."""
TRIES = 20


@dataclass(frozen=True)
class MedSynBatch:
    """Float32. image: (B, 4, Z, Y, X); shown: (B, S, Z, Y, X); text: (B, tokens, width), None for tiles.

    scored: as the image, 0 where there is no data; weight: (B,).
    """

    image: Tensor
    shown: Tensor
    text: Tensor | None
    scored: Tensor
    weight: Tensor


@dataclass(frozen=True, eq=False)
class JointSample:
    """image (4, Z, Y, X), shown (S, Z, Y, X), known (Z, Y, X) bool, and what is said of it."""

    image: np.ndarray
    shown: np.ndarray
    known: np.ndarray
    text: str = ""


class MedSynBatches:
    """Draws a batch of whole chests, or of tiles, by the recipe's share."""

    def __init__(
        self,
        chests: Sequence[PackedChest],
        recipe: MedSynRecipe,
        rng: np.random.Generator,
        describe: Describe,
        encode: Encode,
    ) -> None:
        self.packed, self.recipe, self.rng = chests, recipe, rng
        self.describe, self.encode = describe, encode

    @cached_property
    def chests(self) -> list[FieldChest]:
        """At the low resolution."""
        return [low_chest(one, self.recipe.low_side) for one in self.packed]

    @cached_property
    def whole_body(self) -> np.ndarray:
        """Shares of the chests: by how much of the field there is data in, squared, so that a body that is
        all there is seen more often than one cropped around its lungs."""
        shares = np.array([one.known.mean() for one in self.chests]) ** 2
        return shares / shares.sum()

    def draw(self) -> MedSynBatch:
        if self.rng.random() < self.recipe.low_share:
            _, count = self.recipe.patches.draw(self.rng)
            return self.collate([self.whole() for _ in range(count)], read=True)
        count = self.recipe.tiles * self.recipe.patches.scale
        return self.collate([self.tile() for _ in range(count)], read=False)

    def collate(self, samples: Sequence[JointSample], *, read: bool) -> MedSynBatch:
        image, shown = (
            torch.from_numpy(np.stack(arrays))
            for arrays in ([one.image for one in samples], [one.shown for one in samples])
        )
        known = np.stack([one.known for one in samples]).astype(np.float32)[:, None]
        scored = torch.from_numpy(known).expand_as(image).contiguous()
        text = self.encode([one.text for one in samples]) if read else None
        return MedSynBatch(image, shown, text, scored, torch.ones(len(samples)))

    def whole(self) -> JointSample:
        """A chest with other findings in another body; its text is left out now and then, so that the
        network knows what it makes of none."""
        chest = vary(self.chests[self.rng.choice(len(self.chests), p=self.whole_body)], self.rng)
        text = self.describe(chest.findings, self.rng)
        dropped = self.rng.random() < self.recipe.drop_text
        shown = chest.known.astype(np.float32)[None] * 2 - 1
        return JointSample(channels_of(chest), shown, chest.known, "" if dropped else text)

    def tile(self) -> JointSample:
        """A tile of a chest, and beside it what it is some times coarser."""
        packed = self.packed[self.rng.choice(len(self.packed), p=self.whole_body)]
        stage = self.recipe.stages[self.rng.integers(len(self.recipe.stages))]
        side = self.recipe.tile
        for _ in range(TRIES):
            room = (stage.side * stage.factor - side) // stage.factor
            low = [int(self.rng.integers(room + 1)) for _ in range(3)]
            sample = tile_of(packed, low, stage, side)
            if sample.known.mean() >= LEAST_KNOWN:
                break
        amount = float(self.rng.uniform(0, self.recipe.low_noise))
        noise = amount * self.rng.standard_normal(sample.shown.shape).astype(np.float32)
        return JointSample(sample.image, sample.shown + noise, sample.known)


def channels_of(chest: FieldChest) -> np.ndarray:
    """(4, Z, Y, X) float32 in [-1, 1]."""
    shares = (share_to_unit(chest.airways), share_to_unit(chest.vessels))
    return np.stack([WINDOW.to_unit(chest.hu), lobes_to_unit(chest.lobes), *shares]).astype(np.float32)


def tile_of(packed: PackedChest, low: Sequence[int], stage: Refinement, side: int) -> JointSample:
    """The tile of so many voxels a side that begins at the coarse voxel `low` of a stage.

    The four coarse channels are repeated along each axis: nearest neighbours, as in Eq. 10.
    """
    native, factor = HIGH // stage.side, stage.factor
    places = tuple(slice(native * first, native * (first + side // factor)) for first in low)
    hu, labels = packed.hu[places].astype(np.float32), packed.labels[places]
    known = np.zeros(packed.hu.shape, bool)[places]
    known[tuple(_within(part, place) for part, place in zip(packed.known, places, strict=True))] = True
    fine = _channels(hu, labels, known, native // factor)
    coarse = _channels(hu, labels, known, native)
    return JointSample(fine.image, enlarge(coarse.image, factor), fine.known)


def _within(part: slice, place: slice) -> slice:
    """What of a box along one axis lies in a tile, counted from the tile's begin."""
    length = place.stop - place.start
    return slice(min(max(part.start - place.start, 0), length), min(max(part.stop - place.start, 0), length))


def _channels(hu: np.ndarray, labels: np.ndarray, known: np.ndarray, factor: int) -> JointSample:
    """Of arrays at 256³, `factor` times coarser."""
    middle = slice(factor // 2, None, factor)
    covered = reduce(known, factor) > 0.99
    image = np.stack(
        [
            WINDOW.to_unit(np.where(covered, reduce(hu, factor), OUTSIDE_HU)),
            lobes_to_unit(labels[middle, middle, middle] & LOBE_BITS),
            share_to_unit(reduce(labels & AIRWAY_BIT > 0, factor)),
            share_to_unit(reduce(labels & VESSEL_BIT > 0, factor)),
        ]
    )
    return JointSample(image.astype(np.float32), image[:0], covered)


def enlarge(image: np.ndarray, factor: int) -> np.ndarray:
    """(C, Z, Y, X), every voxel `factor` times along each axis."""
    assert len(image) == len(CHANNELS)
    return image.repeat(factor, 1).repeat(factor, 2).repeat(factor, 3)
