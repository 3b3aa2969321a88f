"""The report as text: a table for each figure, a row an organ, a column a method."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from lesionbrush.evaluation.inpainting.results import InpaintingReport, MethodFigures, OrganFigures
from lesionbrush.evaluation.report import text
from lesionbrush.evaluation.statistics import Estimate

Pick = Callable[[MethodFigures], Estimate]
Own = Callable[[OrganFigures], Estimate]
LEFT_OUT = "-"
CAUTION = (
    "Intervals: 95 %, resampled by slice; slices of one patient are alike: too narrow for other patients.",
    "Made and real slices share what is around the hole, halves do not: below halves is not yet like real.",
    "FID of few slices is biased upwards, most where there are fewest: compare in a row, and with halves.",
)


def lines(report: InpaintingReport) -> Iterator[str]:
    """All tables, and below them what was left out and how far the figures carry."""
    for method in report.methods:
        yield f"{method.name}: {method.kind}" + (f", {method.trained}" if method.trained else "")
    yield f"FID and IS by: {_reader(report)}"
    yield from _counts(report)
    yield from _table(report, "FID, lower is better", lambda m: m.fid, "real halves", lambda o: o.fid_halves)
    yield from _table(
        report, "IS, higher is better", lambda m: m.inception_score, "real", lambda o: o.inception_score_real
    )
    yield from _table(report, "mean HU, made above real", lambda m: m.bias_hu)
    yield from _table(report, "HU error of voxels", lambda m: m.error_hu)
    yield from _table(report, "Dice of the organ by its threshold", lambda m: m.dice)
    yield ""
    for organ in report.organs:
        for name, reason in organ.left_out.items():
            yield f"{name} is left out of {organ.fill}: {reason}"
    yield from CAUTION


def _reader(report: InpaintingReport) -> str:
    reader = report.reader
    if reader.accuracy is None:
        return f"{reader.name}, {reader.features} features"
    each = ", ".join(f"{fill} {share:.0%}" for fill, share in reader.named_right.items())
    return (
        f"{reader.name}, {reader.features} features; of {reader.accuracy_n} real slices of held-out patients "
        f"it names {reader.accuracy:.0%} right (mean over classes: {each})"
    )


def _counts(report: InpaintingReport) -> Iterator[str]:
    rows = [("organ", "slices", "patients", "threshold, HU")]
    for organ in report.organs:
        ends = organ.threshold_hu
        found = "none" if ends is None else f"{ends[0]:.0f} to {ends[1]:.0f}"
        rows.append((organ.fill, str(organ.slices), str(len(organ.patients)), found))
    yield from _aligned("N", rows)


def _table(
    report: InpaintingReport, title: str, pick: Pick, own_title: str = "", own: Own | None = None
) -> Iterator[str]:
    names = [method.name for method in report.methods]
    rows = [("organ", *names, *([own_title] if own else []))]
    for organ in report.organs:
        cells = [text(pick(organ.methods[n])) if n in organ.methods else LEFT_OUT for n in names]
        rows.append((organ.fill, *cells, *([text(own(organ))] if own else [])))
    yield from _aligned(title, rows)


def _aligned(title: str, rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    yield ""
    yield title
    yield from ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
