"""Estimates of x_0 whose lesion has the density of its plan. All are (B, 1, Z, Y, X)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from lesionbrush.core.hu import CompressiveHU
from lesionbrush.diffusion.denoisers import Denoiser

INNER_VOXELS, LEAST_INNER = 1.2, 24.0
"""So deep below its blurred border a lesion is as dense as it is. Small ones have no inside."""


@dataclass(frozen=True, eq=False)
class Held:
    """counted: weights that sum to 1, where density is measured; moved: 0..1, where it is changed;
    mean_hu: (B, 1, 1, 1, 1), what the plan comes to where it is counted.
    """

    counted: Tensor
    moved: Tensor
    mean_hu: Tensor

    @classmethod
    def of(cls, masks: np.ndarray, plans: np.ndarray, soft_voxels: float, device: torch.device) -> Held:
        """masks: (B, Z, Y, X) coverage 0..1 of what lies in the CT; plans: like it, HU, NaN for
        a lesion that is held to none."""
        counted = np.stack([find_inner(mask) for mask in masks])
        counted /= np.maximum(counted.sum(axis=(1, 2, 3), keepdims=True), 1e-6)
        counted = np.where(np.isnan(plans), 0.0, counted)
        mean_hu = (counted * np.nan_to_num(plans)).sum(axis=(1, 2, 3), keepdims=True)
        moved = np.stack([ndimage.gaussian_filter(mask, min(soft_voxels, 2.0) * 0.6) for mask in masks])
        arrays = (np.asarray(array, np.float32)[:, None] for array in (counted, moved, mean_hu))
        return cls(*(torch.from_numpy(array).to(device) for array in arrays))


def find_inner(mask: np.ndarray) -> np.ndarray:
    """(Z, Y, X) float: 1 well inside a lesion, or its coverage where it has too little inside."""
    depth = ndimage.distance_transform_edt(mask >= 0.5)
    inner = (depth > INNER_VOXELS).astype(np.float64)
    return inner if inner.sum() >= LEAST_INNER else mask.astype(np.float64)


def hold_density(denoise: Denoiser, held: Held, scale: CompressiveHU) -> Denoiser:
    """Each estimate moved as a whole, so that its mean HU is the plan's; a projection, as `match_moments`."""
    axes = (1, 2, 3, 4)

    def changed(x: Tensor, t: int) -> Tensor:
        hu = scale.from_unit(denoise(x, t))
        missing = held.mean_hu - (held.counted * hu).sum(axes, keepdim=True)
        reached = (held.counted * held.moved).sum(axes, keepdim=True).clamp(min=0.1)
        return scale.to_unit(hu + missing / reached * held.moved)

    return changed
