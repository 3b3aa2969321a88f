"""What a scanner makes of a drawn chest: blur, noise of filtered back-projection, whole numbers."""

from __future__ import annotations

import numpy as np
from scipy import fft, ndimage

from lesionbrush.core.hu import round_hu
from lesionbrush.core.volume import Array
from lesionbrush.phantom.parts.canvas import Canvas

NOISE_HU = 17.0
BLUR_MM = 0.7


def scan(canvas: Canvas, generator: np.random.Generator) -> Array:
    """int16 (I, J, K), HU."""
    hu = ndimage.gaussian_filter(
        canvas.hu, [BLUR_MM / canvas.voxel_mm[0], BLUR_MM / canvas.voxel_mm[1], 0.35]
    )
    density = np.clip(hu / 1000 + 1, 0, 2.2)
    per_slice = density.mean(axis=(0, 1))
    per_slice /= per_slice.mean()
    noise = scanner_noise(hu.shape, generator)
    noise += np.clip(per_slice - 1.1, 0, 0.5) * streaks(noise)
    hu += noise * (NOISE_HU * per_slice * _measure_tissue(density))
    return round_hu(hu)


def _measure_tissue(density: Array) -> Array:
    """(1, J, K): noise grows with the tissue that lateral rays cross, from 0.55 beside the body to 1.1."""
    lateral = ndimage.uniform_filter1d(density.mean(axis=0), max(3, density.shape[1] // 12), axis=0)
    return (0.55 + 0.55 * lateral / lateral.max(axis=0))[None]


def streaks(noise: Array) -> Array:
    """The horizontal streaks of photon starvation through the shoulders, standard deviation 1."""
    lines = ndimage.uniform_filter1d(noise, max(3, len(noise) // 12), axis=0)
    return lines / lines.std()


def scanner_noise(shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    """Noise of filtered back-projection, float32 (I, J, K), standard deviation 1.

    White noise shaped slice by slice: power rises with frequency as the ramp filter makes it, then falls as a
    soft kernel does (Riederer, Pelc and Chesler 1978, Phys Med Biol 23:446).
    """
    noise = generator.standard_normal(shape, dtype=np.float32)
    spectrum = fft.rfft2(noise, axes=(1, 0))
    frequency = np.hypot(fft.rfftfreq(shape[0])[:, None], fft.fftfreq(shape[1])[None]).astype(np.float32)
    power = frequency * np.exp(-((frequency / 0.22) ** 2))
    spectrum *= np.sqrt(power)[:, :, None]
    noise = fft.irfft2(spectrum, s=(shape[1], shape[0]), axes=(1, 0))
    return noise / noise.std()


def tissue_texture(canvas: Canvas, generator: np.random.Generator) -> Array:
    """Smooth unevenness of tissue, features of some 5 mm, float32 (I, J, K), standard deviation 1."""
    noise = generator.standard_normal(canvas.hu.shape, dtype=np.float32)
    ndimage.gaussian_filter(noise, [2.4 / step for step in canvas.voxel_mm], output=noise, truncate=2.5)
    return noise / noise.std()
