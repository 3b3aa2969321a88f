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
from lesionbrush.server.errors import STATUS, detail
from lesionbrush.server.storage.uploads import suffix_of
from lesionbrush.server.synthesis.facts import card_facts, request_schema
from lesionbrush.server.synthesis.inference import Job, Output, Service, run_inference
from lesionbrush.systems import parse_request


class SynthesisTask(InferTask):
    """MONAI Label's request dict in, (file, record) out. Our parameters are under its key `synthesis`."""

    def __init__(self, service: Service, installed: InstalledModel) -> None:
        card = installed.card
        described = f"{card.title}: {card.makes}"
        # Of all types, MONAI Label's plugin sends what was drawn to this one alone. Where a model has one of
        # the app's labels, the plugin runs it by itself at each Next Sample, with nothing drawn.
        super().__init__(InferType.SCRIBBLES, [], 3, described, options(card.system))
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
        try:
            return self._run(request)
        except LesionBrushError as error:
            raise HTTPException(STATUS[type(error)], detail(error)) from error

    def _run(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        if not request.get("label"):
            raise InvalidRequest("there is no mask: name its file as 'label'")
        reference, mask = Path(request["image"]), Path(request["label"])
        wanted = parse_request(request.get("synthesis", {}), self.installed.card.system)
        suffix = ".nii.gz" if reference.is_dir() else suffix_of(reference.name)
        with TemporaryDirectory(prefix="lesionbrush-") as folder:
            name = self.installed.card.name
            output = run_inference(
                self.service, Job(name, reference, False, mask, wanted, Path(folder), suffix)
            )
            return _handed_over(output), output.answer.model_dump(mode="json")


def _handed_over(output: Output) -> str:
    """The result as a private file of its own: MONAI Label deletes files, not folders."""
    assert output.path is not None
    handle, path = mkstemp(prefix="lesionbrush-", suffix="".join(output.path.suffixes))
    os.close(handle)
    output.path.chmod(0o600)
    os.replace(output.path, path)
    return path


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
