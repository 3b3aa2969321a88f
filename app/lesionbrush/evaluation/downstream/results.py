"""What `evaluate downstream` keeps: the scores of every network that was trained, and figures over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from lesionbrush.evaluation.results import Typed
from lesionbrush.evaluation.statistics import Estimate, by_patient, mean

Scores = tuple[float | None, ...]


class HeldOutLesions(Typed):
    """The held-out lesions, in the order of all scores."""

    patients: tuple[str, ...]
    groups: tuple[str, ...]
    volumes_mm3: tuple[int, ...]

    def parts(self) -> dict[str, np.ndarray]:
        """Which lesions are of each texture, and of each third by size."""
        groups, volumes = np.array(self.groups), np.array(self.volumes_mm3)
        found = {name: groups == name for name in dict.fromkeys(self.groups)}
        low, high = np.quantile(volumes, (1 / 3, 2 / 3))
        sizes = {
            "small": volumes <= low,
            "middle": (volumes > low) & (volumes <= high),
            "large": volumes > high,
        }
        return {**found, **sizes}


class Detection(Typed):
    """Of one network. levels: of each lesion, the logit that enough of it reaches to be found; clear_levels:
    the same of boxes without one; false_positives: of each of those, pieces outlined at logit 0."""

    levels: Scores
    clear_levels: Scores
    false_positives: Scores

    def found(self) -> np.ndarray:
        """(N,) 0 or 1, NaN: at the operating point, a logit of 0."""
        return _above(self.levels, 0.0)

    def found_at(self, alarms: float) -> np.ndarray:
        """(N,) 0 or 1, NaN: where this share of boxes without a lesion has an alarm."""
        levels = np.array(self.clear_levels, dtype=float)
        return _above(self.levels, float(np.quantile(levels[np.isfinite(levels)], 1 - alarms)))


def _above(levels: Scores, threshold: float) -> np.ndarray:
    values = np.array(levels, dtype=float)
    return np.where(np.isfinite(values), values > threshold, np.nan)


class TrainedRun(Typed):
    """One network. real_share: of all real training lesions; samples: what it saw; scores: by measure;
    detection: None where the data has no boxes without a lesion."""

    real_share: float
    arm: str
    seed: int
    samples: int
    seconds: float
    scores: dict[str, Scores]
    detection: Detection | None = None


class ClassifiedRun(Typed):
    """One classifier. logits: of each held-out lesion; clear_logits: of each box without one."""

    real_share: float
    arm: str
    seed: int
    samples: int
    seconds: float
    logits: Scores
    clear_logits: Scores


class DownstreamReport(Typed):
    """steps: of every network alike; real: how many training lesions there are in all; clear_patients: of
    each box without a lesion."""

    created: str
    machine: str
    model: str
    weights_sha256: str
    steps: int
    real: int
    tested: HeldOutLesions
    clear_patients: tuple[str, ...] = ()
    runs: tuple[TrainedRun, ...] = ()
    classified: tuple[ClassifiedRun, ...] = ()

    def has(self, kind: Literal["runs", "classified"], real_share: float, arm: str, seed: int) -> bool:
        wanted = (real_share, arm, seed)
        runs: Sequence[TrainedRun | ClassifiedRun] = getattr(self, kind)
        return any((run.real_share, run.arm, run.seed) == wanted for run in runs)

    def of(self, real_share: float, arm: str, measure: str) -> np.ndarray:
        """(N,): each lesion's mean over seeds; all NaN where nothing was trained."""
        runs = [run for run in self.runs if (run.real_share, run.arm) == (real_share, arm)]
        if not runs:
            return np.full(len(self.tested.patients), np.nan)
        values: np.ndarray = np.array([run.scores[measure] for run in runs], dtype=float).mean(axis=0)
        return values

    def figure(self, real_share: float, arm: str, measure: str, part: np.ndarray | None = None) -> Estimate:
        """The mean over lesions; its interval is over patients of the test, not over trainings."""
        return self._estimate(self.of(real_share, arm, measure), part)

    def gain(self, real_share: float, arm: str, base: str, measure: str) -> Estimate:
        """Over another arm, lesion by lesion."""
        return self._estimate(self.of(real_share, arm, measure) - self.of(real_share, base, measure), None)

    def detected(self, real_share: float, arm: str, alarms: float | None = None) -> Estimate:
        """Share of lesions found: at the operating point, or where so many boxes without one have an alarm
        (a threshold of each network, which its interval takes as given)."""
        return self._estimate(self._detected(real_share, arm, alarms), None)

    def gain_detected(self, real_share: float, arm: str, base: str, alarms: float) -> Estimate:
        mine, others = (self._detected(real_share, name, alarms) for name in (arm, base))
        return self._estimate(mine - others, None)

    def _detected(self, real_share: float, arm: str, alarms: float | None) -> np.ndarray:
        found = self._detections(real_share, arm)
        if not found:
            return np.full(len(self.tested.patients), np.nan)
        rows = [one.found() if alarms is None else one.found_at(alarms) for one in found]
        mean_of_seeds: np.ndarray = np.array(rows).mean(axis=0)
        return mean_of_seeds

    def false_positives(self, real_share: float, arm: str) -> Estimate:
        """Per box without a lesion, at the operating point."""
        found = self._detections(real_share, arm)
        if not found:
            return by_patient(mean, ())
        rows = np.array([one.false_positives for one in found], dtype=float)
        return by_patient(mean, self.clear_patients, rows.mean(axis=0))

    def _detections(self, real_share: float, arm: str) -> list[Detection]:
        return [
            run.detection
            for run in self.runs
            if (run.real_share, run.arm) == (real_share, arm) and run.detection is not None
        ]

    def spread(self, real_share: float, arm: str, measure: str) -> float:
        """Standard deviation of the mean over seeds: how much a training varies. NaN of one."""
        runs = [run for run in self.runs if (run.real_share, run.arm) == (real_share, arm)]
        means = [float(np.nanmean(np.array(run.scores[measure], dtype=float))) for run in runs]
        return float(np.std(means, ddof=1)) if len(means) > 1 else float("nan")

    def _estimate(self, values: np.ndarray, part: np.ndarray | None) -> Estimate:
        chosen = np.isfinite(values) if part is None else np.isfinite(values) & part
        patients = [self.tested.patients[k] for k in np.flatnonzero(chosen)]
        return by_patient(mean, patients, values[chosen])


def as_scores(values: np.ndarray) -> Scores:
    """Four digits; None where there is no value."""
    return tuple(round(float(v), 4) if np.isfinite(v) else None for v in values)


def shares_of(report: DownstreamReport) -> Sequence[float]:
    return list(dict.fromkeys(run.real_share for run in report.runs))
