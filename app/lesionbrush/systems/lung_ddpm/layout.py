"""Semantic layouts as Lung-DDPM takes them: one channel per label, 1 inside and -1 outside."""

from __future__ import annotations

import numpy as np

LEAST_COVERAGE = 0.02


def threshold(coverage: np.ndarray) -> np.ndarray:
    """(Z, Y, X) bool: where a nodule is, at half its greatest coverage, so that no small one is lost."""
    most = float(coverage.max())
    return coverage >= max(0.5 * most, LEAST_COVERAGE)


def nodule_layout(nodule: np.ndarray) -> np.ndarray:
    """(1, Z, Y, X) float32 of ±1 from a bool mask."""
    return _signs(nodule)[None]


def lung_layout(lungs: np.ndarray, nodule: np.ndarray) -> np.ndarray:
    """(2, Z, Y, X) float32 of ±1: lung without the nodule, and the nodule; the published labels exclude."""
    return np.stack((_signs(lungs & ~nodule), _signs(nodule)))


def _signs(inside: np.ndarray) -> np.ndarray:
    return np.where(inside, np.float32(1), np.float32(-1))
