"""What `evaluate downstream` keeps: the scores of every network that was trained, and figures over them."""

from __future__ import annotations

from collections.abc import Sequence

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


class TrainedRun(Typed):
    """One network. real_share: of all real training lesions; samples: what it saw; scores: by measure."""

    real_share: float
    arm: str
    seed: int
    samples: int
    seconds: float
    scores: dict[str, Scores]


class DownstreamReport(Typed):
    """steps: of every network alike; real: how many training lesions there are in all."""

    created: str
    machine: str
    model: str
    weights_sha256: str
    steps: int
    real: int
    tested: HeldOutLesions
    runs: tuple[TrainedRun, ...] = ()

    def find(self, real_share: float, arm: str, seed: int) -> TrainedRun | None:
        wanted = (real_share, arm, seed)
        return next((run for run in self.runs if (run.real_share, run.arm, run.seed) == wanted), None)

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
