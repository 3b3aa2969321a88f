"""Lung-DDPM's intensities as published: every slab along one axis is scaled to [-1, 1] by itself.

There is no HU window: the published code makes a matrix of the volume and scales its columns, one per index
of the last axis. That is the file's last axis in training, and its first one in sampling.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class ColumnScaling:
    """low_hu, range_hu: (n,), one per index of `axis`. A constant slab becomes -1, and comes back."""

    low_hu: np.ndarray
    range_hu: np.ndarray
    axis: int

    @classmethod
    def of(cls, volume_hu: np.ndarray, axis: int = -1) -> ColumnScaling:
        """The scaling of a 3D volume. ValueError for another number of axes."""
        if volume_hu.ndim != 3:
            raise ValueError(f"a volume has 3 axes, got {volume_hu.ndim}")
        columns = np.moveaxis(volume_hu, axis, -1).reshape(-1, volume_hu.shape[axis]).astype(np.float64)
        low = columns.min(axis=0)
        extent = columns.max(axis=0) - low
        return cls(low, np.where(extent > 0, extent, 1.0), axis)

    def to_unit(self, volume_hu: np.ndarray) -> np.ndarray:
        """float64, in [-1, 1] for the volume it was made from."""
        low, extent = self._along(volume_hu.ndim)
        return 2 * (volume_hu - low) / extent - 1

    def from_unit(self, unit: np.ndarray) -> np.ndarray:
        """The inverse; the published code has none, its files stay in [-1, 1]."""
        low, extent = self._along(unit.ndim)
        return (unit + 1) / 2 * extent + low

    def _along(self, axes: int) -> tuple[np.ndarray, np.ndarray]:
        shape = [1] * axes
        shape[self.axis] = -1
        return self.low_hu.reshape(shape), self.range_hu.reshape(shape)
