"""A hospital's own reports, from a folder of text files: their findings and impressions, for pretraining."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lesionbrush.errors import InvalidRequest

LEAST_REPORTS = 20
_OTHERS = "technique|comparison|indication|history|clinical \\w+|exam(?:ination)?|recommendations?|addendum"
_HEADING = re.compile(rf"^[ \t]*(findings?|impressions?|{_OTHERS})[ \t]*:", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class ReportPair:
    """The two sections of one report."""

    findings: str
    impression: str


@dataclass(frozen=True)
class OwnReports:
    """without: how many files have not both sections."""

    pairs: tuple[ReportPair, ...]
    without: int


def read_reports(folder: Path) -> OwnReports:
    """Of all .txt files below it, in the order of their names. InvalidRequest where there are too few."""
    files = sorted(folder.rglob("*.txt"))
    found = [split_report(path.read_text(encoding="utf-8", errors="replace")) for path in files]
    pairs = tuple(one for one in found if one is not None)
    if len(pairs) < LEAST_REPORTS:
        raise InvalidRequest(
            f"{folder}: of {len(files)} .txt files {len(pairs)} have a section FINDINGS: and a section "
            f"IMPRESSION:, and {LEAST_REPORTS} at least are needed: each heading begins a line"
        )
    return OwnReports(pairs, len(found) - len(pairs))


def split_report(text: str) -> ReportPair | None:
    """None where one of the sections is missing or empty. A section ends where the next heading begins."""
    headings = list(_HEADING.finditer(text))
    ends = [one.start() for one in headings[1:]] + [len(text)]
    sections = {
        one[1].lower().rstrip("s"): text[one.end() : end] for one, end in zip(headings, ends, strict=False)
    }
    findings, impression = (sections.get(name, "").strip() for name in ("finding", "impression"))
    return ReportPair(findings, impression) if findings and impression else None
