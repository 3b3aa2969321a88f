"""Grain in a tumour is made as strong as around it; where nothing is wrong, nothing changes."""

from __future__ import annotations

import numpy as np
import pytest
from lesionbrush.systems.lesion_inpainting.soft_tissue.grain import LEAST_VOXELS, match_grain, split_bands
from scipy import ndimage

SIDE = 40


def scene(spread_hu: float, blur_voxels: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A ball of 60 HU with grain of its own in tissue of 100 HU with grain of 10: HU, mask, known."""
    rng = np.random.default_rng(0)
    away = np.linalg.norm(np.indices((SIDE,) * 3) - (SIDE - 1) / 2, axis=0)
    mask = (away <= 11).astype(np.float32)
    around, own = rng.normal(0, 10, (2, SIDE, SIDE, SIDE))
    own = ndimage.gaussian_filter(own, blur_voxels)
    hu = np.where(mask > 0, 60 + own / own.std() * spread_hu, 100 + around)
    return hu.astype(np.float32), mask, away > 13


def deep(mask: np.ndarray) -> np.ndarray:
    return ndimage.distance_transform_edt(mask > 0) > 4


@pytest.mark.parametrize("spread_hu", [7.0, 25.0])
def test_grain_comes_to_what_is_around(spread_hu: float) -> None:
    hu, mask, known = scene(spread_hu)
    made = match_grain(hu, np.full_like(hu, 60), mask, known, 1.5)
    before, after = (abs(one[deep(mask)].std() - 10) for one in (hu, made))
    assert after < 0.6 * before
    assert made[deep(mask)].mean() == pytest.approx(60, abs=1)


def test_coarse_mottle_is_calmed() -> None:
    hu, mask, known = scene(12.0, blur_voxels=1.2)
    made = match_grain(hu, np.full_like(hu, 60), mask, known, 1.5)
    assert made[deep(mask)].std() < 0.9 * hu[deep(mask)].std()


def test_grain_that_is_right_stays() -> None:
    hu, mask, known = scene(10.0)
    made = match_grain(hu, np.full_like(hu, 60), mask, known, 1.5)
    assert np.abs(made - hu)[deep(mask)].mean() < 1.0


def test_the_surface_and_what_is_outside_stay() -> None:
    hu, mask, known = scene(25.0)
    made = match_grain(hu, np.full_like(hu, 60), mask, known, 1.5)
    assert np.array_equal(made[mask == 0], hu[mask == 0])


def test_without_enough_tissue_nothing_changes() -> None:
    hu, mask, known = scene(25.0)
    nothing = np.zeros_like(known)
    assert np.array_equal(match_grain(hu, np.full_like(hu, 60), mask, nothing, 1.5), hu)
    few = np.zeros_like(mask)
    few.flat[: LEAST_VOXELS - 1] = 1
    assert np.array_equal(match_grain(hu, np.full_like(hu, 60), few, known, 1.5), hu)


def test_bands_know_nothing_of_what_lies_beyond() -> None:
    hu, mask, _ = scene(5.0)
    other = np.where(mask > 0, hu, 3000)
    for one, two in zip(split_bands(hu, mask > 0), split_bands(other, mask > 0), strict=True):
        assert np.allclose(one, two)
