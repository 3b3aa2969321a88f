"""Two ways of making the same lesions, compared pair by pair: what changes, with an interval by patient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lesionbrush.evaluation.cases import Nodule
from lesionbrush.evaluation.classifiers import Boosted, Classifier, Linear, out_of_fold
from lesionbrush.evaluation.features import features
from lesionbrush.evaluation.fidelity import MARGIN_MM
from lesionbrush.evaluation.measures import HuInMask, inner_grain
from lesionbrush.evaluation.metrics import seam_ratio
from lesionbrush.evaluation.results import Typed
from lesionbrush.evaluation.statistics import Estimate, auc, by_patient, median

CRITICS: dict[str, Callable[[], Classifier]] = {"auc_linear": Linear, "auc_boosted": Boosted}


class Change(Typed):
    """Of one measure, of which less is better: as it is by default, otherwise, and otherwise less default."""

    default: Estimate
    otherwise: Estimate
    change: Estimate

    @property
    def sign(self) -> int:
        """1 where the measure rises, -1 where it falls, 0 where the interval holds 0."""
        low, high = self.change.low, self.change.high
        if low is None or high is None:
            return 0
        return 1 if low > 0 else -1 if high < 0 else 0


@dataclass(frozen=True, eq=False)
class MadeNodules:
    """What was made of N nodules. features: (N, F); columns: (N,) of each measure."""

    features: np.ndarray
    columns: dict[str, np.ndarray]

    @classmethod
    def of(cls, nodules: Sequence[Nodule], made: Sequence[np.ndarray], **columns: np.ndarray) -> MadeNodules:
        """made: HU of each nodule on the grid of its crop; columns: further measures."""
        pairs = list(zip(nodules, made, strict=True))
        found = np.array([features(nodule.patch(hu)) for nodule, hu in pairs])
        return cls(found, {"seam": np.array([seam(hu, nodule) for nodule, hu in pairs]), **columns})


def compare(
    nodules: Sequence[Nodule], real: np.ndarray, default: MadeNodules, otherwise: MadeNodules
) -> dict[str, Change]:
    """Critics and every column that both have. real: (N, F) features."""
    patients = [nodule.patient for nodule in nodules]
    pair = (default, otherwise)
    critics = {name: _critic_change(make, patients, real, pair) for name, make in CRITICS.items()}
    columns = {
        name: _median_change(patients, column, otherwise.columns[name])
        for name, column in default.columns.items()
    }
    return critics | columns


def hu_error(hu: np.ndarray, nodule: Nodule) -> float:
    """How far the mean in the mask is from the real one's."""
    made, real = (HuInMask.of(array, nodule.inside).mean for array in (hu, nodule.case.crop.array))
    return abs(made - real)


def seam(hu: np.ndarray, nodule: Nodule) -> float:
    return seam_ratio(hu, nodule.inside, nodule.case.crop.spacing_mm, MARGIN_MM)


def grain_error(hu: np.ndarray, nodule: Nodule) -> float:
    """How far the noise inside is from the real one's, as a ratio either way: 0 where it is as much."""
    spacing_mm = nodule.case.crop.spacing_mm
    made, real = (inner_grain(array, nodule.inside, spacing_mm) for array in (hu, nodule.case.crop.array))
    return abs(float(np.log2(made / real)))


def _median_change(patients: Sequence[str], default: np.ndarray, otherwise: np.ndarray) -> Change:
    """(N,) of the same nodules."""
    return Change(
        default=by_patient(median, patients, default),
        otherwise=by_patient(median, patients, otherwise),
        change=by_patient(lambda a, b: median(b) - median(a), patients, default, otherwise),
    )


def _critic_change(
    make: Callable[[], Classifier],
    patients: list[str],
    real: np.ndarray,
    pair: tuple[MadeNodules, MadeNodules],
) -> Change:
    """AUC of real (N, F) against each of the two, by a critic of its own that saw none of the patient."""
    both, y = patients * 2, np.repeat([0, 1], len(real))
    scores = [out_of_fold(make, np.concatenate((real, one.features)), y, both) for one in pair]
    return Change(
        default=by_patient(auc, both, scores[0], y),
        otherwise=by_patient(auc, both, scores[1], y),
        change=by_patient(lambda a, b, labels: auc(b, labels) - auc(a, labels), both, *scores, y),
    )
