"""Plots as pictures: matplotlib without a display."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure as Canvas
from PIL import Image

from lesionbrush.evaluation.statistics import Estimate

DPI = 110


@dataclass(frozen=True)
class Curve:
    """One line of a panel; low and high: its interval, if there is one."""

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


@dataclass(frozen=True)
class CurvePanel:
    """Curves by name over one pair of axes; level: a dashed line, say the real nodules'."""

    title: str
    x_label: str
    y_label: str
    curves: Mapping[str, Curve]
    level: float | None = None
    log_x: bool = False


def panels(all_panels: Sequence[CurvePanel], columns: int = 3) -> Image.Image:
    """A grid of panels."""
    rows = -(-len(all_panels) // columns)
    canvas = Canvas(figsize=(4.3 * columns, 3.3 * rows), dpi=DPI, layout="constrained")
    for axes, panel in zip(canvas.subplots(rows, columns, squeeze=False).flat, all_panels, strict=False):
        _draw(axes, panel)
    for axes in canvas.axes[len(all_panels) :]:
        axes.set_axis_off()
    return _image(canvas)


def _draw(axes, panel: CurvePanel) -> None:  # type: ignore[no-untyped-def]
    for name, curve in panel.curves.items():
        (line,) = axes.plot(curve.x, curve.y, "o-", markersize=3, label=name)
        if curve.low is not None and curve.high is not None:
            axes.fill_between(curve.x, curve.low, curve.high, alpha=0.15, color=line.get_color())
    if panel.level is not None and np.isfinite(panel.level):
        axes.axhline(panel.level, color="grey", linestyle="--", linewidth=1, label="real")
    if panel.log_x and any(curve.x and np.isfinite(curve.y).any() for curve in panel.curves.values()):
        axes.set_xscale("log", base=2)
        axes.set_xticks(sorted({x for curve in panel.curves.values() for x in curve.x}))
        axes.get_xaxis().set_major_formatter("{x:g}")
    axes.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    if len(panel.curves) > 1 or panel.level is not None:
        axes.legend(fontsize=7)
    axes.grid(alpha=0.3)


def scatter(x: Sequence[float], y: Sequence[float], x_label: str, y_label: str) -> Image.Image:
    """Points, and the line where both are equal."""
    canvas = Canvas(figsize=(4.6, 4.2), dpi=DPI, layout="constrained")
    axes = canvas.subplots()
    axes.scatter(x, y, s=12, alpha=0.7)
    low, high = min(*x, *y), max(*x, *y)
    axes.plot([low, high], [low, high], color="grey", linewidth=1)
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.grid(alpha=0.3)
    return _image(canvas)


def histograms(groups: Mapping[str, Sequence[float]], x_label: str) -> Image.Image:
    """Shares per bin of several groups over one axis."""
    canvas = Canvas(figsize=(6, 3.4), dpi=DPI, layout="constrained")
    axes = canvas.subplots()
    finite = {name: np.asarray(v)[np.isfinite(v)] for name, v in groups.items()}
    edges = np.histogram_bin_edges(np.concatenate(list(finite.values())), bins=24).tolist()
    for name, values in finite.items():
        weights = np.full(len(values), 1 / max(1, len(values)))
        axes.hist(values, edges, weights=weights, histtype="step", linewidth=1.6, label=name)
    axes.set(xlabel=x_label, ylabel="share")
    axes.legend(fontsize=8)
    return _image(canvas)


def intervals(groups: Mapping[str, Mapping[str, Estimate]], x_label: str) -> Image.Image:
    """A panel for each group: figures by name, one below the other, with their intervals."""
    most = max(len(group) for group in groups.values())
    canvas = Canvas(figsize=(5.5 * len(groups), 1.2 + 0.35 * most), dpi=DPI, layout="constrained")
    for axes, (title, group) in zip(
        canvas.subplots(1, len(groups), squeeze=False).flat, groups.items(), strict=True
    ):
        for row, one in enumerate(group.values()):
            if one.value is not None and one.low is not None and one.high is not None:
                axes.errorbar(one.value, row, xerr=[[one.value - one.low], [one.high - one.value]], fmt="o")
        axes.set(title=title, xlabel=x_label, ylim=(len(group) - 0.5, -0.5))
        axes.set_yticks(range(len(group)), list(group), fontsize=8)
        axes.grid(alpha=0.3, axis="x")
    return _image(canvas)


def _image(canvas: Canvas) -> Image.Image:
    stream = io.BytesIO()
    canvas.savefig(stream, format="png")
    stream.seek(0)
    return Image.open(stream).convert("RGB")
