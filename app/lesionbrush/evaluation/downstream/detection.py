"""Which lesions a segmenter finds, and what it finds where there is none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from lesionbrush.evaluation.downstream.results import Detection, as_scores
from lesionbrush.evaluation.patches import Patch

LEAST_VOXELS = 14
"""A ball of 3 mm: what is smaller is neither a finding nor an alarm."""


def detect(
    logits: np.ndarray, lesions: Sequence[Patch], clear_logits: np.ndarray, clear: Sequence[Patch]
) -> Detection:
    """logits, clear_logits: (N, Z, Y, X) of either kind of box; 0 is the operating point."""
    levels = [level(one, patch.inside) for one, patch in zip(logits, lesions, strict=True)]
    clear_levels = [level(one, patch.known) for one, patch in zip(clear_logits, clear, strict=True)]
    alarms = [count_pieces(one > 0) for one in clear_logits]
    return Detection(
        levels=as_scores(np.array(levels)),
        clear_levels=as_scores(np.array(clear_levels)),
        false_positives=as_scores(np.array(alarms, dtype=float)),
    )


def level(logits: np.ndarray, where: np.ndarray) -> float:
    """The highest threshold at which `LEAST_VOXELS` of `where` are outlined; NaN where it has fewer."""
    values = logits[where]
    if len(values) < LEAST_VOXELS:
        return float("nan")
    return float(np.partition(values, -LEAST_VOXELS)[-LEAST_VOXELS])


def count_pieces(found: np.ndarray) -> int:
    """Pieces of `LEAST_VOXELS` at least that touch by faces, edges or corners."""
    pieces, _ = ndimage.label(found, np.ones((3, 3, 3)))
    return int(np.count_nonzero(np.bincount(pieces.ravel())[1:] >= LEAST_VOXELS))
