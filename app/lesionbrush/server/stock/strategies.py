"""Which CT comes next: MONAI Label's Next Sample, over the CTs that have no case yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from monailabel.interfaces.tasks.strategy import Strategy

from lesionbrush.server.storage.studies import Studies

Choose = Callable[[Sequence[str]], str]


class NextWithoutCase(Strategy):
    """Writes nothing down: who was given which CT is not remembered."""

    def __init__(self, description: str, choose: Choose) -> None:
        super().__init__(description)
        self._choose = choose

    def __call__(self, request: dict[str, Any], datastore: Studies) -> dict[str, str] | None:
        """None when every CT has its case."""
        images = datastore.without_case()
        return {"id": self._choose(images)} if images else None


def list_strategies(random: np.random.Generator) -> dict[str, NextWithoutCase]:
    """By the names that MONAI Label's clients know."""

    def any_of(images: Sequence[str]) -> str:
        return images[int(random.integers(len(images)))]

    return {
        "first": NextWithoutCase("The first CT, by its id, that has no case yet", lambda images: images[0]),
        "random": NextWithoutCase("Any CT that has no case yet", any_of),
    }
