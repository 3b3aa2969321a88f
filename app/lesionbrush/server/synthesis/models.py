"""Installed models, kept warm on the devices that use them: as many as fit, the last used ones."""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from lesionbrush.core.registry import InstalledModel, find_model
from lesionbrush.server.collector import settle
from lesionbrush.systems import load_model

WARM_BYTES = 4 << 30
"""Of weights on one device, by the size of their files: float32 on disk as in memory."""

ON_CPU = "The GPU's memory was too small for the model; ran on the CPU."


class Warm(NamedTuple):
    """model: see `systems.load_model`. remarks: what the user should know about where it is."""

    model: Any
    size_bytes: int = 0
    remarks: tuple[str, ...] = ()


class ModelPool:
    """Loaded models by device and name. A device's models are used by its one worker alone."""

    def __init__(self, root: Path | None = None, limit_bytes: int = WARM_BYTES) -> None:
        self.root, self.limit_bytes = root, limit_bytes
        self._loading = threading.Lock()
        self._warm: defaultdict[str | None, OrderedDict[str, Warm]] = defaultdict(OrderedDict)

    def warm(self, name: str, device: str | None = None) -> Warm:
        """A model ready to run on `device`, loaded again when its card has changed.

        Where a GPU has no room for it, the other models on it go; then it runs on the CPU, with a remark.
        Raises UnknownModel, WeightsError.
        """
        installed = find_model(name, self.root)
        with self._loading:
            here = self._warm[device]
            warm = here.pop(name, None)
            if warm is None or warm.model.card != installed.card:
                del warm  # before the new one comes
                warm = self._load(installed, device)
                settle()
            if not warm.remarks:  # one that had to go elsewhere is tried here again next time
                here[name] = warm
            while len(here) > 1 and sum(kept.size_bytes for kept in here.values()) > self.limit_bytes:
                here.popitem(last=False)
            return warm

    def names(self, device: str | None = None) -> list[str]:
        """The warm ones, the least recently used first."""
        return list(self._warm[device])

    def _load(self, installed: InstalledModel, device: str | None) -> Warm:
        import torch

        for makes_room in (self._warm[device].clear, None):
            try:
                return Warm(load_model(installed, device), installed.weights.stat().st_size)
            except torch.cuda.OutOfMemoryError:
                if makes_room is not None:
                    makes_room()
                torch.cuda.empty_cache()
        return Warm(load_model(installed, "cpu"), 0, (ON_CPU,))
