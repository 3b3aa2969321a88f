"""Orders for tiny published weights, and a web that answers what a test wants."""

from __future__ import annotations

import io
from typing import Any
from urllib.request import Request

from lesionbrush.published.adding import WeightsOrder
from lesionbrush.published.catalogue import UNSTATED, find_known
from lesionbrush.systems.med_unet import MedUNetConfig

SMALL = MedUNetConfig(2, (32, 64), (False, True))
URL = "https://weights.example/tiny.pt"
LUNG_DDPM = find_known("lung_ddpm_published")


def order(source: object, **changes: Any) -> WeightsOrder:
    facts = {"known": LUNG_DDPM, "source": str(source), "license_accepted": UNSTATED, **changes}
    return WeightsOrder(**facts)


def ignore(done: int, total: int | None) -> None:
    pass


class Answer(io.BytesIO):
    """What a web server answers."""

    def __init__(self, content: bytes, length: object = None) -> None:
        super().__init__(content)
        self.headers = {} if length is None else {"Content-Length": str(length)}


class Web:
    """An opener that answers one thing, or raises it."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.asked = answer, []

    def open(self, request: Request, timeout: float) -> Any:
        self.asked.append(request.full_url)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer
