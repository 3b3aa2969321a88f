"""What the network is told of a lesion beside its mask and its plan: a vector.

NaN means: left open.
"""

from __future__ import annotations

import numpy as np

TOLD = ("lesion", "margin", "heterogeneity_hu")
"""Order of the vector. lesion: 1, or 0 for healthy tissue; margin: 0 poorly defined to 1 sharp."""
HETEROGENEITY_SCALE_HU = 50.0
SHARP_MM, POOR_MM = 0.6, 4.0
"""Standard deviation of the blur of a lesion's border, of the best margin and of the worst."""


def tell(lesion: bool, margin: float | None = None, heterogeneity_hu: float | None = None) -> np.ndarray:
    """(3,) float32."""
    if not lesion:
        return np.array([0.0, np.nan, np.nan], np.float32)
    spread = None if heterogeneity_hu is None else heterogeneity_hu / HETEROGENEITY_SCALE_HU
    return np.array([1.0, *(np.nan if v is None else v for v in (margin, spread))], np.float32)


def blur_mm(margin: float) -> float:
    """How soft a border is."""
    return POOR_MM + margin * (SHARP_MM - POOR_MM)
