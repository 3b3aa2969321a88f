"""HU as whole numbers, and as a model takes them: in [-1, 1]. Imports no torch: model cards use it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Array = TypeVar("Array", "np.ndarray", "Tensor")
INT16_HU = (-1024, 3071)
"""What scanners store."""


def round_hu(hu: np.ndarray) -> np.ndarray:
    """int16, within what scanners store."""
    return np.clip(np.rint(hu), *INT16_HU).astype(np.int16)


@dataclass(frozen=True)
class HUWindow:
    """lo_hu maps to -1 and hi_hu to 1. ValueError unless both are finite and lo_hu < hi_hu."""

    lo_hu: float
    hi_hu: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lo_hu) and math.isfinite(self.hi_hu) and self.lo_hu < self.hi_hu):
            raise ValueError(f"an HU window needs finite lo_hu < hi_hu, got {self.lo_hu} and {self.hi_hu}")

    def to_unit(self, hu: Array) -> Array:
        """HU to [-1, 1], clipped to the window. Integers become float32; a float type is kept."""
        inside = _as_float(hu).clip(self.lo_hu, self.hi_hu)
        return (inside - self.lo_hu) * (2 / (self.hi_hu - self.lo_hu)) - 1

    def from_unit(self, unit: Array) -> Array:
        """[-1, 1] to HU: the inverse of `to_unit` inside the window. Nothing is clipped or rounded."""
        return (_as_float(unit) + 1) * ((self.hi_hu - self.lo_hu) / 2) + self.lo_hu


@dataclass(frozen=True)
class CompressiveHU:
    """All of the HU scale as a model takes it, finest around one density and ever coarser away from it.

    unit = scale_hu / hu_per_unit * asinh((hu - centre_hu) / scale_hu): one unit is hu_per_unit HU at
    centre_hu, and 1.4 times as many where HU are scale_hu away from it. Nothing is clipped, and the way back
    is exact. ValueError unless all are finite and the two scales positive.
    """

    centre_hu: float
    scale_hu: float
    hu_per_unit: float

    def __post_init__(self) -> None:
        numbers = (self.centre_hu, self.scale_hu, self.hu_per_unit)
        if not all(map(math.isfinite, numbers)) or min(self.scale_hu, self.hu_per_unit) <= 0:
            raise ValueError(
                "a compressive HU scale needs a finite centre_hu and positive scale_hu and hu_per_unit, got "
                f"{self.centre_hu}, {self.scale_hu} and {self.hu_per_unit}"
            )

    def to_unit(self, hu: Array) -> Array:
        """HU to units. Integers become float32; a float type is kept."""
        away = (_as_float(hu) - self.centre_hu) * (1 / self.scale_hu)
        return _arcsinh(away) * (self.scale_hu / self.hu_per_unit)

    def from_unit(self, unit: Array) -> Array:
        """Units to HU: the inverse of `to_unit`."""
        away = _sinh(_as_float(unit) * (self.hu_per_unit / self.scale_hu))
        return away * self.scale_hu + self.centre_hu


HUScale = HUWindow | CompressiveHU


def ends_hu(scale: HUScale) -> tuple[float, float]:
    """The lowest and the highest HU that a network can say on a scale."""
    ends = (scale.lo_hu, scale.hi_hu) if isinstance(scale, HUWindow) else INT16_HU
    return float(ends[0]), float(ends[1])


def unit_ends(scale: HUScale) -> tuple[float, float]:
    """The same in units."""
    low, high = scale.to_unit(np.array(ends_hu(scale)))
    return float(low), float(high)


def _arcsinh(values: Array) -> Array:
    return np.arcsinh(values) if isinstance(values, np.ndarray) else values.arcsinh()


def _sinh(values: Array) -> Array:
    return np.sinh(values) if isinstance(values, np.ndarray) else values.sinh()


def _as_float(values: Array) -> Array:
    if isinstance(values, np.ndarray):
        return values if np.issubdtype(values.dtype, np.floating) else values.astype(np.float32)
    return values if values.is_floating_point() else values.float()
