"""The pictures: slices from lower to upper abdomen, the moved organ, and curves over training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lesionbrush.core.roi import Orientation
from lesionbrush.core.volume import Volume
from lesionbrush.evaluation.plots import Curve, CurvePanel, panels
from lesionbrush.evaluation.semantic.moving import ORGAN, MovedOrgan
from lesionbrush.evaluation.semantic.results import SliceFigures, StageFigures
from lesionbrush.evaluation.semantic.slices import StudySlices
from lesionbrush.evaluation.statistics import Estimate
from lesionbrush.files.durable import whole_files
from lesionbrush.montage import SOFT, Panel, Window, sheet
from lesionbrush.systems.semantic.classes import BODY, CLASSES, OUTSIDE

PANEL_PX, ROWS = 230, 5
CLASSES_SHOWN = Window("classes", BODY / 2, BODY + 2)
SHADES = np.linspace(4, BODY, BODY + 1).astype(np.float32)
"""Of the classes in the picture of a layout: outside is black, the body darkest, organs by their number."""
MEASURED: tuple[tuple[str, Callable[[SliceFigures], Estimate | None]], ...] = (
    ("FID", lambda one: one.fid),
    ("PSNR, dB", lambda one: one.psnr),
    ("SSIM", lambda one: one.ssim),
    ("Dice", lambda one: one.dice),
)


@dataclass(frozen=True, eq=False)
class ShownSlices:
    """What was made of the slices, (N, Y, X) HU by name."""

    slices: StudySlices
    made: Mapping[str, np.ndarray]


def pick_rows(slices: StudySlices, rows: int = ROWS) -> list[int]:
    """From lower to upper: the one with least but body, and of the others those spread evenly."""
    organs = ((slices.labels != OUTSIDE) & (slices.labels != BODY)).sum(axis=(1, 2))
    body = (slices.labels != OUTSIDE).sum(axis=(1, 2))
    emptiest = int(np.argmin(organs / np.maximum(body, 1)))
    full = np.flatnonzero(organs > 0)
    if not len(full):
        return [emptiest]
    count = min(len(full), rows - 1)
    chosen = full[((np.arange(count) + 0.5) * len(full) / count).astype(int)]
    return sorted({emptiest, *chosen.tolist()})


def draw_slices(shown: ShownSlices, path: Path) -> None:
    """A row a slice: its layout, the real slice, what each network made of the layout."""
    slices = shown.slices
    drawn = [panel for row in pick_rows(slices) for panel in _row(shown, row)]
    with whole_files(path) as (draft,):
        sheet(drawn, columns=2 + len(shown.made), panel_px=PANEL_PX).save(draft)


def _row(shown: ShownSlices, row: int) -> list[Panel]:
    """Front up, the patient's right on the left."""
    slices = shown.slices
    labels = slices.labels[row]
    shades = np.where(labels == BODY, 2.0, SHADES[np.minimum(labels, BODY)])
    layout = np.where(labels == OUTSIDE, -1.0, shades).astype(np.float32)
    images = [("real", slices.hu[row]), *((name, hu[row]) for name, hu in shown.made.items())]
    mm = (slices.pixel_mm, slices.pixel_mm)
    first = Panel(layout[::-1, ::-1], mm, CLASSES_SHOWN, f"layout, slice {slices.numbers[row]}")
    return [first, *(Panel(hu[::-1, ::-1], mm, SOFT, name) for name, hu in images)]


def draw_moved(moved: MovedOrgan, made: Mapping[str, Volume], path: Path) -> None:
    """The middle slice before and after, with the outline that was asked for."""
    old, new = (_middle(one) == ORGAN for one in (moved.labels, moved.moved))
    organ = CLASSES[ORGAN]
    images = [(f"real, {organ} as it was", moved.ct, old), ("real", moved.ct, None)]
    for name, ct in made.items():
        images += [(f"{name}, {organ} moved", ct, new), (name, ct, None)]
    turned = Orientation.of(moved.ct.affine)
    _, row_mm, column_mm = turned.spacing_mm(moved.ct.spacing_mm).tolist()
    drawn = [
        Panel(
            _middle(ct)[::-1, ::-1],
            (row_mm, column_mm),
            SOFT,
            caption,
            None if outline is None else outline[::-1, ::-1],
        )
        for caption, ct, outline in images
    ]
    with whole_files(path) as (draft,):
        sheet(drawn, columns=4, panel_px=300).save(draft)


def _middle(volume: Volume) -> np.ndarray:
    view = Orientation.of(volume.affine).view(volume.array)
    middle: np.ndarray = view[len(view) // 2]
    return middle


def draw_curves(
    trained: Sequence[StageFigures], evaluations: Sequence[StageFigures], real: SliceFigures, path: Path
) -> None:
    """Over steps of training, and below over evaluations of the network."""
    drawn = [
        *_panels(trained, "steps of training", lambda one: one.trained_steps, lambda one: one.name, real),
        *_panels(
            evaluations,
            "evaluations",
            lambda one: one.evaluations,
            lambda one: f"{one.name}, {one.sampler}",
            real,
            log_x=True,
        ),
    ]
    with whole_files(path) as (draft,):
        panels(drawn, columns=len(MEASURED)).save(draft)


def _panels(
    stages: Sequence[StageFigures],
    x_label: str,
    x: Callable[[StageFigures], int],
    group: Callable[[StageFigures], str],
    real: SliceFigures,
    *,
    log_x: bool = False,
) -> list[CurvePanel]:
    names = list(dict.fromkeys(map(group, stages)))
    found = []
    for title, pick in MEASURED if stages else ():
        level = real.dice.value if title == "Dice" else None
        curves = {name: _curve([one for one in stages if group(one) == name], x, pick) for name in names}
        found.append(CurvePanel(title, x_label, title, curves, level=level, log_x=log_x))
    return found


def _curve(
    stages: Sequence[StageFigures],
    x: Callable[[StageFigures], int],
    pick: Callable[[SliceFigures], Estimate | None],
) -> Curve:
    pairs = sorted((x(one), estimate) for one in stages if (estimate := pick(one.figures)) is not None)
    ys = [[_number(one.value), _number(one.low), _number(one.high)] for _, one in pairs]
    y, low, high = (list(column) for column in zip(*ys, strict=True)) if ys else ([], [], [])
    return Curve([at for at, _ in pairs], y, low, high)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
