"""How good outlines are: of each lesion, so that intervals can be by patient."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lesionbrush.evaluation.patches import Patch

MEASURES = ("dice", "jaccard", "sensitivity", "specificity")


def score_outlines(found: np.ndarray, patches: Sequence[Patch]) -> dict[str, np.ndarray]:
    """(N,) of each of `MEASURES`, over voxels with data. found: (N, Z, Y, X) bool. NaN where a CT shows
    nothing of the lesion."""
    inside, known = (np.stack([getattr(p, name) for p in patches]) for name in ("inside", "known"))
    axes = (1, 2, 3)
    hit, missed = (found & inside).sum(axes), (~found & inside).sum(axes)
    false, right = (found & ~inside & known).sum(axes), (~found & ~inside & known).sum(axes)
    with np.errstate(invalid="ignore", divide="ignore"):
        columns = (
            2 * hit / (2 * hit + missed + false),
            hit / (hit + missed + false),
            hit / (hit + missed),
            right / (right + false),
        )
    there = inside.any(axes)
    return {name: np.where(there, column, np.nan) for name, column in zip(MEASURES, columns, strict=True)}
