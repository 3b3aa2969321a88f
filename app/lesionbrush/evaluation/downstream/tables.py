"""The report as text, and as a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from PIL import Image

from lesionbrush.evaluation import plots
from lesionbrush.evaluation.downstream.arms import ARMS, REAL
from lesionbrush.evaluation.downstream.classification import CLASSIFIED, classified, gain_classified
from lesionbrush.evaluation.downstream.results import DownstreamReport, shares_of
from lesionbrush.evaluation.downstream.scores import MEASURES
from lesionbrush.evaluation.report import text

ALARMS = 0.1
"""Share of boxes without a lesion that have an alarm, where networks are compared."""
CAUTION = (
    "Intervals: 95 %, over patients of the test; seeds: how much the mean differs between trainings.",
    "The generator was trained on all real training lesions, also in rows with few of them.",
    "Boxes around a lesion are easier than whole CTs: not to be laid beside tables of whole CTs.",
)


def lines(report: DownstreamReport) -> Iterator[str]:
    """Markdown tables, one for each share of real lesions, then textures and sizes."""
    tested = report.tested
    patients = len(set(tested.patients))
    yield f"{len(tested.patients)} lesions of {patients} held-out patients; {report.steps} steps"
    for share in shares_of(report):
        yield ""
        yield f"**{share:.0%} of {report.real} real lesions**"
        yield from _main(report, share)
        yield from _detection(report, share)
        yield from _classification(report, share)
        yield from _parts(report, share, "dice")
        yield from _parts(report, share, "sensitivity")
    yield ""
    yield from CAUTION
    if report.clear_patients:
        yield _on_clear(report)


def _main(report: DownstreamReport, share: float) -> Iterator[str]:
    head = ("trained on", "lesions", *MEASURES, "Dice over real", "sensitivity over real", "seeds, Dice")
    rows = []
    for arm in _trained(report, share):
        cells = [text(report.figure(share, arm, name)) for name in MEASURES]
        gains = [_gain(report, share, arm, name) for name in ("dice", "sensitivity")]
        seeds = f"{report.spread(share, arm, 'dice'):.3f}"
        rows.append((arm, str(_samples(report, share, arm)), *cells, *gains, seeds))
    yield from _markdown(head, rows)


def _detection(report: DownstreamReport, share: float) -> Iterator[str]:
    """Lesions found beside false alarms: at the operating point, and at the same alarms for all."""
    if not report.clear_patients:
        return
    head = ("detection", "found", "false positives per box", f"found at {ALARMS:g}", "over real")
    rows = []
    for arm in _trained(report, share):
        gain = "" if arm == REAL else text(report.gain_detected(share, arm, REAL, ALARMS))
        found = (report.detected(share, arm), report.false_positives(share, arm))
        rows.append((arm, *map(text, found), text(report.detected(share, arm, ALARMS)), gain))
    yield ""
    yield from _markdown(head, rows)


def _classification(report: DownstreamReport, share: float) -> Iterator[str]:
    arms = {run.arm for run in report.classified if run.real_share == share}
    if not arms:
        return
    rows = []
    for arm in (name for name in ARMS if name in arms):
        gain = "" if arm == REAL else text(gain_classified(report, share, arm, REAL, "AUC"))
        rows.append((arm, *(text(classified(report, share, arm, name)) for name in CLASSIFIED), gain))
    yield ""
    yield from _markdown(("lesion or not", *CLASSIFIED, "AUC over real"), rows)


def _on_clear(report: DownstreamReport) -> str:
    patients = len(set(report.clear_patients))
    return (
        "Detection: found are lesions of which 14 mm3 are outlined, false positives as much where none is "
        f"marked, in {len(report.clear_patients)} boxes of {patients} held-out patients; found at "
        f"{ALARMS:g}: with a threshold at which {ALARMS:.0%} of those boxes have an alarm."
    )


def _parts(report: DownstreamReport, share: float, measure: str) -> Iterator[str]:
    parts = report.tested.parts()
    head = (measure, *(f"{name} ({int(part.sum())})" for name, part in parts.items()))
    rows = [
        (arm, *(text(report.figure(share, arm, measure, part)) for part in parts.values()))
        for arm in _trained(report, share)
    ]
    yield ""
    yield from _markdown(head, rows)


def _gain(report: DownstreamReport, share: float, arm: str, measure: str) -> str:
    """Absolute with its interval, and relative to the arm of real lesions alone."""
    gain, base = report.gain(share, arm, REAL, measure), report.figure(share, REAL, measure).value
    if arm == REAL or gain.value is None or not base:
        return ""
    return f"{text(gain)}, {gain.value / base:+.0%}"


def _trained(report: DownstreamReport, share: float) -> list[str]:
    there = {run.arm for run in report.runs if run.real_share == share}
    return [arm for arm in ARMS if arm in there]


def _samples(report: DownstreamReport, share: float, arm: str) -> int:
    return next(run.samples for run in report.runs if (run.real_share, run.arm) == (share, arm))


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    yield from ("| " + " | ".join(row) + " |" for row in rows)


def draw_dice(report: DownstreamReport) -> Image.Image:
    """Dice of every arm with its interval, a panel for each share of real lesions."""
    shown = {
        f"{share:.0%} of the real lesions": {
            arm: report.figure(share, arm, "dice") for arm in _trained(report, share)
        }
        for share in shares_of(report)
    }
    return plots.intervals(shown, "Dice")
