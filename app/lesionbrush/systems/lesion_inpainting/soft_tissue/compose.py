"""Lesions composed into healthy tissue, for training: what is there, what is planned, texture and grain.

The texture is that of real sarcomas, shrunk, with the grain put back at the scale of the host. Arrays are
(z, y, x) on the model's grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lesionbrush.systems.lesion_inpainting.soft_tissue.pack import SPACING_MM
from lesionbrush.systems.lesion_inpainting.soft_tissue.plan import (
    Look,
    draw_field,
    draw_plan,
    measure_around,
)
from lesionbrush.systems.lesion_inpainting.soft_tissue.told import blur_mm

SPARED_HU = (-220.0, 260.0)
"""Air and bone under a painted mask are no place for a tumour: the mask goes around them."""
EVEN_SHARE = 0.35
"""So much of any place is without edges."""
SMOOTH_VOXELS = 1.2
"""Finer than this is grain, in the host and in the sarcomas."""


@dataclass(frozen=True, eq=False)
class Composed:
    """hu: with the lesion; mask: coverage 0..1 as painted; plan: HU."""

    hu: np.ndarray
    mask: np.ndarray
    plan: np.ndarray


@dataclass(frozen=True, eq=False)
class Texture:
    """What lies around its plan: mean 0, standard deviation 1 in the lesion, and how much of it in HU."""

    field: np.ndarray
    heterogeneity_hu: float


def draw_shape(shape: tuple[int, int, int], diameter_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Coverage 0..1 of a lump of about this diameter in the middle: an ellipsoid, dented and lobed."""
    radius = diameter_mm / 2 / SPACING_MM
    axes = radius * np.exp(rng.normal(0, 0.18, 3))
    rotation = random_rotation(rng)
    grid = np.indices(shape).transpose(1, 2, 3, 0) - (np.array(shape) - 1) / 2
    distance = np.sqrt((((grid @ rotation.T) / axes) ** 2).sum(axis=-1))
    lobes = draw_field(shape, max(0.45 * radius, 1.0), rng) * rng.uniform(0.05, 0.28)
    fine = draw_field(shape, max(0.18 * radius, 0.8), rng) * rng.uniform(0.0, 0.1)
    coverage: np.ndarray = np.clip(0.5 + (1 - distance + lobes + fine) * radius, 0, 1)
    return _largest(coverage).astype(np.float32)


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """(3, 3), even over all rotations."""
    q, r = np.linalg.qr(rng.standard_normal((3, 3)))
    return q * np.sign(np.diag(r))


def spare(mask: np.ndarray, host_hu: np.ndarray) -> np.ndarray:
    """The mask without what is air or bone, and without what is cut off by these."""
    smooth = ndimage.gaussian_filter(host_hu, 0.7)
    soft = (smooth > SPARED_HU[0]) & (smooth < SPARED_HU[1])
    return _largest(mask * ndimage.binary_opening(soft, iterations=1))


def _largest(coverage: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(coverage >= 0.5)
    if count < 2:
        return coverage
    largest = 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    others = ndimage.binary_dilation((labels > 0) & (labels != largest)) & (labels != largest)
    return np.where(others, 0, coverage).astype(np.float32)


def compose(  # noqa: PLR0913, all of it goes into one picture
    host_hu: np.ndarray,
    mask: np.ndarray,
    look: Look,
    margin: float,
    texture: Texture,
    grain: np.ndarray,
    rng: np.random.Generator,
) -> Composed:
    """host_hu, mask, grain: (Z, Y, X); grain in HU, of even tissue of the same CT."""
    around = measure_around(host_hu, mask, SPACING_MM)
    plan = draw_plan(mask, around, look, SPACING_MM, rng)
    ragged = draw_field(mask.shape, 1.5, rng) * 0.35 * (1 - margin) * blur_mm(margin) / SPACING_MM
    share = ndimage.gaussian_filter(mask, blur_mm(margin) / SPACING_MM * 0.6)
    share = np.clip(share + ragged * 4 * share * (1 - share), 0, 1) * (mask.max() > 0)
    share = np.where(share < 0.02, 0, share)
    base = ndimage.gaussian_filter(host_hu, SMOOTH_VOXELS)
    fine = host_hu - base
    lesion = plan + texture.heterogeneity_hu * texture.field
    calmed = grain * _noise_ratio(fine, grain, share)
    hu = base + share * (lesion - base) + np.sqrt(1 - share) * fine + np.sqrt(share) * calmed
    return Composed(np.where(share > 0, hu, host_hu).astype(np.float32), mask, plan)


def _noise_ratio(fine: np.ndarray, grain: np.ndarray, share: np.ndarray) -> float:
    """How much noisier the host is here than where the grain is from, by what is finest in both."""
    there = (share > 0) & (share < 0.9) if (share > 0).sum() > 50 else np.ones(share.shape, bool)
    own = np.quantile(np.abs(fine[there]), EVEN_SHARE)
    finest = grain - ndimage.gaussian_filter(grain, SMOOTH_VOXELS)
    return float(np.clip(own / max(float(np.quantile(np.abs(finest), EVEN_SHARE)), 0.2), 0.6, 1.6))


def draw_grain(covariance: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """(side,) * 3 HU of Gaussian noise with the autocovariance of a CT's (16, 16, 16)."""
    size = covariance.shape[0]
    wide = np.zeros((side,) * 3)
    half = size // 2
    there = tuple(slice(side // 2 - half, side // 2 + half) for _ in range(3))
    window = np.hanning(size + 1)[:-1]
    fade = window[:, None, None] * window[None, :, None] * window[None, None, :]
    wide[there] = np.fft.fftshift(covariance) * fade**0.5
    power = np.clip(np.fft.fftn(np.fft.ifftshift(wide)).real, 0, None)
    return np.fft.ifftn(np.fft.fftn(rng.standard_normal((side,) * 3)) * np.sqrt(power)).real


class TextureSource:
    """Textures of one real tumour, at every scale."""

    def __init__(self, hu: np.ndarray, mask: np.ndarray) -> None:
        inside = mask > 127
        hu = np.where(inside, hu, 0).astype(np.float32)
        weight = ndimage.gaussian_filter(inside.astype(np.float32), SMOOTH_VOXELS)
        smooth = ndimage.gaussian_filter(hu, SMOOTH_VOXELS) / np.maximum(weight, 1e-3)
        mean = float(smooth[inside].mean())
        nearest = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
        filled = smooth[tuple(nearest)] - mean
        limit = 3 * float(filled[inside].std())
        self.levels = [np.clip(filled, -limit, limit)]
        for _ in range(2):
            self.levels.append(ndimage.gaussian_filter(self.levels[0], 1.2 * 2 ** len(self.levels)))
        self.middle = np.array(ndimage.center_of_mass(inside))
        self.diameter = 2 * (3 * inside.sum() / (4 * np.pi)) ** (1 / 3)

    def draw(self, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(Z, Y, X) on a patch, mean 0 and standard deviation 1 in the mask (0..1)."""
        places = np.argwhere(mask >= 0.5)
        size = 2 * (3 * len(places) / (4 * np.pi)) ** (1 / 3)
        zoom = float(np.clip(self.diameter / max(size, 3.0) * rng.uniform(0.5, 1.0), 0.8, 6.0))
        level = self.levels[min(int(np.log2(max(zoom, 1.0)) + 0.5), len(self.levels) - 1)]
        matrix = zoom * random_rotation(rng)
        offset = self.middle - matrix @ places.mean(axis=0)
        field = ndimage.affine_transform(
            level, matrix, offset, output_shape=mask.shape, order=1, mode="nearest"
        )
        return standardise(field, mask)


def standardise(field: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mean 0 and standard deviation 1 in the mask, nothing beyond three of it."""
    inside = mask >= 0.5
    spread = float(field[inside].std())
    return np.clip((field - field[inside].mean()) / (spread if spread > 1e-3 else 1.0), -3, 3)
