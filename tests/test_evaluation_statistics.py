"""Statistics of the evaluation against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from lesionbrush.evaluation.statistics import (
    auc,
    balanced_accuracy,
    by_patient,
    frechet_distance,
    mean,
    median,
    rank_correlation,
    split_halves,
    squared_mmd,
)
from scipy import linalg


def test_auc_is_the_share_of_pairs_in_order() -> None:
    scores, labels = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0, 1, 0, 1])
    assert auc(scores, labels) == pytest.approx(0.75)
    assert auc(np.ones(4), labels) == pytest.approx(0.5)
    assert auc(-scores, labels) == pytest.approx(0.25)
    assert np.isnan(auc(scores, np.ones(4)))


def test_rank_correlation_says_yes_no_and_unknown() -> None:
    x = np.arange(5.0)
    assert rank_correlation(x, x**3) == pytest.approx(1)
    assert rank_correlation(x, -x) == pytest.approx(-1)
    assert rank_correlation(x, np.array([1.0, 0, 4, 2, 3])) == pytest.approx(0.6)
    assert np.isnan(rank_correlation(x, np.ones(5)))
    assert np.isnan(rank_correlation(x[:2], x[:2]))


def test_the_frechet_distance_of_two_normals() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(200_000, 2))
    b = a * [2.0, 1.0] + [3.0, 0.0]
    assert frechet_distance(a, b) == pytest.approx(3**2 + (2 - 1) ** 2, rel=0.02)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


def test_the_frechet_distance_is_that_of_the_root_of_both_covariances() -> None:
    """Also of fewer rows than features, where the root in the formula is of a singular matrix."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(40, 4)), rng.normal(size=(30, 4)) @ rng.normal(size=(4, 4)) + 1
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    gap = a.mean(axis=0) - b.mean(axis=0)
    expected = gap @ gap + np.trace(cov_a + cov_b - 2 * np.real(linalg.sqrtm(cov_a @ cov_b)))
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    few = rng.normal(size=(5, 2000))
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(few, few + 0.1) == pytest.approx(2000 * 0.1**2, rel=1e-6)


def test_mmd_is_near_nothing_for_equal_and_large_for_other_distributions() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 150, 3))
    assert abs(squared_mmd(a, b)) < 0.01
    assert squared_mmd(a, b + 3) > 0.3


def test_the_interval_of_a_mean_has_the_textbook_width() -> None:
    values = np.random.default_rng(1).normal(size=400)
    found = by_patient(mean, [f"{k}" for k in range(400)], values)
    assert found.value == pytest.approx(values.mean(), rel=1e-3)
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.15)


def test_nodules_of_one_patient_are_not_independent() -> None:
    """Forty copies of ten patients know no more than the ten."""
    values = np.repeat(np.random.default_rng(1).normal(size=10), 40)
    together = by_patient(mean, np.repeat(np.arange(10), 40).astype(str).tolist(), values)
    apart = by_patient(mean, np.arange(400).astype(str).tolist(), values)
    assert together.high - together.low > 4 * (apart.high - apart.low)


def test_what_cannot_be_measured_is_none() -> None:
    nothing = by_patient(median, ["a", "b"], np.array([np.nan, np.nan]))
    assert (nothing.value, nothing.low, nothing.n) == (None, None, 2)
    assert by_patient(median, [], np.array([])).value is None


def test_balanced_accuracy_counts_every_class_alike() -> None:
    true = np.array(["a"] * 9 + ["b"])
    assert balanced_accuracy(np.array(["a"] * 10), true) == pytest.approx(0.5)
    assert balanced_accuracy(true, true) == 1


def test_halves_share_no_patient() -> None:
    patients = np.array(["a", "a", "b", "c", "c", "d"])
    first, second = split_halves(patients.tolist(), np.random.default_rng(0))
    assert not set(patients[first]) & set(patients[second])
    assert sorted([*first, *second]) == list(range(6))
