"""What a hole may be filled with, as the network is told it. Imports no torch."""

from __future__ import annotations

from typing import Literal, get_args

Fill = Literal["kidney", "liver", "spleen", "lung", "gallbladder", "pancreas", "stomach", "tumour", "healthy"]
FILLS: tuple[Fill, ...] = get_args(Fill)
OPEN = 0
"""What is said of a hole that the network may fill with what fits."""


def fill_number(fill: Fill | None) -> int:
    """From 1 on; `OPEN` for None."""
    return OPEN if fill is None else FILLS.index(fill) + 1
