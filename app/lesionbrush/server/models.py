"""Installed models, kept warm: read from disk on first use, then ready."""

from __future__ import annotations

from pathlib import Path
from threading import Lock

from lesionbrush.registry import find_model
from lesionbrush.synthesize import Model
from lesionbrush.systems import load_model


class ModelPool:
    """Loaded models by name.

    device: to be held during a synthesis, so that one runs at a time and its memory is its own.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root
        self.device = Lock()
        self._loading = Lock()
        self._warm: dict[str, Model] = {}

    def warm(self, name: str) -> Model:
        """A model ready to run, loaded again when its card has changed. Raises UnknownModel, WeightsError."""
        installed = find_model(name, self.root)
        with self._loading:
            model = self._warm.get(name)
            if model is None or model.card != installed.card:
                model = self._warm[name] = load_model(installed)
            return model
