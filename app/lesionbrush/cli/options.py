"""Options that several commands share: the model, and the parameters of a request."""

from __future__ import annotations

import json
import re
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from lesionbrush.core.inputs import require_accepted
from lesionbrush.core.registry import ModelCard, find_model, list_models
from lesionbrush.core.request import BaseRequest, EditRequest
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.inputs import Sent, list_sent
from lesionbrush.systems import DEFAULT_MODEL, find_system, list_inputs, list_systems, parse_request
from lesionbrush.systems.contract import Makes


def add_model_argument(parser: ArgumentParser) -> None:
    parser.add_argument("--model", default=DEFAULT_MODEL, help="an installed model (default: %(default)s)")


def add_device_argument(parser: ArgumentParser) -> None:
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")


def add_request_arguments(parser: ArgumentParser) -> None:
    """--seed, --variants and --param, to be read with `request_from`."""
    parser.add_argument("--seed", type=int, metavar="N", help="same seed, same voxels (default: 0)")
    parser.add_argument("--variants", type=int, metavar="N", help="number of samples (default: 1)")
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any parameter of the request, such as steps=20 or attributes.texture=solid; can be repeated; "
        "those of a model: run.py models show MODEL",
    )


def request_from(options: Namespace) -> BaseRequest:
    """The request the options ask of their model. Raises InvalidRequest, UnknownModel."""
    values = nest(options.param)
    for name in ("seed", "variants"):
        if getattr(options, name) is None:
            continue
        if name in values:
            raise InvalidRequest(
                f"{name} is given twice, as --{name} and as --param {name}=...: give one of them"
            )
        values[name] = getattr(options, name)
    return parse_request(values, find_model(options.model).card.system)


def edit_from(options: Namespace) -> EditRequest:
    """The same of a model that edits. Raises InvalidRequest for one that makes whole CTs."""
    return require_edit(request_from(options), options.model)


def require_edit(request: BaseRequest, model: str) -> EditRequest:
    """InvalidRequest for a request to a model that makes whole CTs."""
    if not isinstance(request, EditRequest):
        raise InvalidRequest(
            f"{model} makes whole new CTs and edits none: use  run.py generate, whose result can be edited"
        )
    return request


def add_input_arguments(parser: ArgumentParser, makes: Makes = "edit") -> None:
    """--lungs, --anatomy, ...: what systems take beside CT and mask, to be read with `collect_inputs`."""
    for one in list_inputs(makes).values():
        if one.kind == "text":
            parser.add_argument(option_of(one.name), metavar="TEXT", help=one.about)
            continue
        parser.add_argument(option_of(one.name), type=Path, metavar="FILE", help=one.about)
        for names in one.parts[1:]:
            about = 'what its labels mean, {"1": "liver"} or a file with it; default: see docs/files.md'
            parser.add_argument(option_of(names), type=json_table, metavar="JSON", help=about)


def json_table(text: str) -> Path | str:
    """A table that was typed as it is, else the file with it."""
    return text if text.lstrip().startswith("{") else Path(text)


def option_of(name: str) -> str:
    """`pathology_mask` -> `--pathology-mask`."""
    return f"--{name.replace('_', '-')}"


def name_options(said: str, taken: str) -> str:
    """A refusal with options in place of what HTTP calls parts. taken: a text with the command's options.

    A name is known by its underscore, or stands at the head, behind "as", or in the list that "it takes".
    """
    head, takes, listed = said.partition("it takes ")
    for part in (part for one in list_inputs().values() for part in one.parts):
        option = option_of(part)
        if re.search(rf"{option}(?![-\w])", taken):
            places = rf"\b{part}\b" if "_" in part else rf"^{part}(?=:| is missing| and )|(?<=\bas ){part}\b"
            head = re.sub(places, option, head)
            listed = re.sub(rf"(?<![-\w]){part}(?!\w)", option, listed)
    return head + takes + listed


def collect_inputs(options: Namespace) -> dict[str, Path | str]:
    """Those that were given."""
    parts = [part for one in list_inputs().values() for part in one.parts]
    return {name: value for name in parts if (value := getattr(options, name, None)) is not None}


def files_of(sent: Sent) -> list[Path]:
    """The files among what was given."""
    return [value for value in sent.values() if isinstance(value, Path)]


def require_taken(sent: Sent, card: ModelCard) -> None:
    """Raise InvalidRequest for what the model does not take, or lacks, before any is read."""
    system = find_system(card.system)

    def takers(name: str) -> list[str]:
        apt = {
            other.name
            for other in list_systems().values()
            if other.makes == system.makes and name in {one.name for one in other.inputs}
        }
        return [model.card.name for model in list_models() if model.card.system in apt]

    require_accepted(card.name, list_sent(sent, system.inputs), system.inputs, takers)


def nest(assignments: list[str]) -> dict[str, Any]:
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
