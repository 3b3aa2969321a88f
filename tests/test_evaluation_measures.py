"""Measures of lesions on shapes whose answer is known, and on faults they have to see."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation_kit import ball
from lesionbrush.evaluation.measures import (
    HuInMask,
    Surface,
    adherence_dice,
    band_deviation,
    border_noise_ratio,
    calcium_share,
    contact_share,
    grain,
    inner_grain,
    signed_distance_mm,
)
from lesionbrush.evaluation.patches import Patch
from scipy import ndimage

SHAPE, CENTRE, SPACING_MM = (40, 40, 40), (20, 20, 20), (1.0, 1.0, 1.0)
BALL = ball(SHAPE, CENTRE, 8)
rng = np.random.default_rng(0)
LUNG = rng.normal(-850, 20, SHAPE)


def patch(body: np.ndarray, blur_mm: float = 0.8) -> Patch:
    """Soft tissue of that shape in lung; the painted mask is the ball."""
    hu = ndimage.gaussian_filter(np.where(body, 30.0, -850.0), blur_mm).astype(np.float32)
    return Patch(hu, BALL, np.ones(SHAPE, bool))


def test_hu_in_the_mask() -> None:
    found = HuInMask.of(np.arange(101.0).reshape(1, 1, -1), np.ones((1, 1, 101), bool))
    assert (found.mean, found.p10, found.p90) == pytest.approx((50, 10, 90))
    assert found.spread == pytest.approx(np.sqrt((101**2 - 1) / 12))


def test_distances_are_negative_inside() -> None:
    distance = signed_distance_mm(np.array([[[0, 1, 1, 1, 0, 0]]], bool), (1, 1, 2.0))
    assert distance.ravel().tolist() == [2, -2, -4, -2, 2, 4]


@pytest.mark.parametrize("slope", [0.0, 40.0])
def test_grain_is_the_deviation_of_white_noise_whatever_the_slope(slope: float) -> None:
    hu = rng.normal(0, 25, SHAPE) + slope * np.arange(40)
    assert grain(hu, np.ones(SHAPE, bool)) == pytest.approx(25, rel=0.03)
    assert np.isnan(grain(hu, np.zeros(SHAPE, bool)))


def test_a_filled_mask_adheres_and_a_smaller_lesion_does_not() -> None:
    small = ball(SHAPE, CENTRE, 5)
    full = adherence_dice(np.where(BALL, 30, LUNG), BALL, SPACING_MM, 3.0)
    half = adherence_dice(np.where(small, 30, LUNG), BALL, SPACING_MM, 3.0)
    assert full == pytest.approx(1, abs=0.01)
    assert half == pytest.approx(2 * small.sum() / (small.sum() + BALL.sum()), abs=0.02)
    assert np.isnan(adherence_dice(LUNG, BALL, SPACING_MM, 3.0))


def test_a_vessel_beside_the_lesion_is_no_lesion() -> None:
    hu = np.where(BALL, 30, LUNG)
    hu[:, 20, 30:32] = 30
    assert adherence_dice(hu, BALL, SPACING_MM, 3.0) == pytest.approx(1, abs=0.01)


def test_border_noise_is_one_for_untouched_lung_and_less_where_it_was_smoothed() -> None:
    hu = np.where(BALL, 30, LUNG)
    near = (signed_distance_mm(BALL) <= 4) & ~BALL
    smooth = np.where(near, -850, hu)
    assert border_noise_ratio(hu, BALL, SPACING_MM, 3.0) == pytest.approx(1, abs=0.3)
    assert border_noise_ratio(smooth, BALL, SPACING_MM, 3.0) < 0.05


def test_inner_grain_sees_a_flat_lesion() -> None:
    noisy = np.where(BALL, rng.normal(30, 15, SHAPE), LUNG)
    assert inner_grain(noisy, BALL, SPACING_MM) == pytest.approx(15, rel=0.1)
    assert inner_grain(np.where(BALL, 30, LUNG), BALL, SPACING_MM) == 0


def test_mottle_is_seen_and_fine_noise_hardly() -> None:
    blotches = ndimage.gaussian_filter(rng.normal(size=SHAPE), 1.3)
    blotches *= 40 / blotches.std()
    fine = rng.normal(0, 40, SHAPE)
    still, mottled, noisy = (band_deviation(np.where(BALL, 30 + x, LUNG), BALL) for x in (0, blotches, fine))
    assert still < 2
    assert mottled > 1.7 * noisy > 2


def test_contact_is_lost_when_lung_is_put_between() -> None:
    wall = np.zeros(SHAPE, bool)
    wall[:, :, 27:] = True
    real = np.where(BALL | wall, 30, LUNG)
    gap = (signed_distance_mm(BALL) <= 3) & ~BALL
    assert contact_share(real, real, BALL, SPACING_MM, 3.0) == 1
    assert contact_share(np.where(gap, -850, real), real, BALL, SPACING_MM, 3.0) == 0
    assert np.isnan(contact_share(LUNG, np.where(BALL, 30, LUNG), BALL, SPACING_MM, 3.0))


def test_a_blurred_edge_is_less_steep() -> None:
    sharp, dull = Surface(patch(BALL)).edge_slope(), Surface(patch(BALL, 2.0)).edge_slope()
    assert 0.1 < dull < 0.7 * sharp


def test_spikes_and_lobes_of_a_ball_and_of_what_is_none() -> None:
    spiked = BALL.copy()
    for axis in range(3):
        line = [slice(19, 21)] * 3
        line[axis] = slice(8, 32)
        spiked[tuple(line)] = True
    twins = ball(SHAPE, (20, 20, 15), 6) | ball(SHAPE, (20, 20, 25), 6)
    round_, thorny, lobed = (Surface(patch(body)) for body in (BALL, spiked, twins))
    assert round_.spikes() == pytest.approx(1, abs=0.15)  # a mesh over voxels is a little rough
    assert thorny.spikes() > round_.spikes() + 0.03
    assert round_.lobes() < 0.2  # the hull goes round the corners of voxels
    wide = Surface(Patch(lobed.patch.hu, twins, lobed.patch.known))
    assert wide.lobes() > round_.lobes() + 0.04


def test_without_lung_there_is_no_surface() -> None:
    flat = Surface(Patch(np.full(SHAPE, 30, np.float32), BALL, np.ones(SHAPE, bool)))
    assert not flat.shown
    assert np.isnan([flat.edge_slope(), flat.spikes(), flat.lobes()]).all()


def test_calcium_is_what_is_above_200_hu() -> None:
    assert calcium_share(np.array([0, 100, 300, 900.0]), np.ones(4, bool)) == 0.5
