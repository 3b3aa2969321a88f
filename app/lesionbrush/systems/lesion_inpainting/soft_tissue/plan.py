"""The plan of a lesion: how dense it is to be at each place, drawn from words, without grain or texture.

The network is given the plan, in training as in use, and makes tissue of it. Arrays are (z, y, x) on the ROI.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

RIM_HU, RIM_SHARE, RIM_MM = 45.0, 0.22, (2.0, 5.0)
"""How much denser the strongest rim is than the lesion and than the tissue around, which a reader sees it
against; and how thick: share of the radius, within limits."""
NECROTIC_HU, NECROTIC_FROM, NECROTIC_TO = 15.0, 0.3, 0.6
"""Fluid and debris; where it begins and is full, in shares of the radius below the surface."""
CALCIUM_HU, CALCIUM_MM = (180.0, 750.0), (0.9, 2.2)
MM3_PER_CALCIFICATION, MOST_CALCIFICATIONS = 900.0, 12
WARP_SHARE, SMOOTH_VOXELS = 0.22, 0.6
AROUND_FROM_MM, AROUND_TO_MM, SOFT_HU, LEAST_VOXELS = 3.0, 9.0, (-200.0, 300.0), 40
TYPICAL_AROUND_HU = 60.0
FATTY_HU, LEAST_DENSER = -20.0, 0.2
"""Fat is less dense. A lesion at the border of an organ grows from the organ, not from a mean of organ and
fat, so long as this share of what is around is denser than fat."""
EVEN_WITHIN_HU, EVEN_SHARE = 40.0, 0.75
"""Tissue is even where so much of it lies so near to its median."""


@dataclass(frozen=True)
class Look:
    """What is drawn. contrast_hu: against the tissue around; the others are degrees, 0 to 1."""

    contrast_hu: float
    rim: float = 0.0
    necrosis: float = 0.0
    calcification: float = 0.0


def measure_around(hu: np.ndarray, coverage: np.ndarray, spacing_mm: float) -> float:
    """Median HU of the soft tissue 3 to 9 mm around a lesion; `TYPICAL_AROUND_HU` where there is too little.

    Beside fat it is that of the denser tissue. hu, coverage (0..1): (Z, Y, X).
    """
    soft = _soft_around(hu, coverage, spacing_mm)
    if soft.size < LEAST_VOXELS:
        return TYPICAL_AROUND_HU
    return float(np.median(soft[soft >= FATTY_HU] if _is_denser(soft) else soft))


def lies_beside_fat(hu: np.ndarray, coverage: np.ndarray, spacing_mm: float) -> bool:
    """Whether what `measure_around` says is not said of a good part of what is around, which is fat."""
    soft = _soft_around(hu, coverage, spacing_mm)
    return soft.size >= LEAST_VOXELS and _is_denser(soft) and bool((soft < FATTY_HU).mean() >= LEAST_DENSER)


def _is_denser(soft: np.ndarray) -> bool:
    return bool((soft >= FATTY_HU).mean() >= LEAST_DENSER)


def measure_even(hu: np.ndarray, coverage: np.ndarray, spacing_mm: float) -> float | None:
    """The same where that tissue is even, as inside an organ; None at its border."""
    soft = _soft_around(hu, coverage, spacing_mm)
    if soft.size < LEAST_VOXELS:
        return None
    middle = float(np.median(soft))
    return middle if (np.abs(soft - middle) <= EVEN_WITHIN_HU).mean() >= EVEN_SHARE else None


def _soft_around(hu: np.ndarray, coverage: np.ndarray, spacing_mm: float) -> np.ndarray:
    away_mm = ndimage.distance_transform_edt(coverage < 0.5 * coverage.max(), sampling=spacing_mm)
    near = hu[(away_mm > AROUND_FROM_MM) & (away_mm <= AROUND_TO_MM)]
    soft: np.ndarray = near[(near >= SOFT_HU[0]) & (near <= SOFT_HU[1])]
    return soft


def draw_plan(
    coverage: np.ndarray, around_hu: float, look: Look, spacing_mm: float, rng: np.random.Generator
) -> np.ndarray:
    """(Z, Y, X) float32 HU; outside the lesion it goes on as its surface is. coverage: 0..1, not empty."""
    inside = coverage >= 0.5 * coverage.max()
    depth_mm = ndimage.distance_transform_edt(inside, sampling=spacing_mm)
    radius_mm = float(depth_mm.max())
    field = draw_field(coverage.shape, max(0.35 * radius_mm, 2.0) / spacing_mm, rng)
    hu = np.full(coverage.shape, around_hu + look.contrast_hu, np.float64)
    if look.necrosis:
        hu += look.necrosis * _necrosis(depth_mm, radius_mm, field) * np.minimum(NECROTIC_HU - hu, 0)
    if look.rim:
        width_mm = float(np.clip(RIM_SHARE * radius_mm, *RIM_MM))
        uneven = np.clip(1 + 0.5 * field, 0.2, 1.6)
        rise_hu = look.rim * (RIM_HU + max(0.0, -look.contrast_hu))
        hu += rise_hu * uneven * np.clip(1.5 - depth_mm / width_mm, 0, 1)
    hu = ndimage.gaussian_filter(hu, SMOOTH_VOXELS)
    if look.calcification:
        hu += _calcium(inside, look.calcification, spacing_mm, rng)
    return hu.astype(np.float32)


def draw_field(shape: tuple[int, ...], scale_voxels: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise of mean 0 and standard deviation 1, over about so many voxels."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape), scale_voxels, mode="wrap")
    spread = float(field.std())
    return (field - field.mean()) / (spread if spread > 0 else 1.0)


def _necrosis(depth_mm: np.ndarray, radius_mm: float, field: np.ndarray) -> np.ndarray:
    """0..1: how much of the middle is dead; its border is uneven."""
    share = depth_mm / radius_mm
    share = share + 4 * WARP_SHARE * field * share * (1 - share)
    rise = np.clip((share - NECROTIC_FROM) / (NECROTIC_TO - NECROTIC_FROM), 0, 1)
    smooth: np.ndarray = rise * rise * (3 - 2 * rise)
    return smooth


def _calcium(inside: np.ndarray, degree: float, spacing_mm: float, rng: np.random.Generator) -> np.ndarray:
    """HU of some small calcifications inside, more and denser the higher the degree."""
    places = np.argwhere(ndimage.binary_erosion(inside)) if inside.sum() > 60 else np.argwhere(inside)
    places = places if len(places) else np.argwhere(inside)
    expected = degree * len(places) * spacing_mm**3 / MM3_PER_CALCIFICATION
    count = int(np.clip(rng.poisson(expected) + 1, 1, MOST_CALCIFICATIONS))
    hu = np.zeros(inside.shape)
    grid = np.indices(inside.shape).transpose(1, 2, 3, 0)
    for place in places[rng.integers(len(places), size=count)]:
        size = rng.uniform(*CALCIUM_MM) / spacing_mm * rng.uniform(0.7, 1.4, size=3)
        peak_hu = degree * rng.uniform(*CALCIUM_HU)
        distance = (((grid - place) / np.maximum(size, 0.5)) ** 2).sum(axis=-1)
        hu = np.maximum(hu, peak_hu * np.exp(-0.5 * distance))
    return hu
