"""Grain of a lesion, drawn as it is in even tissue around: left alone, the network makes it too coarse.

In parts of held-out sarcomas made anew, the power between 2 and 3.5 mm was 3.5 times that of what was there
and that of finer grain less: a network makes the grain of the CTs that it was trained on. Arrays are
(z, y, x) on the ROI.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from lesionbrush.systems.lesion_inpainting.soft_tissue.hold import find_inner

COARSE_VOXELS, EDGE_VOXELS = 2.8, 1.2
"""In-plane deviations of Gaussians: what is coarser than the first is the lesion's own; edges, by which even
tissue is told, are seen best between both."""
EVEN_VOXELS, EVEN_SHARE = 2.5, 0.5
"""How far evenness is averaged, and which share of the tissue around is taken to be even."""
RING_MM, LEAST_VOXELS = 14.0, 60
REACH, LEAST_PAIRS = 8, 30
"""Grain goes together with itself over so many voxels, told from so many pairs of them at least."""
FULL_AT_MM = 1.5
"""So deep below the surface. At the surface it is the network's, or the border would be too sharp."""
SOFT_HU = (-200.0, 300.0)


def match_grain(
    hu: np.ndarray,
    plan: np.ndarray,
    mask: np.ndarray,
    known: np.ndarray,
    spacing_mm: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """hu, plan: HU; mask: coverage 0..1; known: bool, where hu is the CT's own.

    Unchanged where there is too little tissue on either side, or no plan (NaN).
    """
    inside = mask >= 0.5
    away_mm = ndimage.distance_transform_edt(~inside, sampling=spacing_mm)
    ring = known & (away_mm <= RING_MM) & (hu > SOFT_HU[0]) & (hu < SOFT_HU[1])
    if min(inside.sum(), ring.sum()) < LEAST_VOXELS or np.isnan(plan).any():
        return hu
    around, even = split_grain(hu, ring), find_even(hu, ring)
    drawn = draw_like(find_covariance(around, even), hu.shape, rng)
    depth_mm = ndimage.distance_transform_edt(inside, sampling=spacing_mm)
    share = np.clip(depth_mm / FULL_AT_MM, 0, 1)
    own = split_grain(flatten(hu - plan, depth_mm / spacing_mm), inside)
    change = (np.sqrt(1 - share) - 1) * own + np.sqrt(share) * drawn
    counted = find_inner(mask)
    change -= share * (counted * change).sum() / (counted * share).sum()  # it stays as dense as it is
    return (hu + change).astype(hu.dtype)


def flatten(hu: np.ndarray, depth_voxels: np.ndarray) -> np.ndarray:
    """Without the mean of each shell of a voxel below the surface: a blurred border is no grain."""
    shells = np.floor(depth_voxels).astype(np.intp)
    means = np.bincount(shells.ravel(), hu.ravel()) / np.maximum(np.bincount(shells.ravel()), 1)
    flat: np.ndarray = hu - means[shells]
    return flat


def split_grain(hu: np.ndarray, where: np.ndarray) -> np.ndarray:
    """What is finer than a lesion's own texture, 0 outside `where` (bool), beyond which nothing leaks in."""
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
    fade = np.hanning(2 * REACH + 3)[1:-1]
    faded = covariance * np.sqrt(fade[:, None, None] * fade[None, :, None] * fade[None, None, :])
    wide = np.zeros(padded)
    wide[_shifts(padded)] = faded
    power = np.clip(np.fft.rfftn(wide).real, 0, None)  # few pairs give a little that no noise has
    variance = float(np.fft.irfftn(power, padded)[0, 0, 0])
    power *= covariance[REACH, REACH, REACH] / max(variance, 1e-6)
    drawn = np.fft.irfftn(np.sqrt(power) * np.fft.rfftn(rng.standard_normal(padded)), padded)
    return drawn[tuple(slice(side) for side in shape)]


def _shifts(padded: list[int]) -> tuple[np.ndarray, ...]:
    """Where shifts from -REACH to REACH lie in an array that wraps around."""
    return np.ix_(*(np.arange(-REACH, REACH + 1) % side for side in padded))
