"""Grain for what takes the place of lung: that of the CT's own soft tissue. Arrays are (Z, Y, X)."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from lesionbrush.core.boxes import Box
from lesionbrush.core.grain import draw_periodic, find_covariance, find_even, split_grain

SOFT_HU, LEAST_VOXELS = (-20.0, 150.0), 2000
BLOCK, EVERY = (24, 96, 96), (2, 6, 6)
"""Voxels of the part of the CT that is looked at, and how finely its place is looked for."""
PERIOD = (48, 128, 128)


def learn_grain(view: np.ndarray) -> np.ndarray | None:
    """The covariance of grain where there is most soft tissue together; None with too little of it."""
    part = view[find_block(view)].astype(np.float64)
    soft = ndimage.binary_erosion((part > SOFT_HU[0]) & (part < SOFT_HU[1]), np.ones((1, 3, 3)))
    if np.count_nonzero(soft) < LEAST_VOXELS:
        return None
    return find_covariance(split_grain(part, soft), find_even(part, soft))


def find_block(view: np.ndarray) -> Box:
    """The box of `BLOCK` with the most soft tissue."""
    coarse = view[tuple(slice(None, None, step) for step in EVERY)]
    soft = ((coarse > SOFT_HU[0]) & (coarse < SOFT_HU[1])).astype(np.float32)
    share = ndimage.uniform_filter(soft, [n // step for n, step in zip(BLOCK, EVERY, strict=True)])
    middle = np.array(np.unravel_index(int(share.argmax()), share.shape)) * EVERY
    first = np.clip(middle - np.array(BLOCK) // 2, 0, np.maximum(np.array(view.shape) - BLOCK, 0))
    z, y, x = (slice(int(a), int(a) + n) for a, n in zip(first, BLOCK, strict=True))
    return z, y, x


def cover(covariance: np.ndarray, box: Box, rng: np.random.Generator) -> np.ndarray:
    """HU of new grain on a box; it repeats itself after `PERIOD` voxels."""
    drawn = draw_periodic(covariance, PERIOD, rng).astype(np.float32)
    places = (np.arange(part.start, part.stop) % n for part, n in zip(box, PERIOD, strict=True))
    return drawn[np.ix_(*places)]
