"""Is all of a cohort there, and nothing half? Every file against the record of its case."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from lesionbrush.cohorts.folder import CASES, CohortFolder
from lesionbrush.cohorts.records import BOX, MASK, RECORD, TWIN, CaseRecord
from lesionbrush.core.registry import file_sha256
from lesionbrush.errors import DamagedFile
from lesionbrush.files.io import read_volume


@dataclass
class Verdict:
    """whole: how many cases are as their records say; wrong: a sentence for each thing that is not; missing:
    ids of cases that are not there, with a reason where one is known.
    """

    whole: int = 0
    wrong: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return not self.wrong and not self.missing


def verify(folder: CohortFolder) -> Verdict:
    """Reads every file of every case."""
    verdict = Verdict()
    problems = folder.problems()
    of_case = {one.case: one.reason for one in problems if one.case}
    of_reference = {one.reference: one.reason for one in problems if not one.case}
    for case in folder.cases:
        if not folder.folder_of(case.id).exists():
            reason = of_case.get(case.id) or of_reference.get(case.reference) or "not made yet"
            verdict.missing[case.id] = reason
            continue
        wrong = list(_wrong_in(folder, case.id))
        verdict.wrong += wrong
        verdict.whole += not wrong
    known = {case.id for case in folder.cases}
    for path in sorted((folder.path / CASES).iterdir()):
        draft = path.name.startswith(".")  # of a crash: the next run removes it
        if path.name not in known and not draft:
            verdict.wrong.append(f"{path.name} is no case of this cohort: move it away")
    return verdict


def _wrong_in(folder: CohortFolder, case: str) -> Iterator[str]:
    place = folder.folder_of(case)
    try:
        record = CaseRecord.read(place)
    except DamagedFile as error:
        yield str(error)
        return
    if (record.id, record.asked) != (case, folder.asked):
        yield f"{case}: its record is of case {record.id!r} of another cohort: remove it, then resume"
        return
    wanted = {BOX, MASK, *([TWIN] if record.twin is not None else [])}
    if set(record.files_sha256) != wanted:
        yield f"{case}: its record names {', '.join(sorted(record.files_sha256))}: remove it, then resume"
    there = {path.name for path in place.iterdir()} - {RECORD}
    for name in sorted(there - wanted):
        yield f"{case}/{name} is no file of a case: move it away"
    for name, digest in sorted(record.files_sha256.items()):
        if name not in there:
            yield f"{case}/{name} is missing: remove the case, then resume"
        elif file_sha256(place / name) != digest:
            yield f"{case}/{name} has changed since it was made: remove the case, then resume"
        elif name == MASK:
            yield from _wrong_mask(folder, record)


def _wrong_mask(folder: CohortFolder, record: CaseRecord) -> Iterator[str]:
    mask = read_volume(folder.folder_of(record.id) / MASK)
    if mask.shape != record.shape:
        yield f"{record.id}/{MASK} is {mask.shape} voxels, its record says {record.shape}: remove the case"
    counts = {
        label: int(n) for label, n in zip(*np.unique(mask.array, return_counts=True), strict=True) if label
    }
    said = {one.label: one.truth.voxels for one in record.lesions}
    if counts != said:
        yield f"{record.id}/{MASK} has voxels of lesions {counts}, its record says {said}: remove the case"
