"""What is wished of a layout, carried out. Pure functions over layouts; arrays are (I, J, K) as stored."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from lesionbrush.core.inputs import Layout
from lesionbrush.core.roi import Orientation
from lesionbrush.core.volume import Array
from lesionbrush.errors import InvalidRequest
from lesionbrush.systems.semantic.layout_edits.organs import (
    draw_organ,
    find_body_label,
    find_organs,
    is_organ,
)
from lesionbrush.transfer.forms import Bend
from lesionbrush.transfer.names import OrganName

WAVE_MM = 40.0
"""Waves of a deformation are two to four times as long."""
MOST_DEFORM_MM = 12.0
"""Shorter than WAVE_MM / pi, from where on tissue would be folded over."""
MOST_MOVE_MM = 200.0
SCALES = (0.2, 5.0)
_OPPOSITE = {"left": "right", "right": "left", "l": "r", "r": "l", "lt": "rt", "rt": "lt"}
Move = tuple[float, float, float]


@dataclass(frozen=True)
class LayoutWish:
    """scale: volume over that before, by organ; move: RAS mm, by organ; deform_mm: no voxel moves further.

    Done in the order mirror, deform, remove, scale, move.
    """

    scale: Mapping[str, float] = field(default_factory=dict)
    move: Mapping[str, Move] = field(default_factory=dict)
    remove: tuple[str, ...] = ()
    deform_mm: float = 0.0
    mirror: bool = False

    def require_possible(self) -> None:
        """InvalidRequest for numbers beyond what is meant."""
        for name, factor in self.scale.items():
            if not SCALES[0] <= factor <= SCALES[1]:
                raise InvalidRequest(
                    f"scale {name}={factor:g}: {SCALES[0]:g} to {SCALES[1]:g} times its volume"
                )
        for name, move in self.move.items():
            if not np.isfinite(move).all():
                raise InvalidRequest(f"move {name}={move}: three numbers of mm are needed")
            if (length_mm := float(np.linalg.norm(move))) > MOST_MOVE_MM:
                raise InvalidRequest(
                    f"move {name}={move}: {length_mm:.0f} mm, of {MOST_MOVE_MM:g} at most: further is no "
                    "place of the same body"
                )
        if not 0 <= self.deform_mm <= MOST_DEFORM_MM:
            raise InvalidRequest(
                f"deform {self.deform_mm:g}: 0 to {MOST_DEFORM_MM:g} mm; more would fold tissue over"
            )

    def require_some(self) -> None:
        """InvalidRequest where nothing is wished."""
        if not (self.scale or self.move or self.remove or self.deform_mm or self.mirror):
            raise InvalidRequest("nothing is to be changed: scale, move, remove, deform or mirror something")


@dataclass(eq=False)
class ChangeLog:
    """What happened to organs, in voxels by name: outside of grid and body, of so many that were drawn;
    given: by whom it was covered, then what gave way."""

    outside: Counter[str] = field(default_factory=Counter)
    drawn: Counter[str] = field(default_factory=Counter)
    given: Counter[tuple[str, str]] = field(default_factory=Counter)


@dataclass(frozen=True, eq=False)
class ChangedLayout:
    """start: what is compared with, mirrored already, so that each organ goes by its own name; asked: volume
    over that of `start`, by name; None for what was taken out."""

    start: Layout
    layout: Layout
    asked: Mapping[str, float | None]
    log: ChangeLog


def change_layout(
    layout: Layout, wish: LayoutWish, generator: np.random.Generator, body: Array | None = None
) -> ChangedLayout:
    """body: bool on the grid, which nothing leaves; None: the layout's own, if it has such a label.

    Raises InvalidRequest for an impossible wish, for an organ that is not there, and for one to be scaled or
    moved that the end of the volume cuts. What came out is for `checks` to judge.
    """
    wish.require_possible()
    layout.require_named()
    start = mirror_layout(layout) if wish.mirror else layout
    asked: dict[str, float | None] = {name: 1.0 for name in _list_present(start)}
    log = ChangeLog()
    changed = start
    if wish.deform_mm:
        changed = _warp(start, Bend.draw(WAVE_MM, wish.deform_mm / WAVE_MM, generator))
    if body is not None and changed is not layout:
        changed = _keep_in(body | (layout.labels.array != 0), changed, log)
    for wanted in wish.remove:
        for name in find_organs(wanted, changed):
            changed, asked[name] = _fill(changed, changed.mask(name)), None
    if body is None and find_body_label(changed.names):
        body = changed.labels.array != 0
    for name, (factor, move) in _list_redrawn(wish, changed).items():
        changed, asked[name] = _redraw(changed, name, factor, move, body, log), factor
    return ChangedLayout(start, changed, asked, log)


def _list_present(layout: Layout) -> list[str]:
    present = set(np.unique(layout.labels.array).tolist())
    return sorted({name for number, name in layout.names.items() if number in present})


def _list_redrawn(wish: LayoutWish, layout: Layout) -> dict[str, tuple[float, Move]]:
    found: dict[str, tuple[float, Move]] = {}
    for wanted, factor in wish.scale.items():
        found |= {name: (factor, (0.0, 0.0, 0.0)) for name in find_organs(wanted, layout)}
    for wanted, move in wish.move.items():
        found |= {name: (found.get(name, (1.0, move))[0], move) for name in find_organs(wanted, layout)}
    return found


def _redraw(
    layout: Layout, name: str, factor: float, move: Move, body: Array | None, log: ChangeLog
) -> Layout:
    """Over what is there, which is noted."""
    before = layout.mask(name)
    _require_whole(name, before)
    drawn = draw_organ(layout.labels.with_array(before), factor, move)
    inside = drawn.inside if body is None else drawn.inside & (body | before)
    log.drawn[name] = int(np.count_nonzero(drawn.inside)) + drawn.beyond
    log.outside[name] = log.drawn[name] - int(np.count_nonzero(inside))
    cleared = _fill(layout, before)
    counts = np.bincount(cleared.labels.array[inside].astype(np.int64))
    for number in np.flatnonzero(counts):
        other = layout.names.get(int(number), "")
        if other and is_organ(other):
            log.given[name, other] += int(counts[number])
    number = min(known for known, called in layout.names.items() if called == name)
    array = np.where(inside, number, cleared.labels.array).astype(layout.labels.array.dtype)
    return replace(layout, labels=layout.labels.with_array(array))


def _require_whole(name: str, organ: Array) -> None:
    ends = [organ.take(end, axis).any() for axis in range(3) for end in (0, -1) if organ.shape[axis] > 1]
    if any(ends):
        raise InvalidRequest(
            f"{name}: the end of the volume cuts it, so its size and shape are not known: only what lies in "
            "the volume whole is scaled or moved"
        )


def _fill(layout: Layout, where: Array) -> Layout:
    """With body, where the layout has such a label, else with nothing."""
    array = np.where(where, find_body_label(layout.names), layout.labels.array)
    return replace(layout, labels=layout.labels.with_array(array.astype(layout.labels.array.dtype)))


def _keep_in(body: Array, layout: Layout, log: ChangeLog) -> Layout:
    """What a deformation or a mirror puts outside is noted, and left out."""
    gone = (layout.labels.array != 0) & ~body
    for name in filter(is_organ, _list_present(layout)):
        mask = layout.mask(name)
        log.drawn[name] = int(np.count_nonzero(mask))
        log.outside[name] = int(np.count_nonzero(mask & gone))
    array = np.where(gone, 0, layout.labels.array).astype(layout.labels.array.dtype)
    return replace(layout, labels=layout.labels.with_array(array))


def _warp(layout: Layout, bend: Bend) -> Layout:
    """The nearest label of where each voxel comes from, or of the end of the volume."""
    labels = layout.labels
    axes, back = labels.affine[:3, :3], np.linalg.inv(labels.affine[:3, :3])
    middle, last = (np.array(labels.shape) - 1) / 2, np.array(labels.shape) - 1
    found = np.empty_like(labels.array)
    i, j = (np.arange(length) for length in labels.shape[:2])
    for k in range(labels.shape[2]):
        index = np.stack(np.meshgrid(i, j, k, indexing="ij"), axis=-1)[:, :, 0]
        came = bend.at((index - middle) @ axes.T) @ back.T + middle
        at = np.clip(np.floor(came + 0.5).astype(int), 0, last)
        found[:, :, k] = labels.array[tuple(np.moveaxis(at, -1, 0))]
    return replace(layout, labels=labels.with_array(found))


def mirror_layout(layout: Layout) -> Layout:
    """Left and right changed about the middle of all that is labelled; what has sides changes its name."""
    turned = Orientation.of(layout.labels.affine)
    view = turned.view(layout.labels.array)
    columns = np.flatnonzero(view.any(axis=(0, 1)))
    if not len(columns):
        raise InvalidRequest("the layout is empty: nothing in it can be mirrored")
    came = columns[0] + columns[-1] - np.arange(view.shape[2])
    inside = (came >= 0) & (came < view.shape[2])
    flipped = np.where(inside, view[:, :, np.clip(came, 0, view.shape[2] - 1)], 0)
    numbers, names = _change_sides(layout.names)
    array = np.asarray(turned.to_stored(flipped))
    for number, other in numbers.items():
        array = np.where(turned.to_stored(flipped) == number, other, array)
    return Layout(layout.labels.with_array(array.astype(layout.labels.array.dtype)), names)


def _change_sides(names: Mapping[int, str]) -> tuple[dict[int, int], dict[int, str]]:
    """Numbers that change places, as of both kidneys; and the names, new where the other side had none."""
    swapped: dict[int, int] = {}
    renamed = dict(names)
    for number, name in names.items():
        others = [n for n, other in names.items() if OrganName.of(other).is_opposite(OrganName.of(name))]
        if others:
            swapped[number] = min(others)
        elif OrganName.of(name).side is not None:
            renamed[number] = _other_side(name)
    return swapped, renamed


def _other_side(name: str) -> str:
    def swap(found: re.Match[str]) -> str:
        word = found[0]
        other = _OPPOSITE[word.lower()]
        return other.upper() if word.isupper() else other.title() if word.istitle() else other

    return re.sub(r"(?<![^\W_])(left|right|lt|rt|l|r)(?![^\W_])", swap, name, flags=re.IGNORECASE)
