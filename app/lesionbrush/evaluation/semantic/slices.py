"""The held-out patient's slices on the pixels of the models, and slices made from their layout alone.

Arrays are (N, Y, X), row 0 posterior, column 0 left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from lesionbrush.core.hu import HUWindow
from lesionbrush.core.registry import ModelCard
from lesionbrush.core.rois import RoiBatch
from lesionbrush.errors import InvalidRequest
from lesionbrush.systems.semantic.classes import BODY, CLASSES, OUTSIDE
from lesionbrush.systems.semantic.data import SliceFrame
from lesionbrush.systems.semantic.hooks import LaidOut
from lesionbrush.systems.semantic.job import AIR_HU
from lesionbrush.systems.semantic.layouts import without_tissues
from lesionbrush.systems.semantic.model import SemanticCT
from lesionbrush.systems.semantic.pack import ClassedCT
from lesionbrush.systems.semantic.recipes import ABDOMEN
from lesionbrush.systems.semantic.request import Sampler, SemanticWholeRequest

RIM = 2
"""Pixels around the body."""
APART_MM = 30.0
"""How far away the other real slice lies, the first floor."""


@dataclass(frozen=True, eq=False)
class StudySlices:
    """numbers: (N,), from the lowest slice of the CT; hu: float32, resampled; labels: uint8, no tissues;
    told: what networks are told, the labels or those with tissues."""

    numbers: np.ndarray
    hu: np.ndarray
    labels: np.ndarray
    told: np.ndarray
    pixel_mm: float
    slice_mm: float

    @property
    def organs(self) -> list[int]:
        """The classes below the body's that occur."""
        return [number for number in np.unique(self.labels).tolist() if OUTSIDE < number < BODY]

    def pick(self, rows: np.ndarray) -> StudySlices:
        """Some of them, or some more than once."""
        arrays = {name: getattr(self, name)[rows] for name in ("numbers", "hu", "labels", "told")}
        return replace(self, **arrays)

    def spread(self, count: int) -> StudySlices:
        """So many of them, from the first to the last; all where there are no more."""
        return self.pick(spread(len(self.numbers), count))


@dataclass(frozen=True)
class Sampling:
    """How slices are made. steps: evaluations of the network."""

    steps: int
    sampler: Sampler
    seeds: int = 1

    def __str__(self) -> str:
        return f"{self.sampler} {self.steps}"


def spread(length: int, count: int) -> np.ndarray:
    return np.linspace(0, length - 1, min(length, count)).round().astype(int)


def frame_of(ct: ClassedCT, card: ModelCard) -> tuple[SliceFrame, float]:
    """One square for all slices, of the largest side that the model is run on, as wide as the body; and its
    pixel in mm, never finer than the model's. InvalidRequest for a CT without a body."""
    there = (ct.labels != OUTSIDE).any(axis=0)
    if not there.any():
        raise InvalidRequest(f"{ct.name} shows no body: there is no layout to make slices from")
    places = np.argwhere(there) * ct.spacing_mm[1:]
    low, high = places.min(axis=0), places.max(axis=0)
    side = card.roi_voxels[-1]
    pixel_mm = max(card.spacing_mm, float((high - low).max()) / (side - 1 - 2 * RIM))
    return SliceFrame.around((low + high) / 2, side, np.full(2, pixel_mm)), pixel_mm


def cut_slices(
    ct: ClassedCT, frame: SliceFrame, pixel_mm: float, numbers: np.ndarray, *, tissues: bool = False
) -> StudySlices:
    """tissues: whether they are told, as far as the CT's labels have them."""
    cut = [frame.cut(ct, int(z)) for z in numbers]
    hu, labels = (np.stack(column) for column in zip(*cut, strict=True))
    plain = without_tissues(labels)
    told = labels if tissues else plain
    return StudySlices(numbers, hu.astype(np.float32), plain, told, pixel_mm, float(ct.spacing_mm[0]))


def numbers_beside(numbers: np.ndarray, count: int, slice_mm: float) -> np.ndarray:
    """Of other slices, APART_MM above, or below where the CT ends."""
    away = max(1, round(APART_MM / slice_mm))
    beside: np.ndarray = np.where(numbers + away < count, numbers + away, np.maximum(numbers - away, 0))
    return beside


def make_slices(
    model: SemanticCT,
    slices: StudySlices,
    how: Sampling,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """(seeds N, Y, X) HU, one seed after the other: every slice from its layout and noise of its own.

    No slice knows its neighbours, and no voxel of the CT is shown. The noise is the same for every model.
    """
    air = np.full((len(slices.labels), 1, *slices.labels.shape[1:]), AIR_HU, np.float32)
    everywhere = np.ones(air.shape, bool)
    rois = RoiBatch(
        air,
        everywhere.astype(np.float32),
        everywhere,
        everywhere,
        spacing_mm=slices.pixel_mm,
        own=LaidOut(slices.told[:, None], slices.slice_mm),
    )
    request = SemanticWholeRequest(steps=how.steps, sampler=how.sampler)
    run, _ = model.run(rois, request, range(how.seeds), (on_step, None))
    hu: np.ndarray = model.scale.from_unit(run.results.numpy())[:, 0]
    return hu


# --- the second floor ---


def class_means(cts: list[ClassedCT], window: HUWindow = ABDOMEN, *, tissues: bool = False) -> np.ndarray:
    """(classes,) HU: means of classes in training patients, within the window; air where none has one."""
    sums, counts = np.zeros((2, len(CLASSES)))
    for ct in cts:
        labels = (ct.labels if tissues else without_tissues(ct.labels)).ravel()
        known = labels < len(CLASSES)
        hu = ct.hu.ravel()[known].astype(np.float64).clip(window.lo_hu, window.hi_hu)
        sums += np.bincount(labels[known], hu, len(CLASSES))
        counts += np.bincount(labels[known], minlength=len(CLASSES))
    return np.where(counts > 0, sums / np.maximum(counts, 1), AIR_HU)


def painted_hu(cts: list[ClassedCT]) -> dict[str, float]:
    """Means of all classes that training patients have, by name, for a card: of all but body."""
    means = class_means(cts, HUWindow(-1024, 3071), tissues=True)
    present = {int(n) for ct in cts for n in np.unique(ct.labels) if n < len(CLASSES) and n != BODY}
    return {CLASSES[number]: round(float(means[number]), 1) for number in sorted(present)}


def classes_in(cts: list[ClassedCT]) -> tuple[str, ...]:
    """Names of the organs that they have, and the body."""
    numbers = {int(n) for ct in cts for n in np.unique(without_tissues(ct.labels)) if OUTSIDE < n <= BODY}
    return tuple(CLASSES[number] for number in sorted(numbers))
