"""A model as MONAI Label sees it."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory, mkstemp
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from lesionbrush.core.registry import InstalledModel
from lesionbrush.errors import InvalidRequest, LesionBrushError
from lesionbrush.files.records import record_of
from lesionbrush.server.errors import STATUS, detail
from lesionbrush.server.storage.uploads import suffix_of
from lesionbrush.server.synthesis.facts import card_facts, request_schema
from lesionbrush.server.synthesis.inference import Service, output_of, submit
from lesionbrush.server.synthesis.order import Order, ReferenceCT
from lesionbrush.systems import find_system, parse_request


class SynthesisTask(InferTask):
    """What MONAI Label's clients are told of a model, and what its own code runs; our routes need no task."""

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

    def __call__(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """As `MONAILabelApp.infer` asks: paths as `image` and `label`, our parameters as `synthesis`.

        Waits for its turn among jobs; returns a private file, which is the caller's, and what is said of it.
        Raises HTTPException with the words of the routes.
        """
        try:
            return self._run(request)
        except LesionBrushError as error:
            raise HTTPException(STATUS[type(error)], detail(error)) from error

    def _run(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        card = self.installed.card
        if find_system(card.system).makes == "volume":
            raise InvalidRequest(f"model {card.name!r} makes whole CTs, and this call edits one")
        if not request.get("label"):
            raise InvalidRequest("there is no mask: name its file as 'label'")
        reference, mask = Path(request["image"]), Path(request["label"])
        wanted = parse_request(request.get("synthesis", {}), card.system)
        order = Order(card.name, wanted, ReferenceCT(reference), mask, made_from=record_of(reference))
        record, work = submit(self.service, order, "server")
        self.service.jobs.wait(record)
        suffix = ".nii.gz" if reference.is_dir() else suffix_of(reference.name)
        with TemporaryDirectory(prefix="lesionbrush-") as folder:
            output = output_of(record, work, Path(folder), suffix)
            assert output.path is not None
            return _hand_over(output.path), output.answer.model_dump(mode="json")


def _hand_over(path: Path) -> str:
    """A private file of its own: MONAI Label deletes files, not folders."""
    handle, own = mkstemp(prefix="lesionbrush-", suffix="".join(path.suffixes))
    os.close(handle)
    path.chmod(0o600)
    os.replace(path, own)
    return own


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
