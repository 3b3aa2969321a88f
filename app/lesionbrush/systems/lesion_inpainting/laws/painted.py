"""The lesions of a batch as they were painted: how their mean HU counts, and what is around them.

Arrays are (B, Z, Y, X) on the ROI.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from lesionbrush.core.rois import RoiBatch

LEAST_BESIDE = 0.5
"""Vessels that take more than this share of a lesion are counted as part of it."""
NEAR_FROM_MM, NEAR_TO_MM, LUNG_BELOW_HU, LEAST_VOXELS = 3.0, 8.0, -500.0, 50
TYPICAL_LUNG_HU = -852.0
"""Around 62 ground-glass lesions of LIDC-IDRI, the standard deviation is 38 HU."""


class Part(NamedTuple):
    """region: where HU change; weights: where they are measured, all 0 for none; mean_hu: (B,).

    even: all of the region is moved alike, and not the more the denser it is; most_hu: (B,), or None, what
    none of it exceeds, grain apart; at_most: a mean below mean_hu is left as it is.
    """

    region: np.ndarray
    weights: np.ndarray
    mean_hu: np.ndarray
    even: bool = False
    most_hu: np.ndarray | None = None
    at_most: bool = False


class Painted(NamedTuple):
    """The lesions as painted, and how their mean HU is counted on the CT's own grid: see `NativeMean`.

    mask: coverage 0..1; outline: the same, narrowed or widened; known: what of it lies in the CT; counted:
    like it; kept_hu: (B,); lung_hu, around_hu: (B,), see `SurroundingHU`.
    """

    mask: np.ndarray
    outline: np.ndarray
    known: np.ndarray
    counted: np.ndarray
    kept_hu: np.ndarray
    lung_hu: np.ndarray
    around_hu: np.ndarray

    @classmethod
    def of(
        cls, rois: RoiBatch, outlines: np.ndarray, surroundings: SurroundingHU, lesions: list[int]
    ) -> Painted:
        """outlines: (L, Z, Y, X) of all the ROIs; surroundings: of these; lesions: (B,) which of them."""
        native, known = rois.native_mean, rois.mask * rois.inside
        arrays = (rois.mask, outlines, known, native.counted, native.kept_hu, *surroundings)
        return cls(*(array[lesions] for array in arrays))

    def beside(self, vessels: np.ndarray) -> Painted:
        """Counted beside vessels (B, Z, Y, X) bool, unless these are most of a lesion."""
        open_ = np.where(vessels, 0, self.counted)
        share = open_.sum(axis=(1, 2, 3)) / np.maximum(self.counted.sum(axis=(1, 2, 3)), 1e-6)
        share = share[:, None, None, None]
        counted = np.where(share > LEAST_BESIDE, open_ / np.maximum(share, 1e-6), self.counted)
        return self._replace(counted=counted.astype(np.float32))

    def measure_left(self, masks: np.ndarray) -> np.ndarray:
        """(B,) the share of the coverage, as it counts, that these masks (B, Z, Y, X) have of it."""
        had, has = ((self.counted * mask).sum(axis=(1, 2, 3)) for mask in (self.outline, masks))
        share: np.ndarray = np.clip(has / np.maximum(had, 1e-6), 0, 1)
        return share

    def hold(self, mean_hu: np.ndarray, *, even: bool = False) -> Part:
        """The whole lesion, with a mean HU (B,) on the CT's own grid."""
        return Part(self.mask, self.counted, (mean_hu - self.kept_hu).astype(np.float32), even)


class SurroundingHU(NamedTuple):
    """(L,) float32: mean HU of the lung, and of all tissue, beyond what a synthesis changes by default.

    Ground glass is denser than the lung by the same amount in airy and in dense lungs: in 62 lesions the
    slope of one over the other is 0.99. Where there is too little of either, what is typical of lung.
    """

    lung_hu: np.ndarray
    around_hu: np.ndarray


def measure_surroundings(rois: RoiBatch) -> SurroundingHU:
    """Of every lesion, 3 to 8 mm away from its mask."""
    triples = zip(rois.reference_hu, rois.mask, rois.inside, strict=True)
    around = [hu[there & _near(mask, rois.spacing_mm)] for hu, mask, there in triples]
    lungs = [hu[hu < LUNG_BELOW_HU] for hu in around]
    return SurroundingHU(
        *(np.array([_mean_or_typical(hu) for hu in found], np.float32) for found in (lungs, around))
    )


def _near(mask: np.ndarray, spacing_mm: float) -> np.ndarray:
    away_mm = ndimage.distance_transform_edt(mask < 0.5 * mask.max(), sampling=spacing_mm)
    near: np.ndarray = (away_mm > NEAR_FROM_MM) & (away_mm <= NEAR_TO_MM)
    return near


def _mean_or_typical(hu: np.ndarray) -> float:
    return float(hu.mean()) if hu.size >= LEAST_VOXELS else TYPICAL_LUNG_HU
