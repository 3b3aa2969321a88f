"""The parameters of a request, in words, from its JSON schema."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lesionbrush.core.request import find_nested_model
from lesionbrush.systems import find_system


def parameter_lines(system: str) -> Iterator[str]:
    """`steps=12 (1 to 1000): denoising steps ...`, one line per parameter, groups last."""
    request = find_system(system).request
    groups = {name: find_nested_model(field.annotation) for name, field in request.model_fields.items()}
    yield from _lines("", request.model_json_schema()["properties"], groups)
    for name, group in groups.items():
        if group is not None:
            yield from _lines(f"{name}.", group.model_json_schema()["properties"], {})


def _lines(prefix: str, properties: dict[str, Any], groups: Mapping[str, Any]) -> Iterator[str]:
    for name, schema in properties.items():
        if groups.get(name) is None:
            yield _line(prefix + name, schema)


def _line(name: str, schema: dict[str, Any]) -> str:
    default = schema.get("default")
    shown = "open" if default is None else default if isinstance(default, str) else json.dumps(default)
    about = schema.get("description")
    return f"{name}={shown} ({_describe_allowed(schema)})" + (f": {about}" if about else "")


def _describe_allowed(schema: dict[str, Any]) -> str:
    """The values a parameter may have; that it may be left open as well goes without saying."""
    schema = schema["anyOf"][0] if "anyOf" in schema else schema
    if "enum" in schema:
        return ", ".join(schema["enum"])
    low = schema.get("minimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    if low is None:
        return "true, false" if schema["type"] == "boolean" else str(schema["type"])
    end = f" to {high:g}" if high is not None else f", below {below}" if below is not None else " or more"
    return f"{low:g}{end}"
