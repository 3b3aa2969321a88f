"""Axial slices for an unconditional model, from the pack: chest, nodules in lung, nodules as they were cut.

Arrays are (Y, X) on the model's grid, row 0 posterior, column 0 left (as `Pack`'s last two axes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from lesionbrush.core.boxes import cut
from lesionbrush.systems.lesion_inpainting.data import PackBatches, Sample, compose, noise_weight, stands_free
from lesionbrush.training.recipes import Patches

PATCHES = Patches(sides=(64, 96, 128), shares=(0.7, 0.15, 0.15), voxels_per_batch=32_768)
CHEST_SHARE, COMPOSED_SHARE = 0.6, 0.25
"""The rest are nodules in their own small crop: what is missing of the patch is mirrored, and not scored."""
AIR_HU = -1000


@dataclass(frozen=True)
class SliceBatch:
    """Float32: image (B, 1, Y, X) in [-1, 1]; scored: 1 where it is real data; weight (B,), by scan noise."""

    image: Tensor
    scored: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Slice:
    """One patch, still numpy, (Y, X). known: where there is real data."""

    image_hu: np.ndarray
    known: np.ndarray


class SliceBatches(PackBatches[Slice, SliceBatch]):
    """Slices of chests, some with a nodule put into them, and of nodules in their own crops."""

    def sample(self, side: int) -> Slice:
        kind = self.rng.random()
        if kind < CHEST_SHARE:
            drawn = self._chest(side)
        elif kind < CHEST_SHARE + COMPOSED_SHARE and self._free.size:
            drawn = self._compose(side)
        else:
            drawn = self._nodule(side)
        flips = tuple(axis for axis in range(2) if self.rng.random() < 0.5)
        return Slice(np.flip(drawn.image_hu, flips), np.flip(drawn.known, flips))

    @cached_property
    def _free(self) -> np.ndarray:
        """The nodules with lung all around, which can be put into any lung."""
        return np.array([k for k in self.pack.nodules if stands_free(self._whole(k))], dtype=int)

    def _whole(self, k: int) -> Sample:
        image, mask = self.pack.nodule(k)
        return Sample(image, mask / np.float32(255), np.ones(image.shape, bool), self.pack.attributes(k))

    def _chest(self, side: int) -> Slice:
        """A patch with lung in it, not always in its middle: pleura, ribs and mediastinum come with it."""
        hosts = [(k, *self.pack.host(int(k))) for k in self.pack.hosts]
        wide = [host for host in hosts if min(host[1].shape[1:]) >= side] or hosts
        chances = np.sqrt([len(centres) for _, _, centres in wide])
        _, image, centres = wide[int(self.rng.choice(len(wide), p=chances / chances.sum()))]
        z, *centre = centres[self.rng.integers(len(centres))].astype(int)
        start = np.array(centre) - self.rng.integers(0, side, 2)
        start = np.clip(start, 0, np.maximum(0, np.array(image.shape[1:]) - side))
        return frame_slice(image[z], -start, side)

    def _slice_of(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """A slice through nodule k: HU, coverage 0..1."""
        image, mask = self.pack.nodule(k)
        z = int(self.rng.choice(np.flatnonzero((mask > 127).any(axis=(1, 2)))))
        return image[z], mask[z] / np.float32(255)

    def _place(self, shape: tuple[int, ...], side: int) -> np.ndarray:
        """Where the corner of an array goes, so that it is inside the patch, or covers it."""
        room = side - np.array(shape)
        return self.rng.integers(np.minimum(room, 0), np.maximum(room, 0) + 1)

    def _nodule(self, side: int) -> Slice:
        hu, _ = self._slice_of(self._rare(self.pack.nodules))
        return mirror_slice(hu, self._place(hu.shape, side), side)

    def _rare(self, among: np.ndarray) -> int:
        weights = self.pack.weights[np.searchsorted(self.pack.nodules, among)]
        return int(self.rng.choice(among, p=weights / weights.sum()))

    def _compose(self, side: int) -> Slice:
        hu, mask = self._slice_of(self._rare(self._free))
        corner = self._place(hu.shape, side)
        nodule, coverage = frame_slice(hu, corner, side), frame_slice(mask, corner, side, fill=0)
        host = self._chest(side)
        layers = (nodule.image_hu, coverage.image_hu, nodule.known)
        image, mask, known = (layer[None] for layer in layers)
        made = compose(Sample(image, mask, known, np.empty(0)), host.image_hu[None], self.rng)
        return Slice(made.image_hu[0], host.known)

    def collate(self, samples: Sequence[Slice]) -> SliceBatch:
        image = np.stack([self.window.to_unit(s.image_hu) for s in samples]).astype(np.float32)
        known = np.stack([s.known for s in samples])
        pairs = zip(image[:, None], known[:, None], strict=True)
        weight = np.stack([noise_weight(*pair) for pair in pairs])
        scored = known.astype(np.float32)
        return SliceBatch(*map(torch.from_numpy, (image[:, None], scored[:, None], weight)))


def frame_slice(array: np.ndarray, corner: np.ndarray, side: int, fill: float = AIR_HU) -> Slice:
    """A square of `side` voxels with (Y, X) `array` placed at `corner`, which may lie outside; float32."""
    parts = ((array.astype(np.float32), fill), (np.ones(array.shape, bool), False))
    image, known = (cut(part, -corner, (side, side), nothing) for part, nothing in parts)
    return Slice(image, known)


def mirror_slice(array: np.ndarray, corner: np.ndarray, side: int) -> Slice:
    """As `frame_slice`, but what the array does not reach is its own mirror image."""
    placed = frame_slice(array, corner, side)
    before = np.maximum(corner, 0)
    after = np.maximum(side - corner - array.shape, 0)
    grown = np.pad(array, tuple(zip(before, after, strict=True)), mode="symmetric")
    return Slice(frame_slice(grown, np.minimum(corner, 0), side).image_hu, placed.known)
