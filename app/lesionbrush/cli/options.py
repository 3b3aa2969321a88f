"""Options that several commands share: the model, and the parameters of a request."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lesionbrush.core.inputs import ABOUT, InputName, Inputs, require_accepted
from lesionbrush.core.registry import ModelCard, find_model
from lesionbrush.core.request import BaseRequest
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.io import read_volume
from lesionbrush.systems.lesion_inpainting.request import parse_request

DEFAULT_MODEL = "lung_lesion"


def add_model_argument(parser: ArgumentParser) -> None:
    parser.add_argument("--model", default=DEFAULT_MODEL, help="an installed model (default: %(default)s)")


def add_request_arguments(parser: ArgumentParser) -> None:
    """--seed, --variants and --param, to be read with `request_from`."""
    parser.add_argument("--seed", type=int, metavar="N", help="same seed, same voxels (default: 0)")
    parser.add_argument("--variants", type=int, metavar="N", help="number of samples (default: 1)")
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any parameter of the request, such as steps=20 or attributes.texture=solid; can be repeated",
    )


def request_from(options: Namespace) -> BaseRequest:
    """The request the options ask of their model. Raises InvalidRequest, UnknownModel."""
    values = nested(options.param)
    for name in ("seed", "variants"):
        if getattr(options, name) is None:
            continue
        if name in values:
            raise InvalidRequest(
                f"{name} is given twice, as --{name} and as --param {name}=...: give one of them"
            )
        values[name] = getattr(options, name)
    return parse_request(values, find_model(options.model).card.system)


def add_input_arguments(parser: ArgumentParser) -> None:
    """--lungs, --anatomy, ...: volumes beside CT and mask, to be read with `inputs_from`."""
    for name, about in ABOUT.items():
        parser.add_argument(option_of(name), type=Path, metavar="FILE", help=about)


def option_of(name: str) -> str:
    """`pathology_mask` -> `--pathology-mask`."""
    return f"--{name.replace('_', '-')}"


def named_inputs(options: Namespace) -> dict[InputName, Path]:
    """The files of those that were given."""
    paths = {name: getattr(options, name) for name in ABOUT}
    return {name: path for name, path in paths.items() if path is not None}


def require_taken(options: Namespace, card: ModelCard) -> None:
    """Raise InvalidRequest for a volume that the model does not take, before any is read."""
    require_accepted(card.name, list(named_inputs(options)), card.inputs)


def inputs_from(options: Namespace) -> Inputs:
    """The volumes that were named; `require_taken` says whether a model takes them."""
    return read_inputs(named_inputs(options))


def read_inputs(paths: Mapping[InputName, Path]) -> Inputs:
    return Inputs(**{name: read_volume(path) for name, path in paths.items()})


def nested(assignments: list[str]) -> dict[str, Any]:
    """['a.b=1', 'c=x'] -> {'a': {'b': 1}, 'c': 'x'}: values are JSON where they can be, else text.

    Raises InvalidRequest for an assignment that is none, and for a key that is a value and a group at once.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        *groups, name = path.split(".")
        if not equals or not all((*groups, name)):
            raise InvalidRequest(f"--param {assignment}: write KEY=VALUE, such as steps=20")
        group = values
        for part in groups:
            group = group.setdefault(part, {})
            if not isinstance(group, dict):
                raise InvalidRequest(f"--param {assignment}: {part} has a value of its own already")
        group[name] = _json_or_text(text)
    return values


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
