"""What the network is trained and tested on: boxes at 1 mm, axes (z, y, x) to superior, anterior, right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lesionbrush.core.boxes import cut
from lesionbrush.core.volume import Volume
from lesionbrush.evaluation.cases import Nodule
from lesionbrush.evaluation.patches import UNKNOWN_HU, Patch, patch_of

SHAPE = (16, 40, 40)
"""What the network sees: the crops of our data are about 8 x 30 x 30 mm."""
SHIFT = (2, 6, 6)
"""A lesion is so many voxels off the middle at most, or its place would give it away."""
SIDE = 56
WindowHu = tuple[float, float]
LUNG_WINDOW_HU, SOFT_WINDOW_HU = (-1000.0, 400.0), (-160.0, 240.0)


@dataclass(frozen=True, eq=False)
class LesionBox:
    """A lesion with its surroundings, cubes of `SIDE`. group: by which figures are told apart."""

    patch: Patch
    patient: str
    group: str

    @property
    def volume_mm3(self) -> int:
        return int(np.count_nonzero(self.patch.inside))

    def seen(self, shift: Sequence[int] = (0, 0, 0)) -> Patch:
        """The part of `SHAPE` around the middle, moved."""
        start = (np.array(self.patch.hu.shape) - SHAPE) // 2 + np.asarray(shift)
        columns = ((self.patch.hu, UNKNOWN_HU), (self.patch.inside, False), (self.patch.known, False))
        return Patch(*(cut(array, start, SHAPE, fill) for array, fill in columns))

    def through(self, known: np.ndarray) -> LesionBox:
        """As if the CT ended where that of another sample does: what a crop does not show tells nothing."""
        both = self.patch.known & known
        hu = np.where(both, self.patch.hu, np.float32(UNKNOWN_HU))
        return replace(self, patch=Patch(hu, self.patch.inside & both, both))


def sample_of(
    ct: Volume, mask: Volume, patient: str, group: str, array: np.ndarray | None = None
) -> LesionBox:
    """array: other HU on the grid of the CT, as `patch_of` takes it."""
    return LesionBox(patch_of(ct, mask, array, SIDE), patient, group)


def real_sample(nodule: Nodule) -> LesionBox:
    """Other lesions beside it are not shown: they are neither it nor what surrounds it."""
    crop, mask = nodule.case.crop, nodule.case.mask
    box = sample_of(crop, mask, nodule.patient, nodule.texture)
    if nodule.others is None:
        return box
    coverage = patch_of(crop, mask, np.where(nodule.others, 1000, 0), SIDE).hu
    return box.through(coverage < 100)


@dataclass(frozen=True, eq=False)
class SampleBatch:
    """(B, 2, *SHAPE): HU of the window in -1 to 1, and where there is data; (B, 1, *SHAPE): the lesion."""

    shown: Tensor
    inside: Tensor

    @property
    def known(self) -> Tensor:
        return self.shown[:, 1:] > 0


def collate(patches: Sequence[Patch], window_hu: WindowHu = LUNG_WINDOW_HU) -> SampleBatch:
    low, high = window_hu
    hu = np.stack([patch.hu for patch in patches])
    known = np.stack([patch.known for patch in patches]).astype(np.float32)
    shown = np.stack((((hu - low) / (high - low)).clip(0, 1) * 2 - 1, known), axis=1).astype(np.float32)
    inside = np.stack([patch.inside for patch in patches])[:, None].astype(np.float32)
    return SampleBatch(torch.from_numpy(shown), torch.from_numpy(inside))


def draw_batch(
    samples: Sequence[LesionBox],
    count: int,
    rng: np.random.Generator,
    window_hu: WindowHu = LUNG_WINDOW_HU,
) -> SampleBatch:
    """Shifted, and mirrored in all axes."""
    patches = []
    for k in rng.integers(len(samples), size=count):
        patch = samples[k].seen([rng.integers(-most, most + 1) for most in SHIFT])
        axes = tuple(axis for axis in range(3) if rng.random() < 0.5)
        parts = (np.flip(part, axes) for part in (patch.hu, patch.inside, patch.known))
        patches.append(Patch(*parts))
    return collate(patches, window_hu)


def held_out_patches(samples: Sequence[LesionBox]) -> list[Patch]:
    """Shifted too, the same way every time."""
    rng = np.random.default_rng(0)
    return [one.seen([rng.integers(-most, most + 1) for most in SHIFT]) for one in samples]
