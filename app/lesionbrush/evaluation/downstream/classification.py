"""Is there a lesion in a box? A small network trained on real lesions, made ones, or both.

As in MedSyn (Xu et al. 2024, Table VI), there over five folds of whole CTs; the test here is on real boxes of
held-out patients.

The network is a critic's (`evaluation.network`), which is shown no mask here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from lesionbrush.evaluation.downstream.results import ClassifiedRun, DownstreamReport
from lesionbrush.evaluation.downstream.samples import SHAPE, SHIFT, LesionBox
from lesionbrush.evaluation.network import CHANNELS, CNN, TrainingPlan
from lesionbrush.evaluation.patches import Patch
from lesionbrush.evaluation.statistics import Estimate, auc, by_patient

BATCH, LEAST_VIEWS = 16, 256
WINDOWS_HU = ((-1000.0, 400.0), (-1000.0, 0.0), (-200.0, 300.0))


def train_classifier(lesions: Sequence[LesionBox], clear: Sequence[LesionBox], steps: int, seed: int) -> CNN:
    """So many steps, and as many views of either kind, however many samples there are."""
    rng, views = np.random.default_rng(seed), max(LEAST_VIEWS, len(lesions))
    X = np.concatenate([tensor_of_boxes(_views(kind, views, rng)) for kind in (lesions, clear)])
    plan = TrainingPlan(epochs=0, least_steps=steps, batch=BATCH, seed=seed)
    return CNN(plan).fit(X, np.repeat([1, 0], views))


def _views(samples: Sequence[LesionBox], count: int, rng: np.random.Generator) -> list[Patch]:
    """Of the samples in turn, each moved anew."""
    chosen = rng.permutation(len(samples))
    return [
        samples[chosen[k % len(chosen)]].seen([rng.integers(-most, most + 1) for most in SHIFT])
        for k in range(count)
    ]


def tensor_of_boxes(patches: Sequence[Patch]) -> np.ndarray:
    """(N, CHANNELS, *SHAPE) float32, -1 to 1: HU in three windows, and where there is data."""
    out = np.empty((len(patches), CHANNELS, *SHAPE), np.float32)
    for row, patch in zip(out, patches, strict=True):
        for channel, (low, high) in zip(row, WINDOWS_HU, strict=False):
            channel[:] = np.clip((patch.hu - low) / (high - low), 0, 1) * 2 - 1
        row[-1] = patch.known * 2.0 - 1
    return out


def _accuracy(logits: np.ndarray, lesion: np.ndarray) -> float:
    return float(((logits > 0) == (lesion > 0)).mean())


def _f1(logits: np.ndarray, lesion: np.ndarray) -> float:
    said, there = logits > 0, lesion > 0
    either = said.sum() + there.sum()
    return float(2 * (said & there).sum() / either) if either else float("nan")


CLASSIFIED: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "AUC": auc,
    "accuracy": _accuracy,
    "F1": _f1,
}


def classified(report: DownstreamReport, real_share: float, arm: str, measure: str) -> Estimate:
    """Mean over seeds; its interval is over patients of the test."""
    return _estimate(report, measure, _logits(report, real_share, arm))


def gain_classified(
    report: DownstreamReport, real_share: float, arm: str, base: str, measure: str
) -> Estimate:
    """Over another arm, with the same patients in every draw."""
    return _estimate(report, measure, *(_logits(report, real_share, name) for name in (arm, base)))


def _estimate(report: DownstreamReport, measure: str, *logits: np.ndarray) -> Estimate:
    lesions, clear = report.tested.patients, report.clear_patients
    labels = np.repeat([1, 0], [len(lesions), len(clear)])
    score = CLASSIFIED[measure]

    def statistic(lesion: np.ndarray, *columns: np.ndarray) -> float:
        means = [np.mean([score(seed, lesion) for seed in column.T]) for column in columns]
        return float(means[0] - sum(means[1:]))

    if not all(len(one) for one in logits):
        return by_patient(statistic, ())
    return by_patient(statistic, (*lesions, *clear), labels, *logits)


def _logits(report: DownstreamReport, real_share: float, arm: str) -> np.ndarray:
    """(lesions and then boxes without, seeds)."""
    runs: list[ClassifiedRun] = [
        run for run in report.classified if (run.real_share, run.arm) == (real_share, arm)
    ]
    return np.array([(*run.logits, *run.clear_logits) for run in runs], dtype=float).T
