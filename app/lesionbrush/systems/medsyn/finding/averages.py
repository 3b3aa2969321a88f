"""Weighted means of arrays (Z, Y, X), or of several, (C, Z, Y, X)."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

LEAST_KNOWN = 0.02


def average(values: np.ndarray, weights: np.ndarray, voxels: float | np.ndarray) -> np.ndarray:
    """Gaussian means by weight; beyond all weights the values nearest to them go on."""
    weight = ndimage.gaussian_filter(weights.astype(np.float64), voxels)
    known = weight > LEAST_KNOWN * weight.max()
    if not known.any():
        return np.zeros(values.shape)
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    each = [
        np.where(known, ndimage.gaussian_filter(one * weights, voxels) / np.where(known, weight, 1), 0)
        for one in values.reshape(-1, *weights.shape)
    ]
    return np.stack([one[tuple(nearest)] for one in each]).reshape(values.shape)
