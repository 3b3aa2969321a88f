"""A specification from a file, or a sentence on what is wrong in it: where, with which value, what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from lesionbrush.cohorts.specification import BASE, CohortSpecification
from lesionbrush.errors import DamagedFile, InvalidRequest
from lesionbrush.files.layouts import read_text

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_LONGEST_VALUE = 80


def read_specification(path: Path) -> CohortSpecification:
    """Of a .yaml, .yml or .json. Raises InvalidRequest (all that is wrong, one line each), DamagedFile."""
    if not path.is_file():
        raise DamagedFile(f"{path.name}: there is no such file")
    return parse_specification(_values_of(path, read_text(path)), path.absolute().parent, path.name)


def parse_specification(values: Any, base: Path | None, name: str) -> CohortSpecification:
    """base: where relative paths start, None to leave paths as they are; name: of the file, for the text."""
    try:
        return CohortSpecification.model_validate(values, context={BASE: base})
    except ValidationError as error:
        wrong = "; ".join(_sentence(dict(item)) for item in error.errors())
        raise InvalidRequest(f"{name}: {wrong}") from error


def schema() -> dict[str, Any]:
    """The JSON schema, for editors that complete and check YAML while it is written."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **CohortSpecification.model_json_schema(),
    }


def _values_of(path: Path, text: str) -> Any:
    try:
        return json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        line = f"line {where.line + 1}: " if where is not None else ""
        problem = getattr(error, "problem", None) or str(error)
        raise InvalidRequest(f"{path.name}: {line}{problem}; mend it, or write JSON into a .json") from error


def _sentence(item: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in item["loc"] if part != "[key]") or "the file"
    said, got = str(item["msg"]).removeprefix("Value error, "), _shown(item["input"])
    if item["type"] == "extra_forbidden":
        return f"{where}: there is no such field (got {got}); there are {', '.join(_fields_at(item['loc']))}"
    if item["type"] == "missing":
        return f"{where}: is missing, write it"
    return f"{where}: {said} (got {got})"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _fields_at(path: tuple[str | int, ...]) -> list[str]:
    """Names of the fields beside the last part of a path."""
    model: type[BaseModel] = CohortSpecification
    for part in path[:-1]:
        field = model.model_fields.get(str(part))
        inner = next(_models_in(field.annotation), None) if field is not None else None
        model = model if inner is None else inner
    return list(model.model_fields)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inside in get_args(annotation):
        yield from _models_in(inside)
