"""HU to what a network takes, and back: through the card's window, or as Lung-DDPM was published."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from torch import Tensor

from lesionbrush.core.hu import HUWindow
from lesionbrush.systems.lung_ddpm.column_scaling import ColumnScaling


class Intensities(Protocol):
    """(L, Z, Y, X) HU to [-1, 1], and (..., L, Z, Y, X) back."""

    def to_unit(self, hu: np.ndarray) -> np.ndarray: ...
    def from_unit(self, unit: np.ndarray) -> np.ndarray: ...


class PerColumn:
    """Every lesion's slabs scaled by themselves, see `column_scaling`."""

    def __init__(self, scalings: Sequence[ColumnScaling]) -> None:
        self.scalings = scalings

    @classmethod
    def of(cls, reference_hu: np.ndarray, axis: int) -> PerColumn:
        return cls([ColumnScaling.of(hu, axis) for hu in reference_hu])

    def to_unit(self, hu: np.ndarray) -> np.ndarray:
        return np.stack([s.to_unit(hu[..., k, :, :, :]) for k, s in enumerate(self.scalings)], axis=-4)

    def from_unit(self, unit: np.ndarray) -> np.ndarray:
        return np.stack([s.from_unit(unit[..., k, :, :, :]) for k, s in enumerate(self.scalings)], axis=-4)


Z, X = -3, -1


def intensities(
    scaling: str, window: HUWindow, reference_hu: np.ndarray, *, as_published: bool
) -> Intensities:
    """What the card asks for. Published networks were trained with slabs across x, and sampled with slabs
    across z; the latter is taken only when everything is to be as published.
    """
    if scaling == "window":
        return window
    return PerColumn.of(reference_hu, Z if as_published else X)


def to_published_axes(volume: Tensor) -> Tensor:
    """(..., z, y, x) to superior, anterior, right, as (..., z, x, y) to superior, left, posterior.

    The published code reads files of (z, y, x), taken to be stored as SimpleITK stores a CT, and turns them.
    """
    return volume.flip(-1, -2).transpose(-1, -2)


def from_published_axes(volume: Tensor) -> Tensor:
    """The inverse."""
    return volume.transpose(-1, -2).flip(-1, -2)
