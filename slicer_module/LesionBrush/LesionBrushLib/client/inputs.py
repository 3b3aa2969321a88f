"""What goes beside CT and mask, by the names in `ModelFacts.takes`, and what is wrong with it before that."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

from .answers import ModelFacts, Take
from .errors import WrongInput
from .uploads import SERIES, Upload
from .wire import FilePart

if TYPE_CHECKING:
    from .orders import Order


@dataclass(frozen=True)
class Layout:
    """A label volume, and what its labels are: {1: "liver"}. The names decide what it means."""

    labels: Upload
    names: Mapping[int, str]


Input = Union[Upload, Layout, str]
_FORMS = {"text": (str, "a text"), "layout": (Layout, "a label volume with the names of its labels")}
_FILE = (Upload, "one file")


def require_fitting(order: "Order", model: ModelFacts) -> None:
    """Raises WrongInput for what the model does not take, for what it needs, and for half of a pair.

    A server that knows nothing of it would pass over it in silence.
    """
    if model.too_new is not None:
        raise WrongInput(model.too_new)
    _require_kind(order, model)
    takes = {take.name: take for take in model.takes}
    for name, value in order.inputs.items():
        if name not in takes:
            known = ", ".join(takes) or "none beside CT and mask"
            raise WrongInput(f"{name}: model {model.name!r} takes no such volume; it takes {known}")
        _require_form(takes[name], value)
    for take in model.takes:
        if take.required and take.name not in order.inputs:
            raise WrongInput(f"{take.name} is missing: model {model.name!r} needs {take.about or take.name}")
        pair = (take.name, take.on) if take.name in order.inputs else (take.on, take.name)
        if take.on in takes and (take.name in order.inputs) != (take.on in order.inputs):
            raise WrongInput(f"{pair[0]} was given without {pair[1]}: give both, or neither")


def _require_kind(order: "Order", model: ModelFacts) -> None:
    if model.makes_volumes and (order.mask is not None or order.reference is not None):
        raise WrongInput(f"model {model.name!r} makes whole CTs: leave out mask and CT")
    if model.needs_mask and (order.mask is None or order.reference is None):
        raise WrongInput(f"model {model.name!r} works on a CT where a mask is painted: give both")
    if not model.makes_volumes and order.reference is None:
        raise WrongInput(f"model {model.name!r} works on a CT: give one")
    if order.record and order.record.get("generated") and not model.takes_records:
        raise WrongInput(
            "this CT was generated as a whole, and the server is too old to say so of what it makes from it: "
            "update the server, or choose another CT"
        )


def _require_form(take: Take, value: Input) -> None:
    kind, words = _FORMS.get(take.kind, _FILE)
    if not isinstance(value, kind):
        raise WrongInput(f"{take.name}: this has to be {words}")
    if isinstance(value, str) and not value.strip():
        raise WrongInput(f"{take.name}: there is no text in it; write some, or leave it out")
    file = value.labels if isinstance(value, Layout) else value
    if isinstance(file, Upload) and file.format == SERIES:
        raise WrongInput(f"{take.name}: send one file, not a DICOM series: convert it to NIfTI first")


def files(inputs: Mapping[str, Input]) -> "dict[str, FilePart]":
    """For a form."""
    sent = {name: value.labels if isinstance(value, Layout) else value for name, value in inputs.items()}
    return {name: value.part(name) for name, value in sent.items() if isinstance(value, Upload)}


def texts(inputs: Mapping[str, Input]) -> "dict[str, str]":
    """For a form: texts, and the names of labels."""
    tables = {f"{n}_names": _table(value) for n, value in inputs.items() if isinstance(value, Layout)}
    return {**{n: value for n, value in inputs.items() if isinstance(value, str)}, **tables}


def _table(layout: Layout) -> str:
    return json.dumps({str(label): name for label, name in layout.names.items()})
