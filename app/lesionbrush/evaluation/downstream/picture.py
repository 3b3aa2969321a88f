"""Some of the made lesions beside the pasted ones: what the networks were trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lesionbrush.evaluation.downstream.made import MadePair
from lesionbrush.evaluation.downstream.samples import SIDE, LesionBox
from lesionbrush.evaluation.patches import SPACING_MM
from lesionbrush.montage import LUNG, Panel, sheet

SHOWN, CLEAR_SHOWN = 12, 36


def draw_pairs(pairs: Sequence[MadePair], path: Path) -> None:
    """Three pairs a row, the middle slice in the lung window, spread over all of them."""
    chosen = [pairs[k] for k in np.linspace(0, len(pairs) - 1, min(SHOWN, len(pairs))).round().astype(int)]
    panels = [
        panel for pair in chosen for panel in (_panel(pair.made, "made"), _panel(pair.pasted, "pasted"))
    ]
    sheet(panels, columns=6, panel_px=180).save(path, format="PNG")


def draw_clear(boxes: Sequence[LesionBox], path: Path) -> None:
    """What counts as no lesion: look for one that nobody marked."""
    chosen = [boxes[k] for k in np.linspace(0, len(boxes) - 1, min(CLEAR_SHOWN, len(boxes))).astype(int)]
    sheet([_panel(one, one.patient) for one in chosen], columns=6, panel_px=180).save(path, format="PNG")


def _panel(one: LesionBox, word: str) -> Panel:
    """Front up, the patient's right on the left."""
    hu = one.patch.hu[SIDE // 2, ::-1, ::-1]
    return Panel(hu, (SPACING_MM, SPACING_MM), LUNG, f"{word}, {one.group.replace('_', ' ')}")
