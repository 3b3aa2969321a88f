"""Are the chests new ones? With few bodies in training this is the figure to look at first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lesionbrush.core.generate import Generation
from lesionbrush.core.volume import Array
from lesionbrush.evaluation.statistics import frechet_distance, squared_mmd
from lesionbrush.systems.medsyn.channels import WINDOW
from lesionbrush.systems.medsyn.chests import FieldChest, Wishes, bend, give, low_chest, reduce
from lesionbrush.systems.medsyn.pack import PackedChest

SIDE, COARSE, COMPONENTS = 32, 8, 16
MIDDLE = slice(4, 28)
"""Of the field, which nearly all chests fill."""
BENT = 8
"""Of each training chest, in other bodies without findings given: what the networks learned from."""
NO_WISHES = Wishes({})


@dataclass(frozen=True)
class Novelty:
    """Root mean square differences in HU at 32 voxels a side to the nearest training chest: of what was made,
    of training chests in other bodies to themselves, of a chest that was held out. mmd: squared, of made and
    bent chests; mmd_floor: of two halves of the bent ones; frechet, frechet_floor: as both, the squared
    Frechet distance of axial slices; see `SliceFeatures`.
    """

    made_hu: float
    bent_hu: float
    held_out_hu: float
    mmd: float
    mmd_floor: float
    frechet: float
    frechet_floor: float

    def line(self) -> str:
        return (
            f"nearest training chest, HU: {self.made_hu:.0f} of what was made, {self.bent_hu:.0f} of "
            f"training chests bent, {self.held_out_hu:.0f} of the chest held out; squared MMD to bent chests "
            f"{self.mmd:.3f}, between halves of them {self.mmd_floor:.3f}; Frechet distance of slices "
            f"{self.frechet:.2f}, between halves {self.frechet_floor:.2f}"
        )

    def figures(self) -> dict[str, float]:
        return {name: round(value, 3) for name, value in vars(self).items()}


def measure_novelty(
    made: Sequence[Generation],
    trained: Sequence[PackedChest],
    held_out: Sequence[PackedChest],
    rng: np.random.Generator,
) -> Novelty:
    """made: without a text, at 32 voxels a side or a multiple."""
    chests, others = ([low_chest(one, SIDE) for one in some] for some in (trained, held_out))
    bent = [[give(bend(one, 1.0, rng), NO_WISHES, rng) for _ in range(BENT)] for one in chests]
    new = [unstored(one.ct.array) for one in made]
    copies_hu = [copy.hu for copies in bent for copy in copies]
    sample = [_features(hu) for hu in copies_hu]
    order = rng.permutation(len(sample))
    halves = [np.stack([sample[k] for k in part]) for part in (order[::2], order[1::2])]
    slices = SliceFeatures.of(copies_hu)
    slice_halves = [slices.read([copies_hu[k] for k in part]) for part in (order[::2], order[1::2])]
    return Novelty(
        made_hu=float(np.median([min(distance_hu(hu, one) for one in chests) for hu in new])),
        bent_hu=float(
            np.median(
                [
                    distance_hu(copy.hu, one)
                    for copies, one in zip(bent, chests, strict=True)
                    for copy in copies
                ]
            )
        ),
        held_out_hu=float(np.median([min(_between(one, other) for other in chests) for one in others])),
        mmd=squared_mmd(np.stack([_features(hu) for hu in new]), np.stack(sample)),
        mmd_floor=squared_mmd(*halves),
        frechet=frechet_distance(slices.read(new), slices.read(copies_hu)),
        frechet_floor=frechet_distance(*slice_halves),
    )


@dataclass(frozen=True, eq=False)
class SliceFeatures:
    """Axial slices along the principal components of those of known chests, in units of their spread.

    In the place of Inception's features, whose weights cannot be had here: not to be laid beside papers.
    mean: (P,); components: (D, P), of unit variance.
    """

    mean: Array
    components: Array

    @classmethod
    def of(cls, chests: Sequence[Array]) -> SliceFeatures:
        slices = _slices(chests)
        mean = slices.mean(axis=0)
        _, singular, along = np.linalg.svd(slices - mean, full_matrices=False)
        kept = min(COMPONENTS, int((singular > 1e-6 * singular[0]).sum()))
        spread = singular[:kept, None] / np.sqrt(len(slices))
        return cls(mean, along[:kept] / spread)

    def read(self, chests: Sequence[Array]) -> Array:
        """(N, D) of HU (32, 32, 32)."""
        features: Array = (_slices(chests) - self.mean) @ self.components.T
        return features


def _slices(chests: Sequence[Array]) -> Array:
    """(N, P), of the middle of the field."""
    middles = [WINDOW.to_unit(hu)[MIDDLE, MIDDLE, MIDDLE] for hu in chests]
    return np.concatenate([one.reshape(len(one), -1) for one in middles])


def unstored(array: Array) -> Array:
    """(32, 32, 32), superior, anterior, right, of the stored order of a generation, by means of blocks."""
    return reduce(array.transpose(2, 1, 0)[:, ::-1, ::-1], array.shape[0] // SIDE)


def distance_hu(hu: Array, chest: FieldChest) -> float:
    """Where the chest is known, in the model's window."""
    return _rms_hu(hu, chest.hu, chest.known)


def _between(one: FieldChest, other: FieldChest) -> float:
    return _rms_hu(one.hu, other.hu, one.known & other.known)


def _rms_hu(one: Array, other: Array, where: Array) -> float:
    ends = WINDOW.lo_hu, WINDOW.hi_hu
    return float(np.sqrt(np.mean((np.clip(one[where], *ends) - np.clip(other[where], *ends)) ** 2)))


def _features(hu: Array) -> Array:
    """Of the middle of the field, of voxels four times as large."""
    return reduce(WINDOW.to_unit(hu)[MIDDLE, MIDDLE, MIDDLE], SIDE // COARSE).ravel()
