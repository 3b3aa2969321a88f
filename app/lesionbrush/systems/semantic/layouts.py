"""A layout as people have it, turned into classes. Imports no torch.

Arrays are (Z, Y, X) views, axes to superior, anterior, right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lesionbrush.core.inputs import Layout
from lesionbrush.core.roi import Orientation, RoiGrid
from lesionbrush.errors import InvalidRequest
from lesionbrush.systems.semantic.body import add_body, add_tissues, find_body
from lesionbrush.systems.semantic.classes import BODY, CLASSES, ORGANS, OUTSIDE, UNKNOWN, find_classes
from lesionbrush.transfer.names import OrganName

_BODY = OrganName.of(CLASSES[BODY])
TOLD = 6
"""Names that are listed; the others are counted."""


@dataclass(frozen=True, eq=False)
class ClassMap:
    """labels: uint8 (Z, Y, X), numbers of classes. others: names that are no class, taken as body."""

    labels: np.ndarray
    others: tuple[str, ...] = ()

    @property
    def remarks(self) -> tuple[str, ...]:
        if not self.others:
            return ()
        more = f" and {len(self.others) - TOLD} more" if len(self.others) > TOLD else ""
        return (f"the layout's {', '.join(self.others[:TOLD])}{more}: no class of this model; taken as body",)


def read_classes(layout: Layout, table: Mapping[str, str] | None = None) -> ClassMap:
    """By the names of what is there. A kidney or adrenal gland without a side gets it from where it lies.

    InvalidRequest unless there is one organ at least.
    """
    theirs = Orientation.of(layout.labels.affine).view(layout.labels.array)
    present = set(np.unique(theirs).tolist()) - {0}
    labels, others, organs = np.zeros(theirs.shape, np.uint8), [], 0
    right = _right_of_middle(theirs)
    for number, name in sorted(layout.names.items()):
        if number not in present:
            continue
        numbers, inside = find_classes(name, table), theirs == number
        if not numbers:
            others.append(name)
        labels[inside] = numbers[0] if numbers else BODY
        if len(numbers) > 1:
            labels[inside & ~right] = numbers[1]
        organs += any(OUTSIDE < one < BODY for one in numbers)
    if not organs:
        raise InvalidRequest(
            f"none of {_listed(layout.names.values())} is an organ that is known; known are "
            f"{', '.join(ORGANS)}; say what a name stands for as classes, 'name = liver'"
        )
    return ClassMap(labels, tuple(others))


def as_sent(layout: Layout, wished: ClassMap) -> tuple[np.ndarray, dict[int, str]]:
    """What is where, (Z, Y, X), and its names: numbers and names of the layout, and body for what was made as
    body, whatever it was called. The classes' own where numbers are beyond the 16 bits of our files.
    """
    theirs = Orientation.of(layout.labels.affine).view(layout.labels.array)
    used = {0, *layout.names, *np.unique(theirs).tolist()}
    names, array = dict(enumerate(CLASSES)), wished.labels
    if min(used) >= 0 and max(used) < np.iinfo(np.uint16).max:
        bodies = [number for number, name in sorted(layout.names.items()) if OrganName.of(name) == _BODY]
        body = bodies[0] if bodies else BODY if BODY not in used else max(used) + 1
        names = {body: CLASSES[BODY], **layout.names}
        made = np.where(wished.labels == BODY, body, np.where(wished.labels == OUTSIDE, 0, theirs))
        array = made.astype(np.uint8 if max(used) < 255 else np.uint16)
    return array, {number: names[number] for number in np.unique(array).tolist() if number}


def _right_of_middle(labels: np.ndarray) -> np.ndarray:
    """bool (X,): columns to the patient's right of the middle of all that is labelled."""
    columns = np.flatnonzero(labels.any(axis=(0, 1)))
    middle = (columns[0] + columns[-1]) / 2 if len(columns) else 0.0
    return np.arange(labels.shape[2]) > middle


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    return ", ".join(found[:TOLD]) + (", ..." if len(found) > TOLD else "") or "nothing"


def complete(labels: np.ndarray, hu: np.ndarray, spacing_mm: np.ndarray, *, tissues: bool) -> np.ndarray:
    """uint8: with the body of the CT, and its tissues if they are wanted."""
    whole = add_body(labels, find_body(hu, spacing_mm))
    return add_tissues(whole, hu) if tissues else without_tissues(whole)


def without_tissues(labels: np.ndarray) -> np.ndarray:
    """uint8: fat, muscle, bone and air called body."""
    return np.where((labels > BODY) & (labels < len(CLASSES)), np.uint8(BODY), labels)


def on_grid(labels: np.ndarray, spacing_mm: Sequence[float] | np.ndarray, grid: RoiGrid) -> np.ndarray:
    """uint8 on a ROI: the class of the nearest voxel; outside where the volume ends."""
    found, inside = labels, []
    for axis in range(3):
        at = grid.positions_mm(axis) / spacing_mm[axis]
        nearest = np.floor(at + 0.5).astype(int)
        inside.append((nearest >= 0) & (nearest < labels.shape[axis]))
        found = found.take(np.clip(nearest, 0, labels.shape[axis] - 1), axis)
    z, y, x = inside
    return np.where(z[:, None, None] & y[:, None] & x, found, np.uint8(OUTSIDE))


def find_edges(labels: np.ndarray) -> np.ndarray:
    """bool, like (..., Y, X) labels: one pixel where the one behind it, or the one beside it, is another."""
    edges = np.zeros(labels.shape, bool)
    edges[..., :-1] |= labels[..., :-1] != labels[..., 1:]
    edges[..., :-1, :] |= labels[..., :-1, :] != labels[..., 1:, :]
    return edges


def encode(labels: np.ndarray, *, classes: int, one_hot: bool, edges: bool) -> np.ndarray:
    """float32 (N, C, Y, X) of (N, Y, X) labels: what a network is shown.

    The number of a class over that of the last one, in one channel as published; or a channel for every
    class. Edges are a channel behind. Where nobody knows, -1; one_hot: 0 in all.
    """
    unknown = labels == UNKNOWN
    if one_hot:
        channels = [labels == number for number in range(classes + 1)]
    else:
        channels = [np.where(unknown, -1.0, labels / np.float32(classes))]
    if edges:
        channels.append(np.where(unknown, -1.0, find_edges(labels)))
    return np.stack(channels, axis=1).astype(np.float32)
