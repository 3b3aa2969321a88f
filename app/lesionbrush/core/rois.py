"""What a model is asked to fill, and what it gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class NativeMean:
    """What a ROI's HU come to in the mask on the CT's own grid: mean = kept_hu + sum(counted * hu).

    counted: (L, Z, Y, X) float32; kept_hu: (L,), from the detail of the CT that stays.
    """

    counted: np.ndarray
    kept_hu: np.ndarray


@dataclass(frozen=True)
class RoiBatch:
    """What a model is to fill: L lesions on equal grids, axes (z, y, x) to superior, anterior, right.

    reference_hu: (L, Z, Y, X) float32; mask: lesion coverage 0..1; editable: bool, where HU may change;
    inside: bool, where the CT has data; reachable: bool, where spicules and lobes that a model draws may
    change HU as well, None for no further than editable. slice_mm: how far apart the slices of the CT are,
    None if unknown. digests: one number per lesion, of its mask and of the CT under it.
    own: what the model's own `prepare` made of its inputs.
    """

    reference_hu: np.ndarray
    mask: np.ndarray
    editable: np.ndarray
    inside: np.ndarray
    native: NativeMean | None = None
    spacing_mm: float = 1.0
    reachable: np.ndarray | None = None
    slice_mm: float | None = None
    digests: tuple[int, ...] | None = None
    own: Any = None

    @property
    def native_mean(self) -> NativeMean:
        """Of lesions that lie on no CT, the mean over their coverage."""
        shares = self.mask / self.mask.sum(axis=(1, 2, 3), keepdims=True)
        return self.native or NativeMean(shares, np.zeros(len(self.mask)))

    def entropy(self, seed: int, lesion: int) -> tuple[int, int]:
        """What all random numbers of a lesion come from.

        One seed gives the lesions of a hundred CTs a hundred different densities and grains, and a lesion the
        same ones whatever else is painted.
        """
        return seed, lesion if self.digests is None else self.digests[lesion]

    def items(self, seeds: Sequence[int]) -> list[tuple[int, int]]:
        """What is to be made: every lesion (its number) for every seed."""
        return [(seed, lesion) for seed in seeds for lesion in range(len(self.reference_hu))]


@dataclass(frozen=True)
class Sampled:
    """What came out of a model, on which device, and what the user should be told about it.

    hu: (V, L, Z, Y, X) float32. drawn: None, or like hu, 0..1: where the lesion reaches into the margin, and
    a sample counts in full. kept: None, or like hu, 0..1: where the model has nothing to say, and the CT
    stays as it is. shift: None, or like hu: HU that the CT is shifted by, with all its edges. pull_mm: None,
    or (V, L, 3, Z, Y, X): from how far away along z, y, x the CT is taken before all that, as tissue that
    gives way.
    """

    hu: np.ndarray
    device: str
    remarks: tuple[str, ...] = ()
    drawn: np.ndarray | None = None
    kept: np.ndarray | None = None
    shift: np.ndarray | None = None
    pull_mm: np.ndarray | None = None

    def variant(self, number: int) -> Sampled:
        """One of them: its arrays begin with the lesions."""
        hu, drawn, kept, shift, pull_mm = (
            None if one is None else one[number]
            for one in (self.hu, self.drawn, self.kept, self.shift, self.pull_mm)
        )
        assert hu is not None
        return Sampled(hu, self.device, self.remarks, drawn, kept, shift, pull_mm)
