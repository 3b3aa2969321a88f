"""How HU become what the network sees: a CT window, or all of the scale, compressed. Imports no torch."""

from __future__ import annotations

from lesionbrush.core.hu import CompressiveHU, HUScale, HUWindow, ends_hu

AIR_HU = -1000.0
"""What is shown beyond the end of a CT."""
SOFT_TISSUE, LUNG = HUWindow(-150.0, 250.0), HUWindow(-1350.0, 150.0)
"""The thesis's windows: level 50 and width 400, level -600 and width 1500."""
FULL = CompressiveHU(centre_hu=50.0, scale_hu=200.0, hu_per_unit=200.0)
"""As fine as the soft tissue window around soft tissue; air and bone are coarser."""


def holds(scale: HUScale, hu: float) -> bool:
    """Whether tissue of this density is more to the network than black or white."""
    low, high = ends_hu(scale)
    return low < hu < high
