"""How irregular a nodule is, measured on the image alone: what readers call margin and spiculation.

Arrays are (z, y, x) on a grid of 1 mm. Both measures look at the part of the border that faces lung, for a
pleura or a large vessel beside the nodule says nothing about it. Their ranks among the training nodules
correlate with the readers' scores (Spearman: roughness with margin -0.42, concavity with spiculation 0.40).
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull

LUNG_HU = -600.0
LEAST_CONTRAST_HU = 100.0
LEAST_VOXELS = 20

ROUGHNESS_DECILES = (0.036, 0.088, 0.102, 0.114, 0.121, 0.129, 0.140, 0.151, 0.170, 0.200, 0.592)
CONCAVITY_DECILES = (0.135, 0.228, 0.261, 0.279, 0.300, 0.322, 0.344, 0.374, 0.412, 0.482, 0.725)
"""Of the training nodules, from the smallest to the largest: what turns a measure into a rank."""


class Surroundings:
    """A nodule beside lung. distance_mm: to the mask's surface, negative inside; facing_lung: over the
    voxels outside, whether the nearest piece of surface has lung before it."""

    def __init__(self, image_hu: np.ndarray, inside: np.ndarray) -> None:
        self.image_hu = image_hu.astype(np.float64)
        outside_mm, nearest = ndimage.distance_transform_edt(~inside, return_indices=True)
        self.distance_mm = outside_mm - ndimage.distance_transform_edt(inside)
        lung = self._between(2.5, 6.0) & (self.image_hu < LUNG_HU)
        self.enough = int(lung.sum()) >= LEAST_VOXELS
        self.lung_hu = float(np.median(self.image_hu[lung])) if self.enough else LUNG_HU
        core_hu = float(np.percentile(self.image_hu[inside], 75))
        self.contrast_hu = max(core_hu - self.lung_hu, LEAST_CONTRAST_HU)
        surface = np.ravel_multi_index(tuple(nearest), inside.shape)
        self.facing_lung = self._find_facing(surface)[surface]

    def _between(self, low_mm: float, high_mm: float) -> np.ndarray:
        return (self.distance_mm > low_mm) & (self.distance_mm <= high_mm)

    def _find_facing(self, surface: np.ndarray) -> np.ndarray:
        """Per piece of surface (flat index): is most of what lies 2.5 to 5 mm before it as dark as lung?"""
        far = self._between(2.5, 5.0)
        dark = self.image_hu[far] < self.lung_hu + 0.4 * self.contrast_hu
        count, size = np.bincount(surface[far], minlength=surface.size), surface.size
        share = np.bincount(surface[far], weights=dark, minlength=size) / np.maximum(count, 1)
        return (count > 0) & (share > 0.6)

    def border_roughness(self) -> float:
        """Spread of HU within 3 mm outside the mask, relative to the nodule's contrast. NaN if unknown."""
        shell = self.image_hu[self._between(0.9, 3.0) & self.facing_lung]
        if not self.enough or shell.size < LEAST_VOXELS // 2:
            return float("nan")
        return float(shell.std() / self.contrast_hu)

    def concavity(self) -> float:
        """Share of the convex hull that is not nodule, which is cut at half its contrast. NaN if unknown."""
        dense = self.image_hu > self.lung_hu + 0.5 * self.contrast_hu
        labels, count = ndimage.label(dense & (self.distance_mm <= 1.5))
        if not self.enough or not count:
            return float("nan")
        body = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
        places = np.argwhere(body)
        if len(places) <= LEAST_VOXELS or (np.ptp(places, axis=0) <= 1).any():
            return float("nan")
        corners = np.array(np.meshgrid(*[(-0.5, 0.5)] * 3)).reshape(3, -1).T
        hull = ConvexHull((places[:, None] + corners).reshape(-1, 3))
        return float(1 - len(places) / hull.volume)


def rank(value: float, deciles: tuple[float, ...]) -> float:
    """0..1: which share of the training nodules lies below `value`. NaN stays."""
    return float(np.interp(value, deciles, np.linspace(0, 1, len(deciles))))
