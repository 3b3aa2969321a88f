"""How well the mean HU of a nodule can be told at all from what a request says: a bar for our figures.

A regression learns from the training nodules what their mean HU is, given the mask, the tissue around it
beyond what a synthesis changes, and the readers' scores. What it misses on nodules of other patients is not
in the request: how dense just this one is, and how tightly the readers outlined it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.model_selection import GroupKFold
from tqdm import tqdm

from lesionbrush.errors import InvalidRequest
from lesionbrush.evaluation.cases import SCORES, Nodule, load_nodules
from lesionbrush.systems.lesion_inpainting.laws.painted import LUNG_BELOW_HU, NEAR_TO_MM, TYPICAL_LUNG_HU
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest

FOLDS, REPEATS = 8, 5
ABSENT = -1.0
"""Stands for a score that the readers did not give."""


@dataclass(frozen=True)
class RegressionFigures:
    """Median absolute errors of the mean HU: of the held-out nodules; of those of training, each told by a
    regression that saw no nodule of its patient."""

    mean_hu_error_regression_hu: float
    mean_hu_error_regression_in_training_hu: float


@dataclass(frozen=True, eq=False)
class NoduleTable:
    """known: (N, F) what a request says of each nodule; mean_hu: (N,); patients: (N,) whose they are."""

    known: np.ndarray
    mean_hu: np.ndarray
    patients: np.ndarray

    @classmethod
    def of(cls, nodules: list[Nodule], title: str) -> NoduleTable:
        bar = tqdm(nodules, desc=title, unit="nodule")
        rows = [(describe(nodule), nodule.case.crop.array[nodule.inside].mean()) for nodule in bar]
        features, means = zip(*rows, strict=True)
        return cls(np.array(features), np.array(means), np.array([nodule.patient for nodule in nodules]))


def regression_figures(data: Path) -> RegressionFigures:
    """FileNotFoundError when `data` holds no nodules of one side of the split, InvalidRequest when those of
    training are of too few patients."""
    held_out, training = (
        NoduleTable.of(load_nodules(data, validation=validation), title)
        for validation, title in ((True, "held out"), (False, "training"))
    )
    if (patients := len(set(training.patients))) < FOLDS:
        raise InvalidRequest(f"training nodules of {patients} patients: a regression needs {FOLDS} or more")
    missed = np.abs(_predict(training, held_out.known) - held_out.mean_hu)
    return RegressionFigures(*(round(float(np.median(hu)), 3) for hu in (missed, cross_validate(training))))


def describe(nodule: Nodule) -> np.ndarray:
    """(F,) float: size and depth, voxels, what is around, and the readers' scores."""
    spacing_mm, inside = np.array(nodule.case.crop.spacing_mm), nodule.inside
    depth_mm = ndimage.distance_transform_edt(inside, sampling=spacing_mm)
    away_mm = ndimage.distance_transform_edt(~inside, sampling=spacing_mm)
    around = nodule.case.crop.array[(away_mm > SynthesisRequest().margin_mm) & (away_mm <= NEAR_TO_MM)]
    lung = around[around < LUNG_BELOW_HU]
    volume_mm3 = inside.sum() * spacing_mm.prod()
    levels = [hu.mean() if hu.size else TYPICAL_LUNG_HU for hu in (around, lung)]
    scores = np.nan_to_num([nodule.scores[name] for name in SCORES], nan=ABSENT)
    return np.array([np.cbrt(volume_mm3), depth_mm.max(), *np.sort(spacing_mm)[[0, -1]], *levels, *scores])


def cross_validate(table: NoduleTable) -> np.ndarray:
    """(N,) absolute errors in HU, each by a regression that saw nothing of the patient."""
    missed = np.zeros(len(table.mean_hu))
    for seen, other in GroupKFold(FOLDS).split(table.known, groups=table.patients):
        learned = NoduleTable(table.known[seen], table.mean_hu[seen], table.patients[seen])
        missed[other] = np.abs(_predict(learned, table.known[other]) - table.mean_hu[other])
    return missed


def _predict(learned: NoduleTable, known: np.ndarray) -> np.ndarray:
    """(N,) HU; the mean of several regressions, for one alone moves the figures by ten."""
    told = [_regression(seed).fit(learned.known, learned.mean_hu).predict(known) for seed in range(REPEATS)]
    mean: np.ndarray = np.mean(told, axis=0)
    return mean


def _regression(seed: int) -> GradientBoostingRegressor:
    """Of the median, as the figures are medians."""
    return GradientBoostingRegressor(
        loss="absolute_error",
        n_estimators=300,
        learning_rate=0.05,
        max_depth=4,
        min_samples_leaf=8,
        subsample=0.6,
        random_state=seed,
    )
