"""What steers a synthesis beside the CT and the mask, as data: a system lists what it takes.

From such a list come the parts of a request over HTTP, the options of commands, the fields in 3D Slicer, and
what is checked before the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

import numpy as np

from lesionbrush.core.volume import Volume, list_labels, mask_on_grid, require_ct
from lesionbrush.errors import InvalidRequest, LesionBrushError

Kind = Literal["volume", "mask", "layout", "text"]
REFERENCE, OWN = "reference", "own"


@dataclass(frozen=True, eq=False)
class Layout:
    """Organs or tissues. labels: (I, J, K) whole numbers, 0 for nothing; names: of each label that counts.

    What is done goes by the names, never by the numbers.
    """

    labels: Volume
    names: Mapping[int, str]

    def mask(self, name: str) -> np.ndarray:
        """(I, J, K) bool: where something of this name is."""
        wanted = [number for number, known in self.names.items() if known == name]
        inside: np.ndarray = np.isin(self.labels.array, wanted)
        return inside

    @property
    def voxel_sha256(self) -> str:
        """Of the voxels and what they are called."""
        said = f"{self.labels.voxel_sha256} {sorted(self.names.items())}"
        return sha256(said.encode()).hexdigest()

    def require_named(self, names_as: str = "with it") -> None:
        """InvalidRequest for labels without a name. names_as: how to send a table of them."""
        present = {int(value) for value in np.unique(self.labels.array)} - {0}
        nameless = sorted(present - set(self.names))
        if nameless:
            raise InvalidRequest(
                f"the labels {list_labels(nameless)} have no name: names decide what a layout means; send a "
                f"table of them {names_as}"
            )


Value = Volume | Layout | str


@dataclass(frozen=True)
class Input:
    """One thing that a system takes. about: in one sentence.

    on: whose grid it lies on: that of the reference CT, its own, or that of the input of this name, without
    which it then makes no sense, nor that one without it. check: in place of what is looked at by the kind.
    """

    name: str
    kind: Kind
    about: str
    required: bool = False
    on: str = REFERENCE
    check: Callable[[Volume, Volume], object] | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of what is sent: a layout comes with the names of its labels."""
        return (self.name, f"{self.name}_names") if self.kind == "layout" else (self.name,)


class Inputs:
    """What was sent, by name."""

    def __init__(self, **given: Value | None) -> None:
        self._given = {name: value for name, value in given.items() if value is not None}

    def names(self) -> Iterator[str]:
        """Of those that are there."""
        return iter(self._given)

    def volume(self, name: str) -> Volume | None:
        """A volume or mask, None if it was not sent."""
        value = self._given.get(name)
        return value if isinstance(value, Volume) else None

    def layout(self, name: str) -> Layout | None:
        value = self._given.get(name)
        return value if isinstance(value, Layout) else None

    def text(self, name: str) -> str | None:
        value = self._given.get(name)
        return value if isinstance(value, str) else None

    def volumes(self) -> dict[str, Volume]:
        """What was read from files, by name."""
        found = {name: _volume_of(value) for name, value in self._given.items()}
        return {name: volume for name, volume in found.items() if volume is not None}

    def voxel_sha256(self) -> dict[str, str]:
        """By name: of voxels as `Volume.voxel_sha256`, of a text its own."""
        return {name: _digest(value) for name, value in self._given.items()}


NO_INPUTS = Inputs()


def _volume_of(value: Value) -> Volume | None:
    return value.labels if isinstance(value, Layout) else value if isinstance(value, Volume) else None


def _digest(value: Value) -> str:
    return sha256(value.encode()).hexdigest() if isinstance(value, str) else value.voxel_sha256


def require_accepted(
    model: str,
    names: Iterable[str],
    accepted: Sequence[Input],
    takers: Callable[[str], Sequence[str]] = lambda _: (),
) -> None:
    """InvalidRequest for a name that the model does not take, for one it needs, and for half of a pair.

    takers: the models that take a name, to choose one.
    """
    given, known = set(names), {one.name: one for one in accepted}
    for name in sorted(given - set(known)):
        takes = ", ".join(known) or "none beside CT and mask"
        others = f" ({', '.join(takers(name))} would)" if takers(name) else ""
        raise InvalidRequest(f"{name}: model {model!r} takes no such volume{others}; it takes {takes}")
    for one in accepted:
        if one.required and one.name not in given:
            raise InvalidRequest(f"{one.name} is missing: model {model!r} needs {one.about}")
        if one.on in known and (one.name in given) != (one.on in given):
            other = known[one.on]
            raise InvalidRequest(
                f"{other.name} and {one.name} belong together: send {other.about}, and {one.about}"
            )


def check_inputs(inputs: Inputs, accepted: Sequence[Input], reference: Volume | None) -> None:
    """What is wrong with one that was sent, with its name before it; see `Input.on` for where it has to lie.

    Raises InvalidRequest, GeometryMismatch, NotACT, DamagedFile, EmptyMask, AmbiguousMask.
    """
    for one in accepted:
        if one.name not in set(inputs.names()):
            continue
        try:
            _check(one, inputs, reference)
        except LesionBrushError as error:
            raise type(error)(f"{one.name}: {error}") from error


def _check(one: Input, inputs: Inputs, reference: Volume | None) -> None:
    host = reference if one.on == REFERENCE else inputs.volumes().get(one.on)
    volume, layout, text = inputs.volume(one.name), inputs.layout(one.name), inputs.text(one.name)
    if one.kind == "text":
        _check_text(text)
    elif one.kind == "layout":
        _check_layout(layout, host, f"as {one.parts[1]}")
    elif volume is None:
        raise InvalidRequest("a volume is needed")
    elif one.check is not None:
        one.check(volume, volume if host is None else host)
    elif one.kind == "volume":
        ct = require_ct(volume)
        if host is not None:
            host.require_same_grid(ct, one.name)
    elif host is not None:
        mask_on_grid(volume, host)


def _check_text(text: str | None) -> None:
    if text is None or not text.strip():
        raise InvalidRequest("there is no text in it")


def _check_layout(layout: Layout | None, host: Volume | None, names_as: str) -> None:
    if layout is None:
        raise InvalidRequest("a label volume with the names of its labels is needed")
    layout.require_named(names_as)
    if host is not None:
        host.require_same_grid(layout.labels, "layout")
