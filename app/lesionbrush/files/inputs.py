"""The files of what a system takes beside CT and mask, read by their kinds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lesionbrush.core.inputs import Input, Inputs, Value
from lesionbrush.errors import LesionBrushError
from lesionbrush.files.io import read_volume
from lesionbrush.files.layouts import read_layout, read_text

Sent = Mapping[str, "Path | str"]
"""By the name of each part (`Input.parts`): its file, or a text as it is."""


def read_inputs(sent: Sent, accepted: Sequence[Input]) -> Inputs:
    """What was sent of what a system takes. Raises as `read_volume` and `read_layout` do."""
    return Inputs(**{one.name: _read(one, sent) for one in accepted if one.name in sent})


def list_sent(sent: Mapping[str, object], accepted: Sequence[Input]) -> list[str]:
    """Of the inputs; the names of a layout's labels are no input of their own."""
    tables = {part for one in accepted if one.name in sent for part in one.parts[1:]}
    return [name for name in sent if name not in tables]


def _read(one: Input, sent: Sent) -> Value:
    value = sent[one.name]
    try:
        if one.kind == "text":
            return value if isinstance(value, str) else read_text(value)
        if one.kind == "layout":
            (table,) = one.parts[1:]
            return read_layout(Path(value), sent.get(table), f"as {table}")
        return read_volume(Path(value))
    except LesionBrushError as error:
        raise type(error)(f"{one.name}: {error}") from error
