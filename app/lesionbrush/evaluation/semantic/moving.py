"""The check that no picture can fake: an organ that was moved in the layout is found where it was moved to.

The CT is edited by the system itself, as for any user. Only what changed in the layout was made, so beside
Dice stands what it is of the unedited CT, and what is found in the pixels that changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from lesionbrush.core.inputs import Inputs, Layout
from lesionbrush.core.roi import Orientation
from lesionbrush.core.synthesize import synthesize
from lesionbrush.core.volume import Volume
from lesionbrush.errors import InvalidRequest
from lesionbrush.evaluation.semantic.results import MovedFigures
from lesionbrush.evaluation.semantic.scores import FIND, pooled_dice
from lesionbrush.evaluation.semantic.slices import Sampling, StudySlices, cut_slices, frame_of
from lesionbrush.evaluation.statistics import Estimate, Statistic, by_patient
from lesionbrush.files.io import read_volume
from lesionbrush.systems.semantic.classes import CLASSES, ORGANS, OUTSIDE
from lesionbrush.systems.semantic.layouts import complete
from lesionbrush.systems.semantic.model import SemanticCT
from lesionbrush.systems.semantic.pack import ClassedCT, LabelledCT
from lesionbrush.systems.semantic.request import SemanticRequest

ORGAN, MOVED_MM, SLICES = CLASSES.index("liver"), 20.0, 6
"""To the patient's left, away from the ribs; so many slices, around the one with most of it."""


@dataclass(frozen=True, eq=False)
class MovedOrgan:
    """A CT of a few slices, its labels in AMOS codes, and the same with the organ elsewhere."""

    name: str
    ct: Volume
    labels: Volume
    moved: Volume

    @classmethod
    def of(cls, source: LabelledCT, data: Path) -> MovedOrgan:
        """Slices are those of the third stored axis. InvalidRequest where the patient has no such organ."""
        ct, labels = read_volume(source.image(data)), read_volume(source.labels(data))
        areas = (labels.array == ORGAN).sum(axis=(0, 1))
        if not areas.any():
            raise InvalidRequest(
                f"{source.name} has no {CLASSES[ORGAN]} in its labels: there is none to move"
            )
        low = min(max(0, int(areas.argmax()) - SLICES // 2), max(0, ct.shape[2] - SLICES))
        part = (slice(0, ct.shape[0]), slice(0, ct.shape[1]), slice(low, low + SLICES))
        few, its = ct.crop(part), labels.crop(part)
        turned = Orientation.of(its.affine)
        columns = round(MOVED_MM / float(turned.spacing_mm(its.spacing_mm)[2]))
        moved = move_left(turned.view(its.array), ORGAN, columns)
        stored = np.asfortranarray(turned.to_stored(moved))
        return cls(source.name, few, its, its.with_array(stored))

    def edit(self, model: SemanticCT, how: Sampling) -> Volume:
        """The CT as `synthesize` makes it for the moved layout."""
        names = dict(enumerate(ORGANS, start=1))
        inputs = Inputs(layout=Layout(self.labels, names), new_layout=Layout(self.moved, names))
        request = SemanticRequest(steps=how.steps, sampler=how.sampler)
        return synthesize(self.ct, None, request, model, inputs)[0].volume()

    def slices(self, model: SemanticCT, ct: Volume, labels: Volume) -> StudySlices:
        """Of one CT with one layout, on the pixels of the model; the frame is that of the unedited CT."""
        frame, pixel_mm = frame_of(self._classed(self.ct, self.labels), model.card)
        classed = self._classed(ct, labels)
        return cut_slices(classed, frame, pixel_mm, np.arange(len(classed.hu)))

    def _classed(self, ct: Volume, labels: Volume) -> ClassedCT:
        turned = Orientation.of(ct.affine)
        hu, spacing_mm = turned.view(ct.array), turned.spacing_mm(ct.spacing_mm)
        classes = complete(turned.view(labels.array).astype(np.uint8), hu, spacing_mm, tissues=False)
        return ClassedCT(self.name, hu, classes, spacing_mm, scores_unknown=True, share=1.0)


def move_left(labels: np.ndarray, number: int, columns: int) -> np.ndarray:
    """uint8 (Z, Y, X), axes to superior, anterior, right: the organ so many columns to the patient's left,
    over what was there; nothing where it was. What would leave the volume is lost."""
    organ, there = labels == number, np.zeros(labels.shape, bool)
    there[..., : labels.shape[2] - columns] = organ[..., columns:]
    moved: np.ndarray = np.where(organ, OUTSIDE, labels)
    return np.where(there, number, moved).astype(np.uint8)


def measure_moved(
    moved: MovedOrgan, model: SemanticCT, find: FIND, how: Sampling, name: str
) -> tuple[MovedFigures, Volume]:
    """And the CT that was made."""
    made = moved.edit(model, how)
    before = moved.slices(model, moved.ct, moved.labels)
    wished = moved.slices(model, made, moved.moved)
    was, to_be = (one.labels == ORGAN for one in (before, wished))
    seen_before, seen = (find(one.hu) == ORGAN for one in (before, wished))
    gained, lost = to_be & ~was, was & ~to_be
    estimate = partial(_by_slice, before.numbers)
    return MovedFigures(
        name=name,
        slices=len(before.numbers),
        dice=estimate(pooled_dice, *_overlap(seen, to_be)),
        as_it_was=estimate(pooled_dice, *_overlap(seen_before, to_be)),
        ceiling=estimate(pooled_dice, *_overlap(seen_before, was)),
        gained=estimate(_ratio, _per_slice(seen & gained), _per_slice(gained)),
        lost=estimate(_ratio, _per_slice(~seen & lost), _per_slice(lost)),
        kept_share=round(pooled_dice(*_overlap(was, to_be)), 3),
    ), made


def _by_slice(numbers: np.ndarray, statistic: Statistic, *columns: np.ndarray) -> Estimate:
    return by_patient(statistic, list(map(str, numbers)), *columns)


def _overlap(a: np.ndarray, b: np.ndarray) -> Sequence[np.ndarray]:
    return _per_slice(a & b)[:, None], (_per_slice(a) + _per_slice(b))[:, None]


def _per_slice(mask: np.ndarray) -> np.ndarray:
    count: np.ndarray = mask.sum(axis=(1, 2))
    return count


def _ratio(part: np.ndarray, whole: np.ndarray) -> float:
    return float(part.sum() / whole.sum()) if whole.any() else float("nan")
