"""How the networks of a system are trained, as `run.py train` asks its folder for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from argparse import Namespace, _ArgumentGroup
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from lesionbrush.training.recipes import RecipeT


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a training is asked for beside its recipe.

    start_from: an installed model whose weights it begins with. workers: processes that make batches.
    snapshots: how many checkpoints are kept, after even shares of the steps.
    """

    data: Path
    out: Path
    seed: int = 0
    device: str | None = None
    minutes: float | None = None
    start_from: str | None = None
    workers: int = 0
    snapshots: int = 0


class Training(ABC, Generic[RecipeT]):
    """Of the models of one system."""

    recipes: Mapping[str, RecipeT]
    """`ours`, and where there is one, that of the `paper`."""

    def add_arguments(self, group: _ArgumentGroup) -> None:
        """Options of its own; None where one is not given. There are none."""
        del group

    def adapt(self, recipe: RecipeT, options: Namespace) -> RecipeT:
        """The recipe with what its own options say instead. Raises InvalidRequest."""
        del options
        return recipe

    @abstractmethod
    def run(self, recipe: RecipeT, run: Run) -> None:
        """Train from the beginning, or on from where `run.out` stands. Raises InvalidRequest."""


def add_size_arguments(group: _ArgumentGroup) -> None:
    """--sides and --channels, to be read by `recipes.resize`."""
    group.add_argument("--sides", type=int, nargs="+", metavar="VOXELS", help="of the patches")
    group.add_argument("--channels", type=int, nargs="+", metavar="N", help="widths, one a level")
