"""The files of what a system takes beside CT and mask, read by their kinds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from lesionbrush.core.inputs import Input, Inputs, Layout, Value
from lesionbrush.errors import DamagedFile, InvalidRequest, LesionBrushError
from lesionbrush.files.io import read_volume
from lesionbrush.files.itk import segment_names

Sent = Mapping[str, "Path | str"]
"""By the name of each part (`Input.parts`): its file, or a text as it is."""
_MOST_TEXT_BYTES = 1 << 20


def read_inputs(sent: Sent, accepted: Sequence[Input]) -> Inputs:
    """What was sent of what a system takes. Raises as `read_volume` does, and InvalidRequest."""
    return Inputs(**{one.name: _read(one, sent) for one in accepted if one.name in sent})


def names_sent(sent: Mapping[str, object], accepted: Sequence[Input]) -> list[str]:
    """Of the inputs; the names of a layout's labels are no input of their own."""
    tables = {part for one in accepted if one.name in sent for part in one.parts[1:]}
    return [name for name in sent if name not in tables]


def _read(one: Input, sent: Sent) -> Value:
    value = sent[one.name]
    try:
        if one.kind == "text":
            return value if isinstance(value, str) else _text(value)
        if one.kind == "layout":
            return _layout(Path(value), sent.get(f"{one.name}_names"))
        return read_volume(Path(value))
    except LesionBrushError as error:
        raise type(error)(f"{one.name}: {error}") from error


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MOST_TEXT_BYTES:
            raise InvalidRequest(f"{path.name} has more than {_MOST_TEXT_BYTES} bytes, which is no report")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedFile(f"{path.name} cannot be read as a text in UTF-8") from error


def _layout(path: Path, names: Path | str | None) -> Layout:
    labels = read_volume(path)
    if labels.array.dtype.kind not in "iu":
        raise InvalidRequest(f"{path.name} holds {labels.array.dtype} values; labels are whole numbers")
    if names is not None:
        return Layout(labels, _table(_text(names) if isinstance(names, Path) else names))
    known = segment_names(path)
    if not known:
        raise InvalidRequest(
            f"{path.name} does not say what its labels mean: send a table of names with it, such as "
            '{"1": "liver"}'
        )
    return Layout(labels, known)


def _table(text: str) -> dict[int, str]:
    """{"1": "liver"} or {"liver": 1}. InvalidRequest for anything else."""
    try:
        pairs = [_named(key, value) for key, value in json.loads(text).items()]
    except (ValueError, AttributeError, RecursionError) as error:
        raise InvalidRequest(
            f'the names of labels {text[:40]!r} are no JSON table such as {{"1": "liver"}}'
        ) from error
    table = dict(pairs)
    if len(table) < len(pairs):
        raise InvalidRequest(f"the names of labels {text[:40]!r} call one label by two names")
    return table


def _named(key: str, value: object) -> tuple[int, str]:
    """A label and its name, whichever comes first. ValueError for what is neither."""
    number, name = (key, value) if isinstance(value, str) else (value, key)
    if isinstance(number, (bool, float)) or not str(name).strip():
        raise ValueError(f"{key!r}: {value!r}")
    return int(str(number)), str(name).strip()
