"""Whether curves can be an anatomy at all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lesionbrush.systems.mddpm.anatomy_maps.curves import ClosedCurve, SliceGrid
from lesionbrush.systems.mddpm.anatomy_maps.structures import STRUCTURES, Structure

OUTSIDE_SHARE, OVERLAP_SHARE = 0.02, 0.02
"""Of an organ's pixels: outlines are made of smooth curves, so a little is rounding."""
SPACING_MM = 2.0
DISJOINT = (
    ("right lung", "left lung"),
    ("right lung", "spine"),
    ("left lung", "spine"),
    ("mediastinum", "spine"),
    ("heart", "spine"),
)


def problems(curves: Sequence[ClosedCurve], structures: Sequence[Structure] = STRUCTURES) -> list[str]:
    """What is wrong with the curves of these structures; empty when nothing is."""
    names = [structure.name for structure in structures]
    crossed = [name for name, curve in zip(names, curves, strict=True) if crosses_itself(curve.points())]
    if crossed:
        return [f"{name} crosses itself" for name in crossed]
    grid = _grid_of(curves)
    masks = {name: curve.mask(grid) for name, curve in zip(names, curves, strict=True)}
    found = [f"{name} has no area" for name, mask in masks.items() if not mask.any()]
    if found:
        return found
    for name in names[1:]:
        outside = _share(masks[name] & ~masks["body"], masks[name])
        if outside > OUTSIDE_SHARE:
            found.append(f"{outside:.0%} of {name} outside the body")
    for one, other in (pair for pair in DISJOINT if set(pair) <= set(names)):
        overlap = _share(masks[one] & masks[other], masks[other])
        if overlap > OVERLAP_SHARE:
            found.append(f"{one} covers {overlap:.0%} of {other}")
    return found


def crosses_itself(points: np.ndarray) -> bool:
    """Whether any two sides of the closed polygon (N, 2) that are no neighbours cross or touch."""
    a, b = points, np.roll(points, -1, axis=0)
    n = len(points)
    first, second = np.triu_indices(n, 2)
    keep = ~((first == 0) & (second == n - 1))
    i, j = first[keep], second[keep]
    apart = (_side(a[i], b[i], a[j]) * _side(a[i], b[i], b[j]) > 0) | (
        _side(a[j], b[j], a[i]) * _side(a[j], b[j], b[i]) > 0
    )
    near = (np.minimum(a[i], b[i]) <= np.maximum(a[j], b[j])).all(axis=1)
    near &= (np.minimum(a[j], b[j]) <= np.maximum(a[i], b[i])).all(axis=1)
    return bool((~apart & near).any())


def _side(a: np.ndarray, b: np.ndarray, p: np.ndarray) -> NDArray[np.float64]:
    """The sign tells on which side of the line from a to b each p is."""
    (ay, ax), (by, bx), (py, px) = a.T, b.T, p.T
    return np.asarray((bx - ax) * (py - ay) - (by - ay) * (px - ax))


def _share(part: np.ndarray, whole: np.ndarray) -> float:
    return float(np.count_nonzero(part)) / float(np.count_nonzero(whole))


def _grid_of(curves: Sequence[ClosedCurve]) -> SliceGrid:
    """Pixels that hold all of the curves."""
    points = np.concatenate([curve.points() for curve in curves])
    low, high = points.min(axis=0), points.max(axis=0)
    rows, columns = np.ceil((high - low) / SPACING_MM).astype(int) + 3
    return SliceGrid((int(rows), int(columns)), np.full(2, SPACING_MM), low - SPACING_MM)
