"""The five lobes: lungs cut along fissures, which are fitted to the CT, or drawn where they usually are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lesionbrush.anatomy.chest.fissures import Fissure, fit_fissure
from lesionbrush.anatomy.chest.naming import (
    LEFT_LOWER,
    LEFT_UPPER,
    LEFT_WHOLE,
    RIGHT_LOWER,
    RIGHT_MIDDLE,
    RIGHT_UPPER,
    RIGHT_WHOLE,
)
from lesionbrush.anatomy.lung_steps.air import Parts
from lesionbrush.anatomy.lung_steps.grid import CoarseGrid
from lesionbrush.anatomy.lung_steps.sides import LEFT, RIGHT
from lesionbrush.core.boxes import bounding_box
from lesionbrush.core.volume import Array

SIDES = {RIGHT: "right", LEFT: "left"}
OBLIQUE_DEG, HORIZONTAL_DEG = 50.0, 10.0
BELOW_CARINA_MM = 40.0  # where the middle of a whole lung is
DEPTHS_HIGH = 0.65  # from its bottom to its middle, in depths from front to back: only where a fit begins
HORIZONTAL_MM = (0.0, -20.0, 10.0)  # its middle from that of the oblique fissure
CUT_CM2 = 1.0
SHARP_MM = 2.7  # thicker slices blur what lies along them
TWICE = 2  # slices in a row with two bronchi


@dataclass(frozen=True, eq=False)
class LobeLabels:
    """labels: uint8 (X, Y, Z) on the grid, numbers of LOBES; remarks: for the user."""

    labels: Array
    remarks: tuple[str, ...]


def find_lobes(grid: CoarseGrid, lungs: Array, main_airways: Array) -> LobeLabels:
    """lungs: RIGHT and LEFT (X, Y, Z); main_airways: bool, windpipe and main bronchi, empty if not found.

    Where neither the field of view nor a fissure tells the lobes apart, a lung stays whole, with a remark.
    """
    labels = np.zeros(lungs.shape, np.uint8)
    remarks: list[str] = []
    carina_mm = find_carina_mm(grid, main_airways)
    for side in (RIGHT, LEFT):
        lung = lungs == side
        if lung.any():
            labels[lung], said = _label(grid, lung, side, carina_mm)
            remarks += said
    return LobeLabels(labels, tuple(remarks))


def find_carina_mm(grid: CoarseGrid, main_airways: Array) -> float | None:
    """Its height along Z: where the windpipe becomes two, on the way down. None: not in this volume."""
    pipe, count = np.zeros(main_airways.shape[:2], bool), 0
    for z in reversed(np.flatnonzero(main_airways.any(axis=(0, 1)))):
        parts = Parts.of(main_airways[:, :, z])
        goes_on = parts.find_touching(pipe & (parts.labels > 0)) if pipe.any() else parts.voxels >= 0
        goes_on[0] = False
        pipe = parts.mask(goes_on)
        count = count + 1 if np.count_nonzero(goes_on) > 1 else 0
        if count == TWICE:
            return float((z + 1) * grid.spacing_mm[2])
    return None


def _label(grid: CoarseGrid, lung: Array, side: int, carina_mm: float | None) -> tuple[Array, list[str]]:
    """A label for each voxel of the lung, and remarks."""
    name = SIDES[side]
    middle_mm, known = _middle(grid, lung, carina_mm)
    oblique = fit_fissure(grid, lung, middle_mm, OBLIQUE_DEG)
    whole, upper, lower = (
        (RIGHT_WHOLE, RIGHT_UPPER, RIGHT_LOWER) if side == RIGHT else (LEFT_WHOLE, LEFT_UPPER, LEFT_LOWER)
    )
    if not (oblique.seen or known):
        return np.array(whole), [
            f"the lobes of the {name} lung are not told apart: the volume cuts it, shows no carina, and no "
            "fissure is seen"
        ]
    above = _above(grid, lung, oblique)
    found = np.where(above, upper, lower).astype(np.uint8)
    remarks = [] if oblique.seen else [f"{name} oblique fissure not seen: drawn where it usually is"]
    if side == RIGHT and above.any():
        rest = np.zeros(lung.shape, bool)
        rest[lung] = above
        horizontal = fit_fissure(grid, rest, middle_mm + HORIZONTAL_MM, HORIZONTAL_DEG)
        found[above & ~_above(grid, lung, horizontal)] = RIGHT_MIDDLE
        if not (horizontal.seen or known):
            found[above] = RIGHT_WHOLE
        if not horizontal.seen:
            done = "drawn where it usually is" if known else "upper and middle lobe are not told apart"
            remarks.append(f"horizontal fissure not seen: {done}")
        elif grid.spacing_mm[2] > SHARP_MM:
            said = f"fitted across slices of {grid.spacing_mm[2]:g} mm, which hardly show it: look at it"
            remarks.append(f"horizontal fissure {said}")
    return found, remarks


def _middle(grid: CoarseGrid, lung: Array, carina_mm: float | None) -> tuple[Array, bool]:
    """The middle of the lung as if the volume showed all of it, in mm; whether that can be known."""
    spacing = np.array(grid.spacing_mm)
    ends_mm = [
        (part.start * mm, part.stop * mm) for part, mm in zip(bounding_box(lung), spacing, strict=True)
    ]
    middle_mm = np.array([(low + high) / 2 for low, high in ends_mm])
    cut = [np.count_nonzero(lung[:, :, end]) * spacing[0] * spacing[1] / 100 > CUT_CM2 for end in (0, -1)]
    if any(cut) and carina_mm is not None:
        middle_mm[2] = carina_mm - BELOW_CARINA_MM
    elif cut[1] and not cut[0]:
        middle_mm[2] = ends_mm[2][0] + DEPTHS_HIGH * (ends_mm[1][1] - ends_mm[1][0])
    return middle_mm, carina_mm is not None or not any(cut)


def _above(grid: CoarseGrid, lung: Array, fissure: Fissure) -> Array:
    """bool, for each voxel of the lung in order."""
    return np.concatenate(list(_above_by_slab(grid, lung, fissure)))


def _above_by_slab(grid: CoarseGrid, lung: Array, fissure: Fissure) -> Iterator[Array]:
    for x in range(len(lung)):
        places = np.argwhere(lung[x])
        points = np.column_stack((np.full(len(places), x), places)) * grid.spacing_mm
        yield fissure.height_mm(points) > 0
