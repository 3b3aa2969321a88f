"""Calcium drawn into lesions: of its kind, of its density, within the lesion, and with its grain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from lesionbrush.systems.lesion_inpainting.card import Calcium
from lesionbrush.systems.lesion_inpainting.laws.calcium import (
    HEIGHTS,
    LARGE_MM,
    SHARES,
    Calcification,
    is_calcified,
    leave_calcium_out,
    leave_room,
)
from lesionbrush.systems.lesion_inpainting.laws.cores import LesionDraws
from lesionbrush.systems.lesion_inpainting.laws.density import Densities, Density, RoiSpacing
from lesionbrush.systems.lesion_inpainting.laws.painted import Painted
from lesionbrush.systems.lesion_inpainting.request import Attributes
from scipy import ndimage

SHAPE, CENTRE = (40,) * 3, 19.5
CALCIUM = Calcium(base_hu=500.0, per_inverse_diameter=-2400.0, spread_hu=200.0, middle_hu=(1400.0, 400.0))
TISSUE_HU, LUNG_HU, DENSE_HU = 30.0, -850.0, 400.0
KINDS = sorted(HEIGHTS)


def away_mm() -> np.ndarray:
    return np.linalg.norm(np.stack(np.indices(SHAPE), -1) - CENTRE, axis=-1)


def ball(radius_mm: float = 9.0) -> np.ndarray:
    return (away_mm() <= radius_mm).astype(np.float32)


def soft(radius_mm: float = 9.0, count: int = 1) -> np.ndarray:
    """Balls of soft tissue in lung, with grain."""
    grain = np.random.default_rng(0).normal(0, 20, SHAPE)
    return np.stack([np.where(ball(radius_mm) > 0, TISSUE_HU, LUNG_HU) + grain] * count).astype(np.float32)


def calcification(wish: dict, masks: np.ndarray, seed: int = 0, variety: float = 1.0) -> Calcification:
    count, lung = len(masks), np.full(len(masks), LUNG_HU, np.float32)
    painted = Painted(masks, masks, masks, masks, np.zeros(count), lung, lung)
    draws = LesionDraws([(seed, k) for k in range(count)], variety)
    asked = Attributes.model_validate(wish)
    lesions = Densities(leave_calcium_out(asked), Density(None, None), masks, painted, RoiSpacing(1.0), draws)
    return Calcification(asked, CALCIUM, lesions)


def made(kind: str, radius_mm: float = 9.0, seed: int = 0, variety: float = 1.0, **wish: float) -> np.ndarray:
    """(Z, Y, X) HU of one ball."""
    asked = {"calcification": kind, **wish}
    return calcification(asked, ball(radius_mm)[None], seed, variety).draw_into(soft(radius_mm))[0]


@pytest.mark.parametrize("kind", KINDS)
def test_calcium_is_dense_within_the_lesion_and_repeats(kind: str) -> None:
    hu = made(kind)
    assert hu[ball() > 0].max() > 700
    assert np.array_equal(hu[ball() == 0], soft()[0][ball() == 0])
    assert np.array_equal(hu, made(kind))
    assert not np.array_equal(hu, made(kind, seed=1))


def test_grain_is_that_of_the_lesion() -> None:
    """Deep in a large calcification, what is left after a blur is what was left before."""
    deep = ball(4.0) > 0
    fine = [hu - ndimage.gaussian_filter(hu, 1.0) for hu in (made("solid", 14.0), soft(14.0)[0])]
    assert np.std(fine[0][deep]) == pytest.approx(np.std(fine[1][deep]), rel=0.1)


@pytest.mark.parametrize("kind", sorted(SHARES))
def test_the_share_of_a_pattern_is_typical_of_it(kind: str) -> None:
    added = made(kind, variety=0.0) - soft()[0]
    assert added.sum() / ball().sum() == pytest.approx(SHARES[kind] * (1400 - TISSUE_HU), rel=0.15)


def test_central_calcium_is_in_the_middle_and_non_central_is_not() -> None:
    for seed in range(4):
        centres = [
            ndimage.center_of_mass(made(kind, seed=seed) > DENSE_HU) for kind in ("central", "non_central")
        ]
        central, other = (float(np.linalg.norm(np.array(centre) - CENTRE)) for centre in centres)
        assert central < 2.5
        assert other > 3


def test_laminated_calcium_lies_in_shells() -> None:
    """From the middle outwards it is dense and less dense in turn."""
    hu = ndimage.gaussian_filter(made("laminated", radius_mm=14.0), 0.5)
    profile = [hu[(away_mm() >= r) & (away_mm() < r + 1)].mean() for r in range(14)]
    turns = np.diff(np.sign(np.diff(profile)))
    assert np.count_nonzero(turns) >= 2


def test_popcorn_is_of_many_grains() -> None:
    counts = [ndimage.label(made("popcorn", 14.0, seed) > DENSE_HU)[1] for seed in range(4)]
    assert np.median(counts) >= 3
    assert ndimage.label(made("central", 14.0) > DENSE_HU)[1] == 1


def test_a_solid_one_has_the_mean_of_real_ones() -> None:
    masks = np.stack([ball(4.0)] * 30)
    hu = calcification({"calcification": "solid"}, masks).draw_into(soft(4.0, 30))
    means = hu[:, ball(4.0) > 0].mean(axis=1)
    assert means.mean() == pytest.approx(500 - 2400 / 8, abs=80)
    assert means.std() == pytest.approx(0.75 * CALCIUM.spread_hu, rel=0.35)


def test_smaller_ones_are_less_dense_up_to_a_size() -> None:
    radii_mm = (3.0, 5.0, 6.5)
    means = [made("solid", mm, variety=0.0)[ball(mm) > 0].mean() for mm in radii_mm]
    diameters_mm = [min(np.cbrt(6 / np.pi * ball(mm).sum()), LARGE_MM) for mm in radii_mm]
    assert means == pytest.approx([500 - 2400 / mm for mm in diameters_mm], abs=1)


def test_calcium_lies_in_the_ct() -> None:
    """The middle of a lesion that the CT ends in, and not where it would be beyond."""
    job = calcification({"calcification": "central"}, ball()[None])
    beyond = np.indices(SHAPE)[0] < 26
    painted = job.lesions.painted._replace(known=np.where(beyond, 0, ball())[None])
    hu = replace(job, lesions=replace(job.lesions, painted=painted)).draw_into(soft())
    assert np.array_equal(hu[0][beyond], soft()[0][beyond])
    assert (hu > DENSE_HU).sum() > 10


def test_a_large_solid_one_is_filled() -> None:
    radius_mm = LARGE_MM
    hu = made("solid", radius_mm, variety=0.0)
    calcified = hu[ball(radius_mm) > 0] > TISSUE_HU + 100
    assert calcified.mean() > 0.4
    assert (
        hu[ball(radius_mm) > 0][calcified].max() < 0.6 * CALCIUM.middle_hu[0]
    )  # or the mean would be far off


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mean_hu", [150.0, 500.0])
def test_a_mean_that_was_asked_for_is_met(kind: str, mean_hu: float) -> None:
    assert made(kind, mean_hu=mean_hu)[ball() > 0].mean() == pytest.approx(mean_hu, abs=0.1)


def test_the_mean_counts_as_on_the_ct() -> None:
    counted = np.random.default_rng(0).random((1, *SHAPE)) * ball()
    job = calcification({"calcification": "solid", "mean_hu": 300}, ball()[None])
    painted = job.lesions.painted._replace(counted=counted, kept_hu=np.array([12.0]))
    lesions = Densities(
        job.lesions.wish, job.lesions.density, ball()[None], painted, RoiSpacing(1.0), job.lesions.draws
    )
    hu = Calcification(job.wish, CALCIUM, lesions).draw_into(soft())
    assert (counted * hu).sum() / counted.sum() + 12 == pytest.approx(300, abs=0.1)


def test_tiny_and_empty_lesions() -> None:
    dot = np.zeros((1, *SHAPE), np.float32)
    assert np.array_equal(calcification({"calcification": "popcorn"}, dot).draw_into(soft()), soft())
    dot[0, 20, 20, 20] = 1
    for kind in KINDS:
        hu = calcification({"calcification": kind}, dot).draw_into(soft())
        assert np.isfinite(hu).all()
        assert (hu != soft()).sum() <= 1


def test_a_lesion_thinner_than_a_voxel_is_calcified_as_well() -> None:
    thin = 0.3 * ball(3.0)[None]
    hu = calcification({"calcification": "solid", "mean_hu": 100}, thin).draw_into(soft(3.0))
    assert (thin * hu).sum() / thin.sum() == pytest.approx(100, abs=0.1)


@pytest.mark.parametrize(
    ("wish", "calcified"),
    [
        ({"calcification": "solid"}, True),
        ({"calcification": "popcorn", "texture": "ground_glass"}, True),
        ({}, False),
        ({"calcification": None}, False),
        ({"calcification": "solid", "lesion": "none"}, False),
    ],
)
def test_what_is_calcified(wish: dict, calcified: bool) -> None:
    assert is_calcified(Attributes.model_validate(wish)) is calcified


def test_what_a_lesion_is_before() -> None:
    asked = Attributes(calcification="central", mean_hu=200, margin=0.4)
    before = leave_calcium_out(asked)
    assert (before.calcification, before.mean_hu, before.margin) == ("none", None, 0.4)
    assert leave_room(200, CALCIUM) < 200
    assert leave_room(1600, CALCIUM) == 1600
