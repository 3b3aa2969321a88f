"""An organ found by its density alone, which no network has a say in: what Dice is measured with.

The interval is that of the real organ in the patients that were trained on, after a light blur. It takes in
other tissue of the same density, in the made slice as in the real one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lesionbrush.systems.palette.fills import Fill, fill_number
from lesionbrush.systems.palette.holes import grow
from lesionbrush.systems.palette.pack import KnownCT

BLUR_MM, NEAR_MM = 1.5, 5.0
SHARE = (5.0, 95.0)
SLICES_A_CT = 40


@dataclass(frozen=True)
class OrganThreshold:
    low_hu: float
    high_hu: float

    def find(self, hu: np.ndarray, near: np.ndarray, spacing_mm: Sequence[float] | np.ndarray) -> np.ndarray:
        """(Y, X) bool: where a slice, blurred, is as dense as the organ."""
        smooth = blur(hu, spacing_mm)
        found: np.ndarray = (smooth >= self.low_hu) & (smooth <= self.high_hu) & near
        return found


def blur(hu: np.ndarray, spacing_mm: Sequence[float] | np.ndarray) -> np.ndarray:
    """(Y, X) float32."""
    smooth: np.ndarray = ndimage.gaussian_filter(hu.astype(np.float32), BLUR_MM / np.asarray(spacing_mm))
    return smooth


def fit_threshold(cts: Sequence[KnownCT], fill: Fill) -> OrganThreshold | None:
    """From the 5th to the 95th percentile; each CT counts alike. None where no CT shows it."""
    found = [hu for ct in cts if len(hu := _organ_hu(ct, fill))]
    if not found:
        return None
    low, high = np.mean([np.percentile(hu, SHARE) for hu in found], axis=0)
    return OrganThreshold(round(float(low), 1), round(float(high), 1))


def _organ_hu(ct: KnownCT, fill: Fill) -> np.ndarray:
    """Of the blurred CT, in slices spread over the organ."""
    inside = ct.labels == fill_number(fill)
    there = np.flatnonzero(inside.any(axis=(1, 2)))
    few = there[np.linspace(0, len(there) - 1, min(len(there), SLICES_A_CT)).round().astype(int)]
    found = [blur(ct.hu[z], ct.spacing_mm[1:])[inside[z]] for z in few]
    return np.concatenate(found) if found else np.empty(0, np.float32)


def near_hole(mask: np.ndarray, spacing_mm: Sequence[float] | np.ndarray) -> np.ndarray:
    """(Y, X) bool: the hole and 5 mm around it."""
    return grow(mask, NEAR_MM / float(np.mean(spacing_mm)))


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """1 where both are empty: they agree."""
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return 2 * np.count_nonzero(a & b) / total if total else 1.0
