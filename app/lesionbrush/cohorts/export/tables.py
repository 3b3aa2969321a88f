"""The table of measured truth, and the records of cases without what could name a patient."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from lesionbrush.cohorts.export.names import ExportedCase
from lesionbrush.cohorts.records import CaseRecord, LesionRecord
from lesionbrush.cohorts.truth import LesionTruth
from lesionbrush.core.provenance import Provenance

TRUTH = "truth.csv"
_ASKED = ("diameter_mm", "shape", "elongation")


def write_truth(cases: Sequence[ExportedCase], path: Path) -> None:
    """A row for each lesion, and one for each case without any."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _columns(cases), lineterminator="\n", restval="")
    writer.writeheader()
    for case in cases:
        writer.writerows(_rows(case))
    path.write_text(text.getvalue(), encoding="utf-8")


def _columns(cases: Sequence[ExportedCase]) -> list[str]:
    attributes = {name for case in cases for one in case.record.lesions for name in one.wanted.attributes}
    asked = [f"asked_{name}" for name in (*_ASKED, *sorted(attributes))]
    own = ["name", "split", "healthy", "seam_hu", "lesion", "organ", "carried_over", "model", "surface_mm"]
    return [*own, *asked, *LesionTruth.model_fields, "off_hu"]


def _rows(case: ExportedCase) -> Iterator[dict[str, object]]:
    record = case.record
    about: dict[str, object] = {"name": case.name, "split": record.split, "healthy": int(case.healthy)}
    if case.healthy or not record.lesions:
        yield {**about, "healthy": 1}
        return
    for one in record.lesions:
        yield {**about, "seam_hu": record.seam_hu, **_row(one)}


def _row(one: LesionRecord) -> dict[str, object]:
    wanted = one.wanted
    asked = {f"asked_{name}": getattr(wanted, name) for name in _ASKED}
    asked |= {f"asked_{name}": value for name, value in wanted.attributes.items()}
    own = {"lesion": one.label, "organ": one.organ, "carried_over": int(wanted.donor is not None)}
    off = None if one.off_hu is None else round(one.off_hu, 2)
    truth = one.truth.model_dump()
    return {**own, "model": one.model, "surface_mm": one.surface_mm, **asked, **truth, "off_hu": off}


def write_provenance(case: ExportedCase, path: Path) -> None:
    """Models, weights, licences, seeds, versions."""
    record = provenance_of(case)
    if record is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(record.model_dump(mode="json"), indent=1)
        path.write_text(text + "\n", encoding="utf-8")


def provenance_of(case: ExportedCase) -> Provenance | None:
    """Of what is exported under this name, without remarks, which may name files; None for a CT as it was."""
    record = case.record.twin if case.healthy else case.record.provenance
    return None if record is None else _without_remarks(record)


def _without_remarks(record: Provenance) -> Provenance:
    before = None if record.made_from is None else _without_remarks(record.made_from)
    return record.model_copy(update={"remarks": (), "made_from": before})


def edits_of(record: CaseRecord) -> Iterator[Provenance]:
    """Every edit of a case and of its twin, the last first."""
    for one in (record.provenance, record.twin):
        while one is not None:
            yield one
            one = one.made_from  # noqa: PLW2901, the chain is walked
