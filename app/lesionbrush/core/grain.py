"""Grain of a CT, as it is in even tissue, and more of it. Arrays are (z, y, x)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

COARSE_VOXELS, EDGE_VOXELS = 2.8, 1.2
"""In-plane deviations of Gaussians: what is coarser than the first is no grain; edges, by which even tissue
is told, are seen best between both."""
EVEN_VOXELS, EVEN_SHARE = 2.5, 0.5
"""How far evenness is averaged, and which share of the tissue is taken to be even."""
REACH, LEAST_PAIRS = 8, 30
"""Grain goes together with itself over so many voxels, told from so many pairs of them at least."""


def split_grain(hu: np.ndarray, where: np.ndarray) -> np.ndarray:
    """What is finer than tissue itself, 0 outside `where` (bool), beyond which nothing leaks in."""
    return np.where(where, hu - _blur(hu, where, COARSE_VOXELS), 0.0)


def find_even(hu: np.ndarray, where: np.ndarray) -> np.ndarray:
    """bool: the part of `where` with the weakest edges around."""
    edges = _blur(hu, where, EDGE_VOXELS) - _blur(hu, where, COARSE_VOXELS)
    unrest = _blur(edges**2, where, EVEN_VOXELS)
    return where & (unrest <= np.quantile(unrest[where], EVEN_SHARE))


def _blur(hu: np.ndarray, where: np.ndarray, voxels: float) -> np.ndarray:
    """Means of what lies in `where`, weighted by a Gaussian in plane: slices may be thick, and the grain of
    one knows nothing of the next."""
    in_plane = (0, voxels, voxels)
    share = ndimage.gaussian_filter(where.astype(np.float64), in_plane)
    total = ndimage.gaussian_filter(np.where(where, hu, 0.0).astype(np.float64), in_plane)
    blurred: np.ndarray = total / np.maximum(share, 1e-6)
    return blurred


def find_covariance(grain: np.ndarray, where: np.ndarray) -> np.ndarray:
    """(17, 17, 17) HU squared: mean product of grain with itself so many voxels away, no shift in the middle.

    Of pairs that both lie in `where` (bool), of any shape; 0 where there are too few.
    """
    padded = [side + REACH for side in grain.shape]
    products, pairs = (
        np.fft.irfftn(np.abs(np.fft.rfftn(array, padded)) ** 2, padded)[_shifts(padded)]
        for array in (np.where(where, grain, 0.0), where.astype(np.float64))
    )
    covariance: np.ndarray = np.where(pairs > LEAST_PAIRS, products / np.maximum(pairs, 1), 0.0)
    return covariance


def draw_like(covariance: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise of this covariance, faded out towards its largest shifts, and of its variance."""
    padded = [side + 2 * REACH for side in shape]
    return draw_periodic(covariance, padded, rng)[tuple(slice(side) for side in shape)]


def draw_periodic(covariance: np.ndarray, sides: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """The same, of sides above 2 * REACH; it goes on at one side where it ends at the other."""
    fade = np.hanning(2 * REACH + 3)[1:-1]
    faded = covariance * np.sqrt(fade[:, None, None] * fade[None, :, None] * fade[None, None, :])
    wide = np.zeros(sides)
    wide[_shifts(sides)] = faded
    power = np.clip(np.fft.rfftn(wide).real, 0, None)  # few pairs give a little that no noise has
    variance = float(np.fft.irfftn(power, sides)[0, 0, 0])
    power *= covariance[REACH, REACH, REACH] / max(variance, 1e-6)
    drawn: np.ndarray = np.fft.irfftn(np.sqrt(power) * np.fft.rfftn(rng.standard_normal(sides)), sides)
    return drawn


def _shifts(sides: Sequence[int]) -> tuple[np.ndarray, ...]:
    """Where shifts from -REACH to REACH lie in an array that wraps around."""
    return np.ix_(*(np.arange(-REACH, REACH + 1) % side for side in sides))
