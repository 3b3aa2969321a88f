"""What a CT window cannot hold: where black or white was made, the CT stays as it is. Imports no torch."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt, uniform_filter

from lesionbrush.core.hu import HUScale, HUWindow

AT_END, NEAR_MM = 0.999, 4.5
FROM_SHARE, WHOLLY_SHARE = 0.5, 0.9
"""Of the pixels around: one black pixel in fat is grain, a black patch is air."""
LEAST_TOLD = 0.02


def find_kept(unit: np.ndarray, hole: np.ndarray, scale: HUScale, spacing_mm: float) -> np.ndarray:
    """(N, Z, Y, X) float32, 0..1: how much of the CT stays; outside the hole as at its nearest place.

    unit: (N, Z, Y, X), what was made, ends of a window at -1 and 1; hole: bool, like it.
    """
    kept = np.zeros(unit.shape, np.float32)
    if not isinstance(scale, HUWindow):
        return kept
    size = (0, 0, *[2 * int(NEAR_MM / spacing_mm / 2) + 1] * 2)
    near = np.maximum(uniform_filter(hole.astype(np.float32), size), 1e-6)
    for ended in (unit >= AT_END, unit <= -AT_END):
        share = uniform_filter((ended & hole).astype(np.float32), size) / near
        kept = np.maximum(kept, np.clip((share - FROM_SHARE) / (WHOLLY_SHARE - FROM_SHARE), 0, 1))
    pairs = zip(kept, hole, strict=True)
    return np.stack([_spread(one, inside) if one.any() else one for one, inside in pairs])


def _spread(kept: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """(Z, Y, X): so that what is between a pixel of the hole and one outside is as the one in the hole."""
    nearest = distance_transform_edt(~inside, return_distances=False, return_indices=True)
    found: np.ndarray = kept[tuple(nearest)]
    return found


def kept_remarks(kept: np.ndarray, mask: np.ndarray, scale: HUScale) -> tuple[str, ...]:
    """kept: (V, L, Z, Y, X); mask: (L, Z, Y, X) coverage 0..1."""
    if not isinstance(scale, HUWindow) or not kept.any():
        return ()
    shares = (kept * mask).sum(axis=(1, 2, 3, 4)) / mask.sum()
    if shares.max() < LEAST_TOLD:
        return ()
    return (
        f"up to {shares.max():.0%} of the mask kept the CT's values: what was made there lies outside the "
        f"window of {scale.lo_hu:g} to {scale.hi_hu:g} HU that the model knows",
    )
