"""Whether a changed layout can be a patient's: what cannot is said with the organ and the value."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lesionbrush.errors import InvalidRequest
from lesionbrush.systems.semantic.layout_edits.changes import ChangedLayout
from lesionbrush.systems.semantic.layout_edits.organs import is_organ, list_parts


@dataclass(frozen=True)
class LayoutLimits:
    """Shares. outside: of an organ, past body or volume; give_way: of an organ, to all others; volume: how
    far it may be from what was asked."""

    outside: float = 0.01
    give_way: float = 0.1
    volume: float = 0.1

    def require_shares(self) -> None:
        for name, value in (("outside", self.outside), ("give-way", self.give_way), ("volume", self.volume)):
            if not 0 <= value <= 1:
                raise InvalidRequest(f"{name} {value:g}: a share from 0 to 1 is needed")


@dataclass(frozen=True)
class OrganVolume:
    """ml; asked: None for what was taken out, or is nothing but the body around."""

    name: str
    before_ml: float
    after_ml: float
    asked: float | None


def list_volumes(changed: ChangedLayout) -> list[OrganVolume]:
    """Of all that was there, by name."""
    voxel_ml = changed.layout.labels.voxel_volume_mm3 / 1000
    found = []
    for name, asked in changed.asked.items():
        before, after = (
            np.count_nonzero(layout.mask(name)) * voxel_ml for layout in (changed.start, changed.layout)
        )
        found.append(OrganVolume(name, before, after, asked if is_organ(name) else None))
    return found


def require_possible(changed: ChangedLayout, limits: LayoutLimits) -> None:
    """InvalidRequest lists all that is wrong."""
    limits.require_shares()
    found = [*_outside(changed, limits), *_covered(changed, limits)]
    found += [text for one in list_volumes(changed) for text in _wrong_with(changed, one, limits)]
    if found:
        raise InvalidRequest("; ".join(found) + ". Ask for less, or allow more")


def list_given(changed: ChangedLayout) -> list[str]:
    """What gave way to what, as sentences."""
    voxel_ml = changed.layout.labels.voxel_volume_mm3 / 1000
    return [
        f"{other} gives way to {name}: {count * voxel_ml:.1f} ml, {count / _size(changed, other):.1%} of it"
        for (name, other), count in sorted(changed.log.given.items())
    ]


def _outside(changed: ChangedLayout, limits: LayoutLimits) -> Iterator[str]:
    for name, count in sorted(changed.log.outside.items()):
        share = count / max(changed.log.drawn[name], 1)
        if share > limits.outside:
            yield (
                f"{name}: {share:.1%} of it would lie outside the body or past the end of the volume, and "
                f"{limits.outside:.1%} may"
            )


def _covered(changed: ChangedLayout, limits: LayoutLimits) -> Iterator[str]:
    for (name, other), count in sorted(changed.log.given.items()):
        share = count / _size(changed, other)
        if share > limits.give_way:
            yield f"{name}: covers {share:.1%} of {other}, which may give way by {limits.give_way:.1%}"


def _wrong_with(changed: ChangedLayout, one: OrganVolume, limits: LayoutLimits) -> Iterator[str]:
    """Vanished, of another volume than asked, or in pieces."""
    if one.asked is None or not one.before_ml:
        return
    if not one.after_ml:
        yield f"{one.name}: nothing of its {one.before_ml:.2g} ml is left"
        return
    voxel_ml = changed.layout.labels.voxel_volume_mm3 / 1000
    given_ml = voxel_ml * sum(n for (_, other), n in changed.log.given.items() if other == one.name)
    ratio = (one.after_ml + given_ml) / one.before_ml
    if abs(ratio / one.asked - 1) > limits.volume:
        yield (
            f"{one.name}: {one.after_ml:.1f} ml are {ratio:.2f} times its {one.before_ml:.1f} ml; asked for "
            f"are {one.asked:g}, to {limits.volume:.0%}"
        )
    before, after = (len(list_parts(layout.mask(one.name))) for layout in (changed.start, changed.layout))
    if after > before:
        yield f"{one.name}: broken into {after} parts, of {before} before"


def _size(changed: ChangedLayout, name: str) -> int:
    return max(int(np.count_nonzero(changed.start.mask(name))), 1)
