"""Training batches from the pack: real nodules, nodules composed into lungs, and healthy lung.

Arrays are (z, y, x) on the model's grid.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from scipy.ndimage import binary_erosion, gaussian_filter
from torch import Tensor

from lesionbrush.core.boxes import cut
from lesionbrush.core.hu import HUWindow
from lesionbrush.core.roi import ramp
from lesionbrush.errors import InvalidRequest
from lesionbrush.systems.lesion_inpainting.attributes import ATTRIBUTES, as_input, healthy
from lesionbrush.training.loop import BatchT
from lesionbrush.training.recipes import Patches
from lesionbrush.training.split import is_validation

PATCHES = Patches(sides=(24, 32, 48), shares=(0.35, 0.3, 0.35), counts=(16, 8, 2))
"""None below 24: with 2^3 voxels at the lowest level, torch's bfloat16 gradients on a CPU are random."""
HEALTHY_SHARE, COMPOSED_SHARE = 0.2, 0.3
BLIND_SHARE = 0.08
"""Of all patches: nothing is given, so that the same network is also an unconditional model of lung."""
MARGIN_MM = (1.5, 5.0)
USUAL_NOISE = 0.03
LUNG_HU, DENSER_HU, FREE_SHARE = -700.0, 100.0, 0.85
WEIGHTS = (0.3, 4.0)
TEXTURE = ATTRIBUTES.index("texture")
SampleT = TypeVar("SampleT")


@dataclass(frozen=True)
class Batch:
    """Float32 tensors (B, 1, Z, Y, X), in [-1, 1] for the image; attributes (B, 2 A).

    visible: 1 where the context is known; scored: 1 where the prediction is held against real data.
    weight: (B,), larger for scans with little noise, so that the noisy ones do not drown them.
    """

    image: Tensor
    visible: Tensor
    mask: Tensor
    scored: Tensor
    attributes: Tensor
    weight: Tensor

    @property
    def conditions(self) -> Tensor:
        """(B, 3, Z, Y, X): visible context (0 where unknown), visibility, lesion mask."""
        return torch.cat((self.image * self.visible, self.visible, self.mask), dim=1)


@dataclass(frozen=True)
class Sample:
    """One patch, still numpy, (Z, Y, X). known: where there is real data; blind: nothing of it is shown."""

    image_hu: np.ndarray
    mask: np.ndarray
    known: np.ndarray
    attributes: np.ndarray
    blind: bool = False


class Pack:
    """The pack in memory, split by patient. Files stay flat; items are views."""

    def __init__(self, path: Path, *, validation: bool) -> None:
        with np.load(path) as file:
            self._data = {name: file[name] for name in file.files}
        self.nodules = self._select("nodule", validation)
        self.hosts = self._select("host", validation)
        self.extents = np.array([_extent(self.nodule(k)[1]) for k in self.nodules])
        self.weights = np.array([_rarity(self.attributes(k)) for k in self.nodules])

    def _select(self, kind: str, validation: bool) -> np.ndarray:
        patients = self._data[f"{kind}_patients"]
        return np.array([k for k, p in enumerate(patients) if is_validation(str(p)) == validation], dtype=int)

    def name(self, k: int) -> str:
        return str(self._data["nodule_names"][k])

    def nodule(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """(image HU, coverage 0..255) of nodule k."""
        return self._item("nodule", "images", k), self._item("nodule", "masks", k)

    def attributes(self, k: int) -> np.ndarray:
        return self._data["nodule_attributes"][k]

    def host(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """(image HU, places of lung (N, 3)) of host k."""
        return self._item("host", "images", k), self._data[f"host_centres_{k}"]

    def _item(self, kind: str, what: str, k: int) -> np.ndarray:
        shapes = self._data[f"{kind}_shapes"]
        start = int(shapes[:k].prod(axis=1).sum())
        shape = shapes[k]
        return self._data[f"{kind}_{what}"][start : start + int(shape.prod())].reshape(shape)


def side_of_split(path: Path, *, validation: bool) -> Pack:
    """Raises InvalidRequest when one side of the split has no patient."""
    pack = Pack(path, validation=validation)
    if not len(pack.nodules) or not len(pack.hosts):
        side = "held-out" if validation else "training"
        raise InvalidRequest(
            f"{path} has {len(pack.nodules)} {side} nodules and {len(pack.hosts)} {side} CTs; it needs both: "
            "delete it and point --data at a folder with more patients"
        )
    return pack


def noise_level(image: np.ndarray, visible: np.ndarray) -> float:
    """Robust standard deviation of in-plane neighbour differences over sqrt(2), in the visible context.

    The median passes over edges and vessels. `USUAL_NOISE` where nothing is visible.
    """
    pairs = visible[:, :, 1:] & visible[:, :, :-1]
    if not pairs.any():
        return USUAL_NOISE
    steps = np.abs(np.diff(image, axis=2))[pairs]
    return max(float(np.median(steps)) / (0.6745 * np.sqrt(2)), 1e-3)


def noise_weight(image: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """() float32: how much a patch counts, by the `noise_level` of its scan."""
    return np.asarray(np.clip((USUAL_NOISE / noise_level(image, visible)) ** 2, *WEIGHTS), np.float32)


def stack(samples: Iterable[Sequence[np.ndarray]]) -> list[Tensor]:
    """(B, ...) of each array that a sample consists of."""
    return [torch.from_numpy(np.stack(column)) for column in zip(*samples, strict=True)]


def _extent(mask: np.ndarray) -> int:
    places = np.argwhere(mask > 127)
    return int((places.max(axis=0) - places.min(axis=0)).max()) + 1


def _rarity(attributes: np.ndarray) -> float:
    """Ground glass is under a tenth of the nodules: draw it more often."""
    texture = attributes[TEXTURE]
    return 4.0 if texture <= 0.25 else 2.5 if texture <= 0.75 else 1.0


class PackBatches(ABC, Generic[SampleT, BatchT]):
    """Draws batches of the pack without end; everything random comes from the generator."""

    def __init__(
        self, pack: Pack, window: HUWindow, generator: np.random.Generator, patches: Patches
    ) -> None:
        self.pack, self.window, self.rng, self.patches = pack, window, generator, patches

    def draw(self) -> BatchT:
        side, count = self.patches.draw(self.rng)
        return self.collate([self.sample(side) for _ in range(count)])

    @abstractmethod
    def sample(self, side: int) -> SampleT:
        """One patch of so many voxels a side."""

    @abstractmethod
    def collate(self, samples: Sequence[SampleT]) -> BatchT:
        """The batch of some patches."""


class NoduleCrops(PackBatches[SampleT, BatchT]):
    """What patches with a nodule are made of: the nodules in their crops, and lung to put them into."""

    def _nodule(self, side: int) -> Sample:
        """A real nodule in its own crop; what lies outside the crop is unknown."""
        k = self._choose(side)
        image, mask = self.pack.nodule(k)
        image, mask = _turn(image, mask, self.rng)
        start, cube = _placement(mask > 127, side, self.rng), (side,) * 3
        known = cut(np.ones(image.shape, bool), start, cube, False)
        fill = float(np.median(image[mask < 128])) if (mask < 128).any() else -850.0
        hu = cut(image.astype(np.float32), start, cube, fill)
        coverage = cut(mask / np.float32(255), start, cube, 0.0)
        return Sample(hu, coverage, known, self.pack.attributes(k))

    def _choose(self, side: int) -> int:
        """A nodule that suits the patch: with its surroundings it fills much of it, the largest excepted.

        Any, for a side that is none of ours.
        """
        if side not in PATCHES.sides:
            return int(self.rng.choice(self.pack.nodules, p=self.pack.weights / self.pack.weights.sum()))
        need = self.pack.extents + 10
        smaller = [s for s in PATCHES.sides if s < side]
        low = smaller[-1] if smaller else 0
        high = np.inf if side == PATCHES.sides[-1] else side
        suits = (need > low) & (need <= high)
        weights = self.pack.weights * np.where(suits, 1.0, 0.02 * (need <= high))
        return int(self.rng.choice(self.pack.nodules, p=weights / weights.sum()))

    def _host_patch(self, side: int) -> np.ndarray:
        sizes = np.array([len(self.pack.host(k)[1]) for k in self.pack.hosts], dtype=float)
        image, centres = self.pack.host(int(self.rng.choice(self.pack.hosts, p=sizes / sizes.sum())))
        centre = centres[self.rng.integers(len(centres))].astype(int)
        start = np.clip(centre - side // 2, 0, np.array(image.shape) - side)
        patch = cut(image, start, (side,) * 3, 0).astype(np.float32)
        return _turn(patch, patch, self.rng)[0]

    def _compose(self, nodule: Sample, side: int) -> Sample:
        """One that grows on a pleura or a vessel stays in its crop: cut loose from it, it is no nodule."""
        return compose(nodule, self._host_patch(side), self.rng) if stands_free(nodule) else nodule


class Batches(NoduleCrops[Sample, Batch]):
    """Nodules in their crops and in lungs, healthy lung, and patches of which nothing is told."""

    def sample(self, side: int) -> Sample:
        if self.rng.random() < BLIND_SHARE:
            return blind(self._conditional(side))
        return self._conditional(side)

    def _conditional(self, side: int) -> Sample:
        kind = self.rng.random()
        if kind < HEALTHY_SHARE:
            return self._healthy(side)
        nodule = self._nodule(side)
        return self._compose(nodule, side) if kind < HEALTHY_SHARE + COMPOSED_SHARE else nodule

    def _healthy(self, side: int) -> Sample:
        """Lung under the mask of some lesion: what a removal should bring back."""
        mask = self._nodule(side).mask
        return Sample(self._host_patch(side), mask, np.ones(mask.shape, bool), healthy())

    def collate(self, samples: Sequence[Sample]) -> Batch:
        stacked = stack(self._arrays(sample) for sample in samples)
        image, visible, mask, scored = (t[:, None] for t in stacked[:4])
        return Batch(image, visible, mask, scored, *stacked[4:])

    def _arrays(self, sample: Sample) -> tuple[np.ndarray, ...]:
        margin = self.rng.uniform(*MARGIN_MM)
        edit = (ramp(sample.mask > 0.5, 1.0, margin) > 0) | sample.blind
        image = self.window.to_unit(sample.image_hu).astype(np.float32)
        attributes = as_input(self._drop(sample.attributes))
        flags = (sample.known & ~edit, sample.known & edit)
        visible, scored = (flag.astype(np.float32) for flag in flags)
        weight = noise_weight(image, visible > 0)
        return image, visible, sample.mask.astype(np.float32), scored, attributes, weight

    def _drop(self, attributes: np.ndarray) -> np.ndarray:
        """Leave attributes open at random, so that any subset may be asked for. Being a lesion stays."""
        drop = self.rng.random(len(attributes)) < self.rng.random()
        drop[0] = False  # in a blind sample it is open already
        return np.where(drop, np.nan, attributes).astype(np.float32)


def blind(sample: Sample) -> Sample:
    """The same image with nothing said about it: no context, no mask, no attribute; all of it is scored."""
    attributes = np.full_like(sample.attributes, np.nan)
    return Sample(sample.image_hu, np.zeros_like(sample.mask), sample.known, attributes, blind=True)


def stands_free(nodule: Sample) -> bool:
    """Whether almost all that is known within 4 mm around the nodule is lung."""
    near = (ramp(nodule.mask > 0.1, 1.0, 4.0) > 0) & (nodule.mask <= 0.1) & nodule.known
    return bool(near.any()) and float((nodule.image_hu[near] < -500).mean()) > FREE_SHARE


def compose(nodule: Sample, host_hu: np.ndarray, rng: np.random.Generator) -> Sample:
    """The nodule in lung with context on all sides, put there the way a result is put back into a CT."""
    weight = ramp(nodule.mask > 0.5, 1.0, rng.uniform(2.0, 4.0)) * nodule.known
    weight = weight * (1 - in_the_way(host_hu, nodule))
    hu = host_hu + weight * (nodule.image_hu - host_hu)
    return Sample(hu, nodule.mask, np.ones_like(nodule.known), nodule.attributes)


def in_the_way(host_hu: np.ndarray, nodule: Sample) -> np.ndarray:
    """0..1: where the host's own tissue stays: pleura and vessels right up to the nodule, so that no rim of
    the nodule's lung comes between, and vessels that run through ground glass, but nothing in a cavity."""
    inside = nodule.mask > 0.5
    excess = gaussian_filter(host_hu, 0.7) - np.where(inside, nodule.image_hu, LUNG_HU) - DENSER_HU
    cavity = binary_erosion(inside, iterations=2) & (nodule.image_hu < LUNG_HU)
    return (np.clip(excess / DENSER_HU, 0, 1) * ~cavity).astype(np.float32)


def _turn(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The same random mirror image and in-plane transpose of both arrays."""
    flips = tuple(axis for axis in range(3) if rng.random() < 0.5)
    a, b = np.flip(a, flips), np.flip(b, flips)
    return (a.swapaxes(1, 2), b.swapaxes(1, 2)) if rng.random() < 0.5 else (a, b)


def _placement(mask: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """Where a patch starts so that the lesion (or, if it is larger, a part of it) lies inside at random."""
    places = np.argwhere(mask)
    low, high = places.min(axis=0), places.max(axis=0) + 1
    first, last = high - side + 4, low - 4
    first, last = np.minimum(first, last), np.maximum(first, last)
    return rng.integers(first, last + 1)
