"""Names of exported cases: numbers in an order that tells nothing of patients; the way back, apart."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lesionbrush.cohorts.draws import generator_for
from lesionbrush.cohorts.folder import CohortFolder
from lesionbrush.cohorts.records import CaseRecord
from lesionbrush.files.durable import whole_files

OURS_ONLY = 0o600
HEALTHY_ENDING = "_healthy"
ENDING = ".nii.gz"


@dataclass(frozen=True)
class ExportedCase:
    """name: in files and tables; healthy: without its lesions, of the same record."""

    name: str
    record: CaseRecord
    healthy: bool = False


def name_all(folder: CohortFolder, records: Sequence[CaseRecord]) -> list[ExportedCase]:
    """By name: `case_0001`, and `case_0001_healthy` beside it where the cohort has twins."""
    seed = folder.specification.seed
    shuffled = sorted(records, key=lambda one: (generator_for(seed, "export", one.id).random(), one.id))
    width = max(4, len(str(len(shuffled))))
    found = []
    for number, record in enumerate(shuffled, start=1):
        name = f"case_{number:0{width}d}"
        found.append(ExportedCase(name, record))
        if record.lesions and record.twins != "none":
            found.append(ExportedCase(name + HEALTHY_ENDING, record, healthy=True))
    return found


def write_mapping(cases: Sequence[ExportedCase], folder: CohortFolder, path: Path) -> None:
    """Which case, CT and patient each name stands for, for its owner's eyes alone (mode 0600)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("name", "case", "patient", "reference", "path"))
    for one in cases:
        reference = folder.reference(one.record.reference)
        writer.writerow((one.name, one.record.id, reference.patient, reference.name, reference.path))
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_files(path) as (draft,):
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OURS_ONLY)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text.getvalue())
