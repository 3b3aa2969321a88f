"""A model as MONAI Label sees it."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory, mkstemp
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from lesionbrush.errors import InvalidRequest, LesionBrushError, WeightsError
from lesionbrush.registry import InstalledModel, verify_weights
from lesionbrush.request import SynthesisRequest, parse_request
from lesionbrush.server.errors import STATUS, detail
from lesionbrush.server.inference import Job, Output, Service, run_inference
from lesionbrush.server.uploads import suffix_of

_FACTS = {
    "title",
    "makes",
    "system",
    "spacing_mm",
    "window_hu",
    "weights_license",
    "attribution",
    "limits",
    "figures",
}


class SynthesisTask(InferTask):
    """MONAI Label's request dict in, (file, record) out. Our parameters are under its key `synthesis`."""

    def __init__(self, service: Service, installed: InstalledModel) -> None:
        card = installed.card
        super().__init__(InferType.OTHERS, ["lesion"], 3, f"{card.title}: {card.makes}", options())
        self.service, self.installed = service, installed
        self._checked: tuple[tuple[int, int] | None, str | None] | None = None

    def is_valid(self) -> bool:
        """Always listed; `problem` says why one with bad weights cannot run."""
        return True

    def info(self) -> dict[str, Any]:
        facts = self.installed.card.model_dump(mode="json", include=_FACTS)
        schema = SynthesisRequest.model_json_schema()
        return {**super().info(), "card": facts, "schema": schema, "problem": self.problem()}

    def problem(self) -> str | None:
        """What is wrong with the weights; they are hashed again only when the file has changed."""
        stamp = _stamp(self.installed.weights)
        if self._checked is None or self._checked[0] != stamp:
            self._checked = stamp, _problem(self.installed)
        return self._checked[1]

    def __call__(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        try:
            return self._run(request)
        except LesionBrushError as error:
            raise HTTPException(STATUS[type(error)], detail(error)) from error

    def _run(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        if not request.get("label"):
            raise InvalidRequest("there is no mask: name its file as 'label'")
        reference, mask = Path(request["image"]), Path(request["label"])
        wanted = parse_request(request.get("synthesis", {}))
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


def options() -> dict[str, Any]:
    """The request's plain parameters as MONAI Label shows them: scalars, or choices, default first."""
    flat: dict[str, Any] = {}
    for name, field in SynthesisRequest.model_json_schema()["properties"].items():
        default = field.get("default")
        if "enum" in field:
            flat[name] = sorted(field["enum"], key=lambda choice: choice != default)
        elif isinstance(default, (int, float, str)):
            flat[name] = default
    return flat


def _stamp(weights: Path) -> tuple[int, int] | None:
    try:
        about = weights.stat()
    except OSError:
        return None
    return about.st_mtime_ns, about.st_size


def _problem(installed: InstalledModel) -> str | None:
    try:
        verify_weights(installed)
    except WeightsError as error:
        return str(error)
    return None
