"""Holes to learn on: an organ and a little more, the box around it, a shape that nothing explains.

Masks are (Y, X) bool on the pixels of a patch.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt

HARMONICS = 5
ROUGHNESS = 0.25
"""Of the radius of a blob: how far its outline goes in and out, about."""


def grow(mask: np.ndarray, pixels: float) -> np.ndarray:
    """The mask and all that lies within so many pixels of it."""
    if pixels <= 0 or not mask.any():
        return mask
    near: np.ndarray = distance_transform_edt(~mask) <= pixels
    return near


def box_around(mask: np.ndarray, pixels: float) -> np.ndarray:
    """The rectangle that holds the mask, so many pixels wider on every side. Nothing around nothing."""
    box = np.zeros_like(mask)
    if not mask.any():
        return box
    more = round(pixels)
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    low = [max(0, int(line[0]) - more) for line in (rows, columns)]
    high = [int(line[-1]) + more + 1 for line in (rows, columns)]
    box[low[0] : high[0], low[1] : high[1]] = True
    return box


def draw_blob(side: int, radius: float, rng: np.random.Generator) -> np.ndarray:
    """A closed shape of about this radius (pixels) around the middle of a square patch: a circle whose radius
    varies with the angle, in a few waves around it."""
    y, x = np.indices((side, side)) - (side - 1) / 2
    stretch = np.exp(rng.uniform(-0.35, 0.35))
    angle = np.arctan2(y * stretch, x / stretch)
    waves = np.arange(1, HARMONICS + 1)
    heights = rng.normal(0, ROUGHNESS, HARMONICS) / waves
    phases = rng.uniform(0, 2 * np.pi, HARMONICS)
    outline = radius * (1 + (heights * np.cos(waves * angle[..., None] + phases)).sum(axis=-1))
    inside: np.ndarray = np.hypot(y * stretch, x / stretch) <= np.maximum(outline, 0.4 * radius)
    return inside


def leave_context(hole: np.ndarray, border: int, most: float) -> np.ndarray:
    """The hole, without what lies within `border` pixels of the patch's edge if it fills more than the share
    `most` of the patch: something has to be known."""
    if hole.mean() <= most:
        return hole
    inner = np.zeros_like(hole)
    inner[border:-border, border:-border] = hole[border:-border, border:-border]
    return inner
