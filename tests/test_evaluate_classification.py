"""Lesion or not: what the network is shown, that it learns, and its figures in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation_kit import ball
from lesionbrush.evaluation.downstream.arms import REAL
from lesionbrush.evaluation.downstream.classification import (
    CLASSIFIED,
    classified,
    gain_classified,
    tensor_of_boxes,
    train_classifier,
)
from lesionbrush.evaluation.downstream.results import (
    ClassifiedRun,
    DownstreamReport,
    HeldOutLesions,
    TrainedRun,
)
from lesionbrush.evaluation.downstream.samples import SHAPE, SIDE, LesionBox, held_out_patches
from lesionbrush.evaluation.downstream.tables import lines
from lesionbrush.evaluation.patches import Patch
from lesionbrush.evaluation.statistics import auc

MADE = "made 200 % alone"


def box(seed: int, lesion: bool) -> LesionBox:
    """Lung with noise, and a ball of 40 HU in it."""
    inside = ball((SIDE,) * 3, (SIDE // 2,) * 3, 5) & lesion
    hu = np.where(inside, 40, -850) + np.random.default_rng(seed).normal(0, 40, inside.shape)
    return LesionBox(Patch(hu.astype(np.float32), inside, inside | True), f"P{seed}", "solid")


def test_it_is_shown_hu_and_where_there_is_data_and_no_mask() -> None:
    hu = np.linspace(-1000, 400, int(np.prod(SHAPE)), dtype=np.float32).reshape(SHAPE)
    one, other = (Patch(hu, np.full(SHAPE, inside), hu > -300) for inside in (False, True))
    shown = tensor_of_boxes([one, other])
    assert np.array_equal(shown[0], shown[1])
    assert shown[0, 0].min() == -1
    assert shown[0, 0].max() == 1
    assert np.array_equal(shown[0, 3] > 0, hu > -300)


def test_it_learns_what_a_lesion_is_and_a_seed_is_a_network() -> None:
    lesions, clear = ([box(k + 50 * there, there) for k in range(6)] for there in (True, False))
    tested = held_out_patches([box(200, True), box(201, True), box(202, False), box(203, False)])
    first, again, other = (
        train_classifier(lesions, clear, 25, seed).decision(tensor_of_boxes(tested)) for seed in (0, 0, 1)
    )
    assert auc(first, np.array([1, 1, 0, 0])) == 1
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def report(**logits: tuple[tuple[float, ...], tuple[float, ...]]) -> DownstreamReport:
    runs = [
        ClassifiedRun(
            real_share=0.1, arm=arm, seed=seed, samples=1, seconds=1.0, logits=there, clear_logits=clear
        )
        for arm, (there, clear) in logits.items()
        for seed in (0, 1)
    ]
    measured = dict.fromkeys(("dice", "jaccard", "sensitivity", "specificity"), (0.5,) * 4)
    trained = [
        TrainedRun(real_share=0.1, arm=arm, seed=0, samples=1, seconds=1.0, scores=measured) for arm in logits
    ]
    return DownstreamReport(
        created="", machine="", model="m", weights_sha256="", steps=1, real=10, runs=tuple(trained),
        classified=tuple(runs), clear_patients=("X", "X", "Y", "Y"),
        tested=HeldOutLesions(patients=tuple("AABB"), groups=("solid",) * 4, volumes_mm3=(1, 2, 3, 4)),
    )  # fmt: skip


def test_figures_in_closed_form_with_intervals_by_patient() -> None:
    found = report(
        **{REAL: ((2.0, 1.0, 3.0, -1.0), (-2.0, 0.5, -3.0, -4.0)), MADE: ((1.0,) * 4, (-1.0,) * 4)}
    )
    values = {name: classified(found, 0.1, REAL, name).value for name in CLASSIFIED}
    assert values == pytest.approx({"AUC": 15 / 16, "accuracy": 6 / 8, "F1": 6 / 8}, rel=1e-3)
    interval = classified(found, 0.1, REAL, "AUC")
    assert interval.low is not None
    assert interval.low < 15 / 16
    gain = gain_classified(found, 0.1, MADE, REAL, "AUC")
    assert gain.value == pytest.approx(1 / 16, rel=1e-3)
    assert (gain.low or 0) >= 0
    assert classified(found, 0.25, REAL, "AUC").value is None
    printed = list(lines(found))
    assert "| lesion or not | AUC | accuracy | F1 | AUC over real |" in printed
    assert any(line.startswith(f"| {MADE} | 1 (1 to 1)") for line in printed)


def test_a_class_that_nobody_names_has_no_f1() -> None:
    assert np.isnan(CLASSIFIED["F1"](np.array([-1.0, -1.0]), np.array([0, 0])))
