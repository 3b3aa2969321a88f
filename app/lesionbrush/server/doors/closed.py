"""Routes of MONAI Label that are not here although its own clients ask for them: they are told why."""

from __future__ import annotations

import re
from typing import NamedTuple

from lesionbrush.server.doors.perimeter import DoorRefusal


class Closed(NamedTuple):
    """What a client may ask for, and what it is told."""

    methods: tuple[str, ...]
    path: re.Pattern[str]
    refusal: DoorRefusal


_TRAINING = (
    "this server does not train: models are trained by 'python run.py train', where the data is, and are "
    "installed as a folder"
)
_SLIDES = "this server does not offer whole slides: its models make CT volumes, ask POST /infer/{model}"
CLOSED = (
    Closed(
        ("GET", "POST", "DELETE"),
        re.compile(r"/train/[A-Za-z0-9_-]{0,64}"),
        DoorRefusal(501, "not_implemented", _TRAINING),
    ),
    Closed(("POST",), re.compile(r"/infer/wsi(_v2)?/.*"), DoorRefusal(404, "not_offered", _SLIDES)),
)


def why_not(method: str, path: str) -> DoorRefusal:
    """What is said of an address that has no door. Nothing of the address is repeated."""
    for closed in CLOSED:
        if method in closed.methods and closed.path.fullmatch(path):
            return closed.refusal
    return DoorRefusal(404, "not_offered", "this server does not offer this")
