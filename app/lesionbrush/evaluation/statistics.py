"""Statistics with an interval: resampled by patient, for nodules of one patient are not independent."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy import linalg, stats
from scipy.spatial.distance import cdist

DRAWS = 400
Statistic = Callable[..., float]


class Estimate(BaseModel):
    """A figure with its 95 % interval. NaN becomes None: not measurable here. n: items it rests on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float | None
    low: float | None
    high: float | None
    n: int

    @classmethod
    def of(cls, value: float, draws: Sequence[float], n: int) -> Estimate:
        """From the figure and its resampled values."""
        finite = np.asarray(draws, dtype=float)
        finite = finite[np.isfinite(finite)]
        low, high = np.percentile(finite, [2.5, 97.5]) if finite.size else (np.nan, np.nan)
        return cls(value=_round(value), low=_round(low), high=_round(high), n=n)


def _round(value: float) -> float | None:
    """Four significant digits: what a reader can use, and no noise in the JSON."""
    return float(f"{value:.4g}") if np.isfinite(value) else None


def by_patient(
    statistic: Statistic, patients: Sequence[str], *columns: np.ndarray, seed: int = 0, draws: int = DRAWS
) -> Estimate:
    """`statistic(*columns)` with a bootstrap interval over patients. columns: one row per nodule.

    Every draw takes as many patients as there are, with replacement, and all nodules of each.
    """
    names = np.asarray(patients)
    if not len(names):
        return Estimate(value=None, low=None, high=None, n=0)
    groups = [np.flatnonzero(names == name) for name in dict.fromkeys(names.tolist())]
    rng = np.random.default_rng(seed)
    resampled = []
    for _ in range(draws):
        chosen = np.concatenate([groups[k] for k in rng.integers(len(groups), size=len(groups))])
        resampled.append(statistic(*(column[chosen] for column in columns)))
    return Estimate.of(statistic(*columns), resampled, len(names))


def median(values: np.ndarray) -> float:
    """Median of what is finite, NaN when nothing is."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else float("nan")


def mean(values: np.ndarray) -> float:
    """Mean of what is finite, NaN when nothing is."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Chance that a positive scores above a negative (ties count half). NaN with one class only."""
    positive = labels.astype(bool)
    n1, n0 = int(positive.sum()), int((~positive).sum())
    if not n1 or not n0:
        return float("nan")
    ranks = stats.rankdata(scores)
    return float((ranks[positive].sum() - n1 * (n1 + 1) / 2) / (n1 * n0))


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rho over pairs that are both finite. NaN under three pairs or where one is constant."""
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(stats.rankdata(a), stats.rankdata(b))[0, 1])


def balanced_accuracy(found: np.ndarray, true: np.ndarray) -> float:
    """Mean over the classes that occur of the share found right."""
    classes = np.unique(true)
    return float(np.mean([(found[true == name] == name).mean() for name in classes]))


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Squared Frechet distance of the normal distributions fitted to two (N, D) sets of features.

    The trace of the root of cov_a cov_b is the sum of the singular values of A B^T, of centred rows A and B:
    with the triangles of their QR in their place, as small as the fewer of rows and features.
    """
    mean_gap = a.mean(axis=0) - b.mean(axis=0)
    centred = [(x - x.mean(axis=0)) / np.sqrt(len(x) - 1) for x in (a, b)]
    root_a, root_b = (linalg.qr(x, mode="economic")[1] for x in centred)
    shared = float(linalg.svdvals(root_a @ root_b.T).sum())
    spread = sum(float((x**2).sum()) for x in centred)
    return float(mean_gap @ mean_gap + spread - 2 * shared)


def squared_mmd(a: np.ndarray, b: np.ndarray) -> float:
    """Unbiased squared maximum mean discrepancy, Gaussian kernel of the median distance of both sets.

    (Gretton et al. 2012, JMLR 13:723, Eq. 3.) Around 0 for equal distributions; may be below 0.
    """
    both = np.concatenate((a, b))
    square = cdist(both, both, "sqeuclidean")
    kernel = np.exp(-square / max(np.median(square[square > 0]), 1e-12))
    n, m = len(a), len(b)
    within_a = (kernel[:n, :n].sum() - n) / (n * (n - 1))
    within_b = (kernel[n:, n:].sum() - m) / (m * (m - 1))
    return float(within_a + within_b - 2 * kernel[:n, n:].mean())


def split_halves(patients: Sequence[str], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the nodules of a random half of the patients, and of the other half."""
    names = np.asarray(patients)
    unique = rng.permutation(np.unique(names))
    first = np.isin(names, unique[: len(unique) // 2])
    return np.flatnonzero(first), np.flatnonzero(~first)
