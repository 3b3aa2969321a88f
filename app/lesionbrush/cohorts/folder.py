"""A cohort on disk: its specification, a folder for each case, and why some cases are not there.

cohort.json  what was asked, and the references as they were found      cases/<id>/  box, mask, record
problems/    a file for each case or reference that could not be made   report.csv   all of them, a row each
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lesionbrush import __version__
from lesionbrush.cohorts.casting import PlannedCase, cast, list_donors
from lesionbrush.cohorts.reading import parse_specification
from lesionbrush.cohorts.records import RECORD, CaseRecord
from lesionbrush.cohorts.references import CohortReference
from lesionbrush.cohorts.specification import CohortSpecification
from lesionbrush.errors import DamagedFile, InvalidRequest
from lesionbrush.files.durable import whole_files

ABOUT, REPORT, CASES, PROBLEMS, LOCK = "cohort.json", "report.csv", "cases", "problems", ".lock"
_DRAFTS = ".lesionbrush-*"
_PATHS = ("path", "labels", "names", "lesions")


@dataclass(frozen=True)
class CohortProblem:
    """Why something is not there. case: "" where it is the reference; code: for programs."""

    reference: str
    case: str
    code: str
    reason: str


@dataclass(frozen=True)
class CohortFolder:
    """specification, references, donors (see `casting.list_donors`): as they were when it was begun."""

    path: Path
    specification: CohortSpecification
    references: tuple[CohortReference, ...]
    donors: tuple[str, ...] = ()

    @classmethod
    def begin(
        cls, path: Path, specification: CohortSpecification, references: Sequence[CohortReference]
    ) -> CohortFolder:
        """A new one, or the one that is there if it is of the same specification and references.

        Raises InvalidRequest for any other, for a folder of something else, and as `cast`; StorageFull.
        """
        wanted = cls(path, specification, tuple(references), list_donors(specification))
        if (path / ABOUT).is_file():
            found = cls.open(path)
            if found.asked != wanted.asked:
                raise InvalidRequest(
                    f"{path.name} is a cohort of another specification, or its references have changed: use "
                    "`cohort resume` to go on with it, or choose another folder"
                )
            return found
        cast(specification, wanted.references, wanted.donors)  # says what cannot be
        if path.is_dir() and any(path.iterdir()):
            raise InvalidRequest(f"{path.name} is no cohort and not empty: choose another folder")
        for folder in (path / CASES, path / PROBLEMS):
            folder.mkdir(parents=True, exist_ok=True)
        wanted._write()
        return wanted

    @classmethod
    def open(cls, path: Path) -> CohortFolder:
        """Raises InvalidRequest (no cohort), DamagedFile."""
        if not (path / ABOUT).is_file():
            raise InvalidRequest(f"{path.name} is no cohort: there is no {ABOUT} in it; begin one with run")
        try:
            said = json.loads((path / ABOUT).read_text(encoding="utf-8"))
            specification = parse_specification(said["specification"], None, ABOUT)
            references = tuple(_read_reference(one) for one in said["references"])
            donors = tuple(said.get("donors", ()))
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedFile(f"{path.name}/{ABOUT} is damaged ({error}): begin the cohort anew") from error
        return cls(path, specification, references, donors)

    def _write(self) -> None:
        said = {
            "specification": self.specification.model_dump(mode="json"),
            "references": [_said(one) for one in self.references],
            "donors": self.donors,
            "lesionbrush": __version__,
        }
        with whole_files(self.path / ABOUT) as (draft,):
            draft.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")

    @cached_property
    def asked(self) -> str:
        """A digest of what its cases depend on."""
        references = [_said(one) for one in self.references]
        said = [self.specification.model_dump(mode="json"), references, self.donors]
        return sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    @cached_property
    def cases(self) -> tuple[PlannedCase, ...]:
        return tuple(cast(self.specification, self.references, self.donors))

    def reference(self, name: str) -> CohortReference:
        return next(one for one in self.references if one.name == name)

    def folder_of(self, case: str) -> Path:
        return self.path / CASES / case

    def is_done(self, case: str) -> bool:
        return (self.folder_of(case) / RECORD).is_file()

    def pending(self) -> list[PlannedCase]:
        return [case for case in self.cases if not self.is_done(case.id)]

    def records(self) -> Iterator[CaseRecord]:
        """Of all cases that are there, by id. Raises DamagedFile."""
        for case in self.cases:
            if self.is_done(case.id):
                yield CaseRecord.read(self.folder_of(case.id))

    @contextmanager
    def held(self) -> Iterator[None]:
        """By one process alone, without what a crash has left. Raises InvalidRequest."""
        lock = FileLock(self.path / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise InvalidRequest(
                f"another process works on {self.path.name}: wait for it, or choose another folder"
            ) from error
        try:
            self._sweep()
            yield
        finally:
            self._sweep()
            lock.release()

    def _sweep(self) -> None:
        for draft in self.path.rglob(_DRAFTS):
            shutil.rmtree(draft, ignore_errors=True)

    # --- what could not be made ---

    def note(self, problem: CohortProblem) -> None:
        """Kept until the case is made. Raises StorageFull."""
        with whole_files(self._problem_file(problem.reference, problem.case), lasting=False) as (draft,):
            draft.write_text(json.dumps(asdict(problem), indent=1) + "\n", encoding="utf-8")

    def forget(self, reference: str, case: str = "") -> None:
        self._problem_file(reference, case).unlink(missing_ok=True)

    def problems(self) -> list[CohortProblem]:
        """Raises DamagedFile."""
        return [_read_problem(path) for path in sorted((self.path / PROBLEMS).glob("*.json"))]

    def _problem_file(self, reference: str, case: str) -> Path:
        name = f"case-{case}" if case else f"reference-{reference}"
        return self.path / PROBLEMS / f"{name}.json"

    # --- the report ---

    def write_report(self) -> Counter[str]:
        """A row for each case; how many there are of each state. Raises StorageFull, DamagedFile."""
        of_cases = {one.case: one for one in self.problems() if one.case}
        of_references = {one.reference: one for one in self.problems() if not one.case}
        text, states = io.StringIO(), Counter[str]()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("case", "reference", "split", "state", "code", "reason"))
        for case in self.cases:
            problem = of_cases.get(case.id) or of_references.get(case.reference)
            done = self.is_done(case.id)
            state = "done" if done else "not made" if problem else "pending"
            why = ("", "") if done or problem is None else (problem.code, problem.reason)
            writer.writerow((case.id, case.reference, case.split, state, *why))
            states[state] += 1
        with whole_files(self.path / REPORT, lasting=False) as (draft,):
            draft.write_text(text.getvalue(), encoding="utf-8")
        return states


def _said(reference: CohortReference) -> dict[str, Any]:
    values = asdict(reference)
    return {**values, **{name: str(values[name]) for name in _PATHS if values[name] is not None}}


def _read_reference(said: dict[str, Any]) -> CohortReference:
    paths = {name: Path(said[name]) for name in _PATHS if said[name] is not None}
    return CohortReference(**{**said, **paths})


def _read_problem(path: Path) -> CohortProblem:
    try:
        return CohortProblem(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise DamagedFile(f"{path.parent.name}/{path.name} is damaged: remove it") from error
