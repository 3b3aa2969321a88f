"""The nodules an evaluation looks at: real crop, mask, readers' scores, and the patient they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from lesionbrush.evaluation.card_figures import Case, add_measures, load_case, readers_rows
from lesionbrush.evaluation.patches import Patch, patch_of
from lesionbrush.systems.lesion_inpainting.request import Attributes
from lesionbrush.training.split import is_validation

TEXTURES = ("ground_glass", "part_solid", "solid")
SCORES = ("Texture", "Margin", "Spiculation", "Lobulation", "Calcification")


@dataclass(frozen=True, eq=False)
class Nodule:
    """One real nodule. scores: what the readers said, 1..5 (calcification 1..6), NaN where they did not;
    others: bool, lesions beside it, where there are any."""

    case: Case
    patient: str
    scores: Mapping[str, float]
    others: np.ndarray | None = None

    @property
    def name(self) -> str:
        return self.case.name

    @property
    def readers(self) -> Attributes:
        return self.case.attributes

    @property
    def measured(self) -> Attributes:
        """The readers' scores and the mean and spread of HU in the mask."""
        return add_measures(self.case)

    @property
    def texture(self) -> str:
        return self.readers.texture or "lesion"

    @cached_property
    def inside(self) -> np.ndarray:
        """bool, stored axes."""
        lesion: np.ndarray = self.case.mask.array > 0
        return lesion

    @cached_property
    def real(self) -> Patch:
        return self.patch(self.case.crop.array)

    def patch(self, array: np.ndarray) -> Patch:
        """At 1 mm; array: HU on the grid of the crop."""
        return patch_of(self.case.crop, self.case.mask, array)


def load_nodules(data: Path, *, validation: bool, count: int = 0) -> list[Nodule]:
    """Nodules of one side of the split, from large to small; `count` spreads over the sizes, 0 takes all.

    FileNotFoundError when there is none.
    """
    rows = [row for row in readers_rows(data) if is_validation(row["patient_id"]) == validation]
    if not rows:
        side = "held-out" if validation else "training"
        raise FileNotFoundError(f"{data} holds no {side} nodules: point --data at the training data")
    if count and count < len(rows):
        rows = [rows[k] for k in np.linspace(0, len(rows) - 1, count).round().astype(int)]
    nodules = [Nodule(load_case(data, row), row["patient_id"], _scores(row)) for row in rows]
    return [nodule for nodule in nodules if nodule.inside.any()]


def _scores(row: Mapping[str, str]) -> dict[str, float]:
    return {name: float(row.get(f"{name}_value") or "nan") for name in SCORES}
