"""The parameters of a request, in words, from its JSON schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from lesionbrush.request import Attributes, SynthesisRequest


def parameter_lines() -> Iterator[str]:
    """`steps=12 (1 to 1000): denoising steps ...`, one line per parameter, attributes last."""
    for prefix, model in (("", SynthesisRequest), ("attributes.", Attributes)):
        for name, schema in model.model_json_schema()["properties"].items():
            if name != "attributes":
                yield _line(prefix + name, schema)


def _line(name: str, schema: dict[str, Any]) -> str:
    default = schema.get("default")
    shown = "open" if default is None else default if isinstance(default, str) else json.dumps(default)
    about = schema.get("description")
    return f"{name}={shown} ({_allowed(schema)})" + (f": {about}" if about else "")


def _allowed(schema: dict[str, Any]) -> str:
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
