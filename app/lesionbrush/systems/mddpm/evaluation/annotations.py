"""How well an annotator that saw synthetic pairs alone finds what is where in real CTs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lesionbrush.core.inputs import Layout
from lesionbrush.core.roi import Orientation
from lesionbrush.core.volume import Volume
from lesionbrush.evaluation.statistics import Estimate, by_patient
from lesionbrush.systems.mddpm.anatomy_maps.structures import (
    STRUCTURES,
    Anatomy,
    anatomies,
)
from lesionbrush.systems.mddpm.anatomy_maps.validity import problems

STEP_MM = 6.0


@dataclass(frozen=True)
class MapAgreement:
    """One CT. dice: of each structure, over the slices in which thresholds find all; slices: those that were
    looked at; by_threshold, annotated: in how many of them there is an anatomy that is possible."""

    name: str
    dice: dict[str, float]
    slices: int
    by_threshold: int
    annotated: int

    def line(self) -> str:
        found = ", ".join(f"{name} {dice:.2f}" for name, dice in self.dice.items())
        return (
            f"{self.name}: {found or 'thresholds find no slice'}; whole anatomies in {self.annotated} of "
            f"{self.slices} slices, by thresholds in {self.by_threshold}"
        )


def compare(name: str, ct: Volume, annotated: Layout) -> MapAgreement:
    """Slices `STEP_MM` apart. What thresholds find is no truth, but was made without any network."""
    view = Orientation.of(ct.affine).view(annotated.labels.array)
    numbers = {label: number for number, label in annotated.names.items()}
    by_threshold = list(anatomies(ct, STEP_MM))
    drawn = [anatomy for _, anatomy in anatomies(ct, STEP_MM, annotated)]
    both = {structure.name: np.zeros(2) for structure in STRUCTURES}
    for z, anatomy in by_threshold:
        if anatomy is not None:
            for structure, mask in zip(STRUCTURES, visible(anatomy), strict=True):
                found = view[z] == numbers.get(structure.name, 255)
                both[structure.name] += 2 * np.count_nonzero(mask & found), mask.sum() + found.sum()
    dice = {label: float(part / whole) for label, (part, whole) in both.items() if whole}
    possible = (_count(one for _, one in by_threshold), _count(drawn))
    return MapAgreement(name, dice, len(by_threshold), *possible)


def visible(anatomy: Anatomy) -> list[np.ndarray]:
    """The masks of STRUCTURES without what lies over them on a map."""
    masks, covered, shown = anatomy.masks[: len(STRUCTURES)], np.zeros(anatomy.hu.shape, bool), []
    for mask in reversed(masks):
        shown.append(mask & ~covered)
        covered |= mask
    return shown[::-1]


def _count(found: Iterator[Anatomy | None] | Sequence[Anatomy | None]) -> int:
    return sum(one is not None and not problems(one.curves) for one in found)


def mean_dice(found: Sequence[MapAgreement], structure: str) -> Estimate:
    """Over CTs, each a patient."""
    measured = [(one.name, one.dice[structure]) for one in found if structure in one.dice]
    names, values = zip(*measured, strict=True) if measured else ((), ())
    return by_patient(lambda dice: float(np.mean(dice)), names, np.array(values))
