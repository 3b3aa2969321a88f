"""The picture: a row an organ, in its window: the hole, what each method made in its outline, the real."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lesionbrush.evaluation.inpainting.crops import CropFrame
from lesionbrush.evaluation.inpainting.scores import FilledSlice
from lesionbrush.files.durable import whole_files
from lesionbrush.montage import OUTSIDE_HU, Panel, sheet

PIXELS, PANEL_PX = 220, 220


@dataclass(frozen=True, eq=False)
class ShownRow:
    """One slice of an organ, as each method filled it; methods that were left out are not in it."""

    title: str
    made: Mapping[str, FilledSlice]


def draw_picture(rows: Sequence[ShownRow], methods: Sequence[str], path: Path) -> None:
    """A PNG, whole or not at all. Rows with no method are left out."""
    panels = [panel for row in rows if row.made for panel in _row(row, methods)]
    with whole_files(path) as (draft,):
        sheet(panels, columns=len(methods) + 2, panel_px=PANEL_PX).save(draft)


def _row(row: ShownRow, methods: Sequence[str]) -> list[Panel]:
    any_one = next(iter(row.made.values()))
    made = [_made(any_one, row.made.get(name), name) for name in methods]
    real = _panel(any_one, any_one.real_hu, f"{row.title}, real")
    return [_panel(any_one, any_one.real_hu, f"{row.title}, hole", hidden=True), *made, real]


def _panel(
    one: FilledSlice, hu: np.ndarray, caption: str, *, outlined: bool = False, hidden: bool = False
) -> Panel:
    """Front up, the patient's right on the left. hidden: black where the hole is."""
    frame = CropFrame.around(one.mask, one.spacing_mm)
    shown, covered = (frame.cut(array, one.spacing_mm, PIXELS)[::-1, ::-1] for array in (hu, one.mask))
    inside, mm = covered > 0.5, frame.side_mm / PIXELS
    shown = np.where(inside, OUTSIDE_HU, shown) if hidden else shown
    return Panel(shown, (mm, mm), one.hole.window, caption, inside if outlined else None)


def _made(any_one: FilledSlice, filled: FilledSlice | None, name: str) -> Panel:
    return _blank(any_one, name) if filled is None else _panel(filled, filled.made_hu, name, outlined=True)


def _blank(one: FilledSlice, name: str) -> Panel:
    frame = CropFrame.around(one.mask, one.spacing_mm)
    mm = frame.side_mm / PIXELS
    black = np.full((PIXELS, PIXELS), OUTSIDE_HU, np.float32)
    return Panel(black, (mm, mm), one.hole.window, f"{name}: left out")
