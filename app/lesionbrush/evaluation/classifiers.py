"""Critics: classifiers that try to tell real from made, cross-validated no patient on both sides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from scipy.stats import rankdata
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FOLDS = 5


class Classifier(Protocol):
    """fit(X, y) and decision(X): higher is more likely class 1. X: one row per patch."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> Classifier: ...
    def decision(self, X: np.ndarray) -> np.ndarray: ...


class Linear:
    """Logistic regression on standardised features; what is NaN gets the median."""

    def __init__(self, strength: float = 0.05) -> None:
        regression = LogisticRegression(C=strength, max_iter=2000, class_weight="balanced")
        self.pipeline = make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), regression)

    def fit(self, X: np.ndarray, y: np.ndarray) -> Linear:
        self.pipeline.fit(X, y)
        return self

    def decision(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(self.pipeline.decision_function(X))

    def predict(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(self.pipeline.predict(X))


class Boosted:
    """Gradient boosting on the same features."""

    def __init__(self, seed: int = 0) -> None:
        self.trees = HistGradientBoostingClassifier(
            max_iter=80, learning_rate=0.08, max_depth=3, min_samples_leaf=8, random_state=seed
        )

    def fit(self, X: np.ndarray, y: np.ndarray) -> Boosted:
        self.trees.fit(X, y)
        return self

    def decision(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(self.trees.decision_function(X))


def out_of_fold(
    make: Callable[[], Classifier],
    X: np.ndarray,
    y: np.ndarray,
    patients: Sequence[str],
    folds: int = FOLDS,
) -> np.ndarray:
    """(N,) scores, each from a critic that saw no nodule of that patient, as ranks within its fold.

    make: returns a fresh classifier. Scores of different folds have different scales; ranks (0..1) put them
    together without favouring one. 0.5 where a fold is trained on one class, or there is one patient.
    """
    groups = np.asarray(patients)
    folds = min(folds, len(np.unique(groups)))
    scores = np.full(len(y), 0.5)
    if folds < 2:
        return scores
    for train, test in GroupKFold(folds).split(X, y, groups):
        if len(np.unique(y[train])) == 2:
            decision = make().fit(X[train], y[train]).decision(X[test])
            scores[test] = (rankdata(decision) - 0.5) / len(test)
    return scores
