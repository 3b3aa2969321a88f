"""How the networks of a system are trained, as `run.py train` asks its folder for it."""

from __future__ import annotations

from argparse import Namespace, _ArgumentGroup
from pathlib import Path
from typing import Protocol


class Training(Protocol):
    """Of one model."""

    def add_arguments(self, group: _ArgumentGroup) -> None:
        """Options of its own."""

    def run(self, options: Namespace, pack: Path, out: Path) -> None:
        """Train from the beginning, or on from where `out` stands."""
