"""What a reader sees of a slice: a square around the hole, with some of what is around it.

Arrays are (Y, X) of a slice, row 0 posterior, column 0 left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lesionbrush.core.roi import axis_weights
from lesionbrush.montage import Window

AROUND, LEAST_MM = 1.3, 48.0
BEYOND_HU = -1000.0


@dataclass(frozen=True, eq=False)
class SliceCrop:
    """hu: (S, S) float32, resampled; window: of the organ."""

    hu: np.ndarray
    window: Window


@dataclass(frozen=True)
class CropFrame:
    """A square of a slice. centre_mm: from its first pixel, along its axes."""

    centre_mm: tuple[float, float]
    side_mm: float

    @classmethod
    def around(cls, mask: np.ndarray, spacing_mm: Sequence[float] | np.ndarray) -> CropFrame:
        """The hole, 1.3 times as wide, and 48 mm at least. mask: (Y, X) bool, not empty."""
        places = np.argwhere(mask) * np.asarray(spacing_mm)
        low, high = places.min(axis=0), places.max(axis=0)
        centre = (low + high) / 2
        side_mm = max(LEAST_MM, AROUND * float((high - low).max()))
        return cls((float(centre[0]), float(centre[1])), side_mm)

    def cut(self, hu: np.ndarray, spacing_mm: Sequence[float] | np.ndarray, side: int) -> np.ndarray:
        """(side, side) float32 HU of a slice (Y, X); beyond it there is air."""
        places = (np.arange(side) + 0.5) / side - 0.5
        weights, there = [], []
        for centre, mm, size in zip(self.centre_mm, spacing_mm, hu.shape, strict=True):
            target = centre + places * self.side_mm
            weights.append(axis_weights(np.arange(size) * mm, target))
            there.append((target > -0.5 * mm) & (target < (size - 0.5) * mm))
        found = weights[0] @ hu.astype(np.float32) @ weights[1].T
        return np.where(there[0][:, None] & there[1][None], found, np.float32(BEYOND_HU))
