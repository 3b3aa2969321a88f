"""What is said of the installed models."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from lesionbrush.core.registry import InstalledModel, ModelCard, list_models, verify_weights
from lesionbrush.errors import WeightsError
from lesionbrush.systems import find_system

_FACTS = {
    "title",
    "makes",
    "system",
    "spacing_mm",
    "window_hu",
    "tissue",
    "recommended",
    "weights_license",
    "attribution",
    "limits",
    "figures",
}


@cache
def request_schema(system: str) -> dict[str, Any]:
    """JSON schema of a system's parameters. Made once: it takes milliseconds of the event loop."""
    return find_system(system).request.model_json_schema()


def card_facts(card: ModelCard) -> dict[str, Any]:
    """inputs: their names, as the first clients read them; takes: all that is said of each; needs_mask: of
    an edit, whether somebody has to paint."""
    facts: dict[str, Any] = card.model_dump(mode="json", include=_FACTS)
    system = find_system(card.system)
    takes = [
        {"name": one.name, "kind": one.kind, "about": one.about, "required": one.required, "on": one.on}
        for one in system.inputs
    ]
    names, needs_mask = [one.name for one in system.inputs], getattr(system.hooks, "needs_mask", False)
    return {**facts, "kind": system.makes, "needs_mask": needs_mask, "inputs": names, "takes": takes}


class WeightsCheck:
    """What is wrong with the weights of a model; they are hashed again only when the file has changed."""

    def __init__(self) -> None:
        self._checked: dict[Path, tuple[tuple[int, int] | None, str, str | None]] = {}

    def problem(self, installed: InstalledModel) -> str | None:
        stamp, wanted = _stamp(installed.weights), installed.card.weights_sha256
        known = self._checked.get(installed.weights)
        if known is None or known[:2] != (stamp, wanted):
            known = self._checked[installed.weights] = (stamp, wanted, _problem(installed))
        return known[2]


def model_facts(root: Path | None, check: WeightsCheck) -> dict[str, dict[str, Any]]:
    """By name: `card`, `schema`, `problem` (None when it can run). Raises WeightsError for a damaged card."""
    return {
        model.card.name: {
            "card": card_facts(model.card),
            "schema": request_schema(model.card.system),
            "problem": check.problem(model),
        }
        for model in list_models(root)
    }


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
