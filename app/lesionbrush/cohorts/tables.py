"""Findings as rows of a CSV table: each row is a lesion; what a row leaves empty is the finding rule's."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lesionbrush.cohorts.specification import FindingRule
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.layouts import read_text

REFERENCE = "reference"
_LESION = ("diameter_mm", "shape", "elongation")
_PLACE = ("inside", "side", "gap_mm")
_SURFACE = ("surface_from_mm", "surface_to_mm")
_ATTRIBUTE = "attributes."


@dataclass(frozen=True)
class TableRow:
    """line: in the file, from 2; reference: the only CT that it is for, "" for all; rule: of plain values."""

    line: int
    reference: str
    rule: FindingRule


def read_table(path: Path, defaults: FindingRule) -> tuple[TableRow, ...]:
    """At least one row. Raises InvalidRequest with the line and the column, DamagedFile."""
    lines = csv.DictReader(io.StringIO(read_text(path)))
    _check_columns(path, list(lines.fieldnames or ()))
    rows = tuple(_row(path, number, cells, defaults) for number, cells in enumerate(lines, start=2))
    if not rows:
        raise InvalidRequest(f"{path.name} has no row below its first line: write a lesion into each")
    return rows


def _check_columns(path: Path, names: list[str]) -> None:
    known = (REFERENCE, *_LESION, *_PLACE, *_SURFACE)
    strange = [name for name in names if name not in known and not name.startswith(_ATTRIBUTE)]
    if strange:
        raise InvalidRequest(
            f"{path.name}: there is no column {strange[0]!r}; there are {', '.join(known)} and "
            f"{_ATTRIBUTE}NAME for each attribute"
        )
    if "diameter_mm" not in names:
        raise InvalidRequest(f"{path.name} has no column diameter_mm: write how large each lesion is")


def _row(path: Path, line: int, cells: Mapping[str, Any], defaults: FindingRule) -> TableRow:
    if None in cells or None in cells.values():
        raise InvalidRequest(f"{path.name} line {line}: it has more or fewer cells than the first line")
    said = {name: _value(text) for name, text in cells.items() if text.strip()}
    if "diameter_mm" not in said:
        raise InvalidRequest(f"{path.name} line {line}: diameter_mm is empty: write how large the lesion is")
    place: dict[str, Any] = {**defaults.place.model_dump(), **_part(said, _PLACE)}
    ends = [said[name] for name in _SURFACE if name in said]
    if ends:
        place["surface_mm"] = ends
    attributes = {k[len(_ATTRIBUTE) :]: v for k, v in said.items() if k.startswith(_ATTRIBUTE)}
    values = {
        "shape": defaults.shape.model_dump(),
        "elongation": defaults.elongation.model_dump(),
        **_part(said, _LESION),
        "place": place,
        "attributes": {**{k: v.model_dump() for k, v in defaults.attributes.items()}, **attributes},
    }
    try:
        rule = FindingRule.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        column = ".".join(str(part) for part in first["loc"])
        said_of = str(first["msg"]).removeprefix("Value error, ")
        raise InvalidRequest(
            f"{path.name} line {line}: {column}: {said_of} (got {first['input']!r})"
        ) from error
    return TableRow(line, str(cells.get(REFERENCE, "")).strip(), rule)


def _part(said: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: said[name] for name in names if name in said}


def _value(text: str) -> Any:
    """A number, true, false or null as in JSON, else the text."""
    try:
        value = json.loads(text)
    except ValueError:
        return text.strip()
    return text.strip() if isinstance(value, (dict, list, str)) else value
