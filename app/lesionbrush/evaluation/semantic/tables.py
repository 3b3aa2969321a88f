"""The report as Markdown, to be pasted into a document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lesionbrush.evaluation.report import text
from lesionbrush.evaluation.semantic.moving import MOVED_MM, ORGAN
from lesionbrush.evaluation.semantic.results import SemanticReport, SliceFigures, StageFigures
from lesionbrush.evaluation.semantic.slices import APART_MM
from lesionbrush.evaluation.statistics import Estimate
from lesionbrush.systems.semantic.classes import CLASSES

GOAL = 0.8
NONE = "-"
COLUMNS = ("FID", "PSNR, dB", "SSIM", "Dice, mean of organs")


def lines(report: SemanticReport) -> Iterator[str]:
    """All tables with what they rest on."""
    yield from _facts(report)
    yield from _quality(report)
    if report.comparisons:
        yield ""
        yield from map(str, report.comparisons)
    yield from _organs(report)
    yield from _stages("Over training", report.trained)
    yield from _stages("Over evaluations of the network", report.evaluations)
    yield from _moved(report)


def last_of(stages: Sequence[StageFigures]) -> list[StageFigures]:
    """Of each name the one that was trained longest."""
    return list({one.name: one for one in sorted(stages, key=lambda one: one.trained_steps)}.values())


def _facts(report: SemanticReport) -> Iterator[str]:
    seeds = f"{report.seeds} seed{'s' if report.seeds > 1 else ''}"
    yield (
        f"{report.slices} slices of {report.patient}, {report.pixel_mm:.2g} mm a pixel, each made from its "
        f"layout alone, {seeds}. Intervals: 95 %, over slices of this one patient, which are alike: too "
        "narrow for others."
    )
    if report.tissues:
        yield "Layouts had the CT's fat, muscle, bone, air: told to networks with them and to the floor."
    if report.painted:
        yield "Sampling started from organs and tissues in their mean HU, not from noise alone."
    reader = report.reader
    said = "" if reader.accuracy is None else f", {reader.accuracy:.0%} right on {reader.accuracy_n} crops"
    yield f"FID by: {reader.name} ({report.crops}{said}); real halves {text(report.real_halves)}."
    yield f"Organs found again by: {report.finder}."


def _quality(report: SemanticReport) -> Iterator[str]:
    rows = [(one.name, *_cells(one.figures)) for one in last_of(report.trained)]
    rows += [(name, *_cells(figures)) for name, figures in report.floors.items()]
    rows.append(("real slice", *_cells(report.real)))
    yield from _table("", ("", *COLUMNS), rows)


def _cells(figures: SliceFigures) -> tuple[str, ...]:
    return tuple(map(_cell, (figures.fid, figures.psnr, figures.ssim, figures.dice)))


def _cell(estimate: Estimate | None) -> str:
    return NONE if estimate is None else text(estimate)


def _organs(report: SemanticReport) -> Iterator[str]:
    named = {one.name: one.figures for one in last_of(report.trained)} | report.floors
    named["real slice"] = report.real
    rows = [
        (f"{organ} (N = {count})", *(_cell(figures.organs[organ]) for figures in named.values()))
        for organ, count in report.real.organ_slices.items()
    ]
    yield from _table("Dice of organs found again, N slices with each:", ("", *named), rows)


def _stages(title: str, stages: Sequence[StageFigures]) -> Iterator[str]:
    rows = [
        (
            one.name,
            str(one.trained_steps),
            f"{one.evaluations} {one.sampler}",
            *_cells(one.figures),
            str(one.figures.slices),
            f"{one.seconds:.1f}",
        )
        for one in stages
    ]
    head = ("", "trained steps", "evaluations", *COLUMNS, "N", "s a slice")
    yield from _table(f"{title}:", head, rows)


def _moved(report: SemanticReport) -> Iterator[str]:
    rows = [
        (
            one.name,
            f"{text(one.dice)}, goal {GOAL:g}: {'met' if (one.dice.value or 0) >= GOAL else 'missed'}",
            *map(text, (one.as_it_was, one.ceiling, one.gained, one.lost)),
            str(one.slices),
        )
        for one in report.moved
    ]
    organ = CLASSES[ORGAN]
    head = (
        "",
        "Dice",
        "unedited CT",
        "unedited, own layout",
        f"became {organ}",
        f"ceased to be {organ}",
        "N",
    )
    title = f"The {organ} moved by {MOVED_MM:g} mm in the layout, and found in the edited CT:"
    yield from _table(title, head, rows)


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    if not rows:
        return
    yield ""
    if title:
        yield title
        yield ""
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    yield from (f"| {' | '.join(row)} |" for row in rows)


BESIDE = f"real slice {APART_MM:g} mm away"
FLAT = "mean HU by class"
