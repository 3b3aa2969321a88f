"""A model as MONAI Label sees it."""

from __future__ import annotations

from typing import Any, NoReturn

from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from lesionbrush.core.registry import InstalledModel
from lesionbrush.server.synthesis.facts import card_facts, request_schema
from lesionbrush.server.synthesis.inference import Service
from lesionbrush.systems import find_system


class SynthesisTask(InferTask):
    """What MONAI Label's clients are told of a model; it is run by the server's own routes."""

    def __init__(self, service: Service, installed: InstalledModel) -> None:
        card = installed.card
        described = f"{card.title}: {card.makes}"
        # Of all types, MONAI Label's plugin sends what was drawn to this one alone. Where a model has one of
        # the app's labels, the plugin runs it by itself at each Next Sample, with nothing drawn.
        edits = find_system(card.system).makes == "edit"
        kind = InferType.SCRIBBLES if edits else InferType.OTHERS
        super().__init__(kind, [], 3, described, options(card.system))
        self.service, self.installed = service, installed

    def is_valid(self) -> bool:
        """Always listed; `problem` says why one with bad weights cannot run."""
        return True

    def info(self) -> dict[str, Any]:
        facts = {
            "card": card_facts(self.installed.card),
            "schema": request_schema(self.installed.card.system),
        }
        return {**super().info(), **facts, "problem": self.problem()}

    def problem(self) -> str | None:
        """What is wrong with the weights."""
        return self.service.weights.problem(self.installed)

    def __call__(self, request: dict[str, Any]) -> NoReturn:
        """MONAI Label has to have it, and calls it from routes alone that this server answers or has not."""
        raise NotImplementedError("POST /infer/{model} is a route of this server, see server/http/routes.py")


def options(system: str) -> dict[str, Any]:
    """A request's plain parameters as MONAI Label shows them: scalars, or choices, default first."""
    flat: dict[str, Any] = {}
    for name, field in request_schema(system)["properties"].items():
        default = field.get("default")
        if "enum" in field:
            flat[name] = sorted(field["enum"], key=lambda choice: choice != default)
        elif isinstance(default, (int, float, str)):
            flat[name] = default
    return flat
