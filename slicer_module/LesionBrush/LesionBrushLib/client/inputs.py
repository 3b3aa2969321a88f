"""Volumes that go beside CT and mask, by the names in a model's card: `lungs`, `anatomy`, `pathology`, ..."""

from collections.abc import Mapping

from .answers import ModelFacts
from .errors import WrongInput
from .uploads import SERIES, Upload
from .wire import FilePart

PAIR = ("pathology", "pathology_mask")
"""One without the other means nothing."""


def require_taken(inputs: Mapping[str, Upload], model: ModelFacts) -> None:
    """Raises WrongInput. A server that knows no inputs would pass over them in silence."""
    for name, upload in inputs.items():
        if name not in model.inputs:
            takes = ", ".join(model.inputs) or "none beside CT and mask"
            raise WrongInput(f"{name}: model {model.name!r} takes no such volume; it takes {takes}")
        if upload.format == SERIES:
            raise WrongInput(f"{name}: send one file, not a DICOM series: convert it to NIfTI first")
    given = [name for name in PAIR if name in inputs]
    if len(given) == 1:
        (lacking,) = set(PAIR) - set(given)
        raise WrongInput(f"{given[0]} was given without {lacking}: give both, or neither")


def parts(inputs: Mapping[str, Upload]) -> "dict[str, FilePart]":
    """For a form."""
    return {name: upload.part(name) for name, upload in inputs.items()}
