"""Lesions that are asked for beside a whole new CT, and that its model leaves to one that makes lesions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class LesionWish:
    """said: in a sentence, such as "nodule (12 mm, solid)"; model: that makes it; diameter_mm: of a ball of
    its volume, from and to; attributes: of that model's request; place: bool (I, J, K) on the grid of the
    CT, where it may lie.
    """

    said: str
    model: str
    diameter_mm: tuple[float, float]
    attributes: Mapping[str, str]
    place: np.ndarray
