"""Grain in a tumour is drawn as it is in even tissue around, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
from lesionbrush.core.grain import REACH, draw_like, find_covariance, find_even, split_grain
from lesionbrush.systems.lesion_inpainting.soft_tissue.grain import LEAST_VOXELS, match_grain
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


def matched(hu: np.ndarray, mask: np.ndarray, known: np.ndarray, seed: int = 0) -> np.ndarray:
    return match_grain(hu, np.full_like(hu, 60), mask, known, 1.5, np.random.default_rng(seed))


def deep(mask: np.ndarray) -> np.ndarray:
    return ndimage.distance_transform_edt(mask > 0) > 4


@pytest.mark.parametrize(("spread_hu", "blur_voxels"), [(3.0, 0.0), (10.0, 0.0), (25.0, 0.0), (12.0, 1.2)])
def test_grain_comes_to_what_is_around(spread_hu: float, blur_voxels: float) -> None:
    hu, mask, known = scene(spread_hu, blur_voxels)
    made = matched(hu, mask, known)
    fine = made - ndimage.gaussian_filter(made, (0, 2, 2))
    around = hu - ndimage.gaussian_filter(hu, (0, 2, 2))
    far = ndimage.distance_transform_edt(mask == 0) > 7
    assert fine[deep(mask)].std() == pytest.approx(around[far].std(), rel=0.12)
    assert made[deep(mask)].mean() == pytest.approx(60, abs=1)


@pytest.mark.parametrize("radius", [3, 5])
def test_a_small_lesion_stays_as_dense_as_it_is(radius: int) -> None:
    """Its blurred border is no grain."""
    hu, _, known = scene(3.0)
    away = np.linalg.norm(np.indices((SIDE,) * 3) - (SIDE - 1) / 2, axis=0)
    mask = (away <= radius).astype(np.float32)
    grain = np.random.default_rng(1).normal(0, 3, hu.shape)
    hu = (100 - 40 * ndimage.gaussian_filter(mask, 1.0) + grain).astype(np.float32)
    made = match_grain(hu, np.full_like(hu, 60), mask, known, 1.5, np.random.default_rng(0))
    inner = ndimage.distance_transform_edt(mask > 0) > 1.2
    assert made[inner].mean() == pytest.approx(hu[inner].mean(), abs=2.0)


def test_equal_generators_give_equal_grain() -> None:
    hu, mask, known = scene(5.0)
    assert np.array_equal(matched(hu, mask, known), matched(hu, mask, known))
    assert not np.array_equal(matched(hu, mask, known), matched(hu, mask, known, seed=1))


def test_what_is_outside_stays() -> None:
    hu, mask, known = scene(25.0)
    made = matched(hu, mask, known)
    assert np.array_equal(made[mask == 0], hu[mask == 0])


def test_without_enough_tissue_nothing_changes() -> None:
    hu, mask, known = scene(25.0)
    assert np.array_equal(matched(hu, mask, np.zeros_like(known)), hu)
    few = np.zeros_like(mask)
    few.flat[: LEAST_VOXELS - 1] = 1
    assert np.array_equal(matched(hu, few, known), hu)
    unplanned = match_grain(hu, np.full_like(hu, np.nan), mask, known, 1.5, np.random.default_rng(0))
    assert np.array_equal(unplanned, hu)


def test_grain_knows_nothing_of_what_lies_beyond() -> None:
    hu, mask, _ = scene(5.0)
    other = np.where(mask > 0, hu, 3000)
    assert np.allclose(split_grain(hu, mask > 0), split_grain(other, mask > 0))


def test_even_tissue_is_where_no_edge_is() -> None:
    hu, _, _ = scene(10.0)
    half = np.index_exp[:, :, : SIDE // 2]
    hu[half] += np.where(np.indices((SIDE, SIDE, SIDE // 2))[1] // 5 % 2, 80, 0)
    even = find_even(hu, np.ones(hu.shape, bool))
    assert even.mean() == pytest.approx(0.5, abs=0.01)
    assert even[:, :, SIDE // 2 :].sum() > 0.9 * even.sum()


def correlated(seed: int) -> np.ndarray:
    """(64, 64, 64) noise of variance 25 that goes together with its neighbour along z by half."""
    white = np.random.default_rng(seed).normal(0, 5, (65, 64, 64))
    return (white[1:] + white[:-1]) / np.sqrt(2)


def test_the_covariance_is_that_of_the_noise_in_any_region() -> None:
    noise = correlated(0)
    region = np.linalg.norm(np.indices(noise.shape) - 32, axis=0) < 28
    found = find_covariance(noise, region)
    middle = (REACH,) * 3
    assert found.shape == (2 * REACH + 1,) * 3
    assert found[middle] == pytest.approx(25, rel=0.03)
    assert found[REACH + 1, REACH, REACH] == pytest.approx(12.5, rel=0.06)
    assert abs(found[REACH + 2, REACH, REACH]) < 0.5
    assert abs(found[REACH, REACH + 1, REACH]) < 0.5
    alone = np.zeros(noise.shape, bool)
    alone[0, 0, :10] = True
    assert (find_covariance(noise, alone) == 0).all()


def test_noise_is_drawn_with_the_covariance() -> None:
    wanted = find_covariance(correlated(0), np.ones((64, 64, 64), bool))
    drawn = draw_like(wanted, (48, 50, 46), np.random.default_rng(1))
    assert drawn.shape == (48, 50, 46)
    assert drawn.std() == pytest.approx(5, rel=0.05)
    along = [np.mean(drawn * np.roll(drawn, 1, axis)) for axis in range(3)]
    assert along[0] == pytest.approx(12.5, rel=0.12)
    assert np.abs(along[1:]).max() < 1
