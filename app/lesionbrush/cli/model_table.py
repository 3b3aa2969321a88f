"""The table of models in the README, made from their cards."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from lesionbrush.core.registry import ModelCard
from lesionbrush.errors import InvalidRequest

BEGIN, END = "<!-- models:begin -->", "<!-- models:end -->"
HEADER = ("Model", "Makes", "Trained here", "Weights")


def table(cards: Sequence[ModelCard]) -> str:
    """Markdown, one row per model."""
    rows = [HEADER, ("---",) * len(HEADER), *(_row(card) for card in cards)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(card: ModelCard) -> tuple[str, ...]:
    name = f"[`{card.name}`](models/{card.name}/docs/README.md)"
    cells = (name, card.makes, _training(card.trained), card.weights_license)
    return tuple(re.sub(r"\s+", " ", cell).replace("|", r"\|") for cell in cells)


def _training(trained: Mapping[str, float]) -> str:
    steps = trained.get("steps")
    return f"{steps:,.0f} steps" if steps else "no"


def replace_table(text: str, new: str, name: str) -> str:
    """The text with another table between the marks. InvalidRequest unless it has each once, in order."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in before + after:
        raise InvalidRequest(f"{name} needs the line {BEGIN} and, below it, the line {END}, each once")
    return f"{before}{BEGIN}\n{new}\n{END}{after}"
