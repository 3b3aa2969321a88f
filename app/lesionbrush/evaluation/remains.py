"""What a removal leaves under its mask, measured against the lung around it. Arrays in any one axis order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lesionbrush.core.volume import Volume
from lesionbrush.evaluation.measures import LUNG_HU, grain
from lesionbrush.evaluation.metrics import RING_MM, edit_region, seam_ratio

VESSEL_HU = 150.0
"""So much denser than the lung around is a vessel."""
Place = tuple[np.ndarray, np.ndarray, Sequence[float]]
"""HU, mask (bool) and spacing in mm, on one grid."""
Measure = Callable[[np.ndarray, np.ndarray, Sequence[float], float], float]


def residual_hu(hu: np.ndarray, inside: np.ndarray, spacing_mm: Sequence[float], margin_mm: float) -> float:
    """Mean HU in the mask less that of the lung in the ring outside the edit region: 0 when nothing is left.

    Chest wall and vessels of the ring are left out. NaN without lung in it.
    """
    ring = _ring(inside, spacing_mm, margin_mm) & (hu < LUNG_HU)
    return float(hu[inside].mean() - hu[ring].mean()) if ring.any() else float("nan")


def grain_ratio(hu: np.ndarray, inside: np.ndarray, spacing_mm: Sequence[float], margin_mm: float) -> float:
    """Noise in the mask over that in the ring outside the edit region."""
    return grain(hu, inside) / grain(hu, _ring(inside, spacing_mm, margin_mm))


def vessel_share(hu: np.ndarray, inside: np.ndarray, spacing_mm: Sequence[float], margin_mm: float) -> float:
    """Share of the mask that is `VESSEL_HU` denser than the median lung of the ring; NaN without any."""
    ring = _ring(inside, spacing_mm, margin_mm) & (hu < LUNG_HU)
    return float((hu[inside] > np.median(hu[ring]) + VESSEL_HU).mean()) if ring.any() else float("nan")


def deviation_hu(made: Volume, before: Volume, mask: Volume) -> float:
    """Root mean square difference in the mask."""
    inside = mask.array > 0
    return float(np.sqrt(np.mean((made.array[inside].astype(float) - before.array[inside]) ** 2)))


def _ring(inside: np.ndarray, spacing_mm: Sequence[float], margin_mm: float) -> np.ndarray:
    edit = edit_region(inside, spacing_mm, margin_mm)
    ring: np.ndarray = edit_region(edit, spacing_mm, RING_MM) & ~edit
    return ring


MEASURES: tuple[tuple[str, str, str, Measure], ...] = (
    ("residual", "size of the HU left in the mask over the lung around it", "HU", residual_hu),
    ("removal_noise", "noise in the filled mask over that of the lung around it", "", grain_ratio),
    ("removal_seam", "gradient across the edit border over nearby background", "", seam_ratio),
)
"""name, what it is, unit, measure."""
