"""What can be told of a nodule's mean HU from a request."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from evaluation_kit import save_nodules
from lesionbrush.errors import InvalidRequest
from lesionbrush.evaluation import regression
from lesionbrush.evaluation.cases import load_nodules
from lesionbrush.evaluation.regression import NoduleTable, cross_validate, describe, regression_figures
from lesionbrush.training.split import is_validation

TEXTURE = 6


@pytest.fixture(autouse=True)
def _once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One regression instead of several: these tests are not after the last few HU."""
    monkeypatch.setattr(regression, "REPEATS", 1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nodules")
    patients = [f"LIDC-IDRI-{k:04d}" for k in range(1, 100)]
    save_nodules(folder, patients, np.random.default_rng(0))
    return folder


def test_what_the_readers_scored_is_told_exactly(data: Path) -> None:
    """Each texture of these made-up nodules has a mean HU of its own, up to noise."""
    figures = regression_figures(data)
    assert figures.mean_hu_error_regression_hu < 2
    assert figures.mean_hu_error_regression_in_training_hu < 2


def test_what_no_request_says_is_missed() -> None:
    """Means drawn from a normal distribution: the best guess misses by 0.674 standard deviations."""
    rng = np.random.default_rng(1)
    features = rng.normal(size=(300, 2))
    drawn = NoduleTable(features, rng.normal(0, 100, 300), np.arange(300))
    assert np.median(cross_validate(drawn)) == pytest.approx(67.4, rel=0.2)


def test_a_patient_is_told_by_others_alone() -> None:
    """Nodules of a patient are alike, and nothing else tells what they are: that must not help."""
    rng = np.random.default_rng(2)
    of_patient = rng.normal(0, 100, 100)
    patients = np.repeat(np.arange(100), 4)
    table = NoduleTable(patients[:, None] + rng.normal(0, 0.01, (400, 1)), of_patient[patients], patients)
    assert np.median(cross_validate(table)) > 50


def test_nothing_of_the_nodule_itself_is_known(data: Path) -> None:
    nodule = load_nodules(data, validation=True)[0]
    before = describe(nodule)
    assert before[TEXTURE] == nodule.scores["Texture"]
    nodule.case.crop.array[nodule.inside] = 3000
    assert np.array_equal(describe(nodule), before)


def test_too_few_patients(tmp_path: Path) -> None:
    save_nodules(tmp_path, [f"LIDC-IDRI-{k:04d}" for k in range(1, 9)], np.random.default_rng(0))
    with pytest.raises(InvalidRequest, match="needs 8 or more"):
        regression_figures(tmp_path)


def test_no_nodules(tmp_path: Path) -> None:
    (tmp_path / "lidc_nodules").mkdir()
    save_nodules(
        tmp_path, [p for k in range(40) if not is_validation(p := f"P{k}")], np.random.default_rng(0)
    )
    with pytest.raises(FileNotFoundError, match="held-out"):
        regression_figures(tmp_path)
