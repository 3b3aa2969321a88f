"""Spots that nobody asked for, in what was to be an organ or healthy: the thesis saw tumours and cysts there.

A spot is a part whose smoothed HU are far from those of the rest, by the rest's own spread.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

SMOOTH_MM, FROM_EDGE_MM = 2.5, 3.0
MOST_SPREADS, LEAST_HU = 4.0, 25.0
LEAST_MM, MOST_SHARE = 5.0, 0.3
"""Smaller ones are vessels and grain; one that takes more of the fill is no spot, the fill is uneven."""
LEAST_PIXELS = 60


@dataclass(frozen=True)
class UnwantedSpot:
    """Part of a slice: the diameter of a circle of its area, and its mean HU above the rest's median."""

    diameter_mm: float
    contrast_hu: float

    def __str__(self) -> str:
        side = "brighter" if self.contrast_hu > 0 else "darker"
        return f"{self.diameter_mm:.0f} mm wide and {abs(self.contrast_hu):.0f} HU {side} than the rest"


def find_spot(hu: np.ndarray, inside: np.ndarray, spacing_mm: float) -> UnwantedSpot | None:
    """The widest spot of a fill, None without one.

    hu: (Z, Y, X) as made; inside: bool, where it was to be of one kind; spacing_mm: within the slices.
    """
    deep = np.stack([_away_from_edge(one, FROM_EDGE_MM / spacing_mm) for one in inside])
    if np.count_nonzero(deep) < LEAST_PIXELS:
        return None
    smooth = _smooth_inside(hu, deep, SMOOTH_MM / spacing_mm)
    level = float(np.median(smooth[deep]))
    above = np.where(deep, smooth - level, 0.0)
    spread = 1.4826 * float(np.median(np.abs(above[deep])))
    limit_hu = max(MOST_SPREADS * spread, LEAST_HU)
    most_mm2 = MOST_SHARE * np.count_nonzero(deep, axis=(1, 2)).max() * spacing_mm**2
    least_mm2 = np.pi / 4 * LEAST_MM**2
    spots = (spot for sign in (1, -1) for spot in _spots(sign * above > limit_hu, above, spacing_mm))
    found = [spot for spot in spots if least_mm2 <= np.pi / 4 * spot.diameter_mm**2 <= most_mm2]
    return max(found, key=lambda spot: spot.diameter_mm, default=None)


def _spots(far: np.ndarray, above: np.ndarray, spacing_mm: float) -> Iterator[UnwantedSpot]:
    """Of every connected part of every slice. far: (Z, Y, X) bool; above: HU."""
    for there, excess in zip(far, above, strict=True):
        labels, count = ndimage.label(there)
        for number in range(1, count + 1):
            part = labels == number
            area_mm2 = np.count_nonzero(part) * spacing_mm**2
            yield UnwantedSpot(float(np.sqrt(4 * area_mm2 / np.pi)), float(excess[part].mean()))


def _away_from_edge(inside: np.ndarray, pixels: float) -> np.ndarray:
    away: np.ndarray = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1] > pixels
    return away


def _smooth_inside(hu: np.ndarray, inside: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian means within each slice, of what is inside alone; 0 where nothing is near."""
    width = (0.0, sigma, sigma)
    weight = ndimage.gaussian_filter(inside.astype(np.float32), width)
    total = ndimage.gaussian_filter(np.where(inside, hu, 0).astype(np.float32), width)
    return np.where(weight > 1e-3, total / np.maximum(weight, 1e-3), 0.0)
