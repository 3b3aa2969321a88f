"""Cohorts on the server: cases like a result, made as one job, whole one by one, and the list of them.

`<studies>/.lesionbrush/cohorts/<name>/` has `cohort/`, which `run.py cohort` can export, and `made_of/`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from lesionbrush.cohorts.casting import PlannedCase
from lesionbrush.cohorts.checking import check_specification
from lesionbrush.cohorts.folder import ABOUT, CohortFolder, CohortProblem
from lesionbrush.cohorts.hosts import CohortHost
from lesionbrush.cohorts.making import CaseMaker, ModelRack, write_case
from lesionbrush.cohorts.references import find_references
from lesionbrush.cohorts.specification import CohortSpecification
from lesionbrush.core.registry import InstalledModel
from lesionbrush.errors import Cancelled, DamagedFile, InvalidRequest, LesionBrushError, StorageFull
from lesionbrush.server.doors.limits import SizeLimits
from lesionbrush.server.errors import CohortInUse, UnknownCohort, naming_full_disk
from lesionbrush.server.jobs.errors import TimedOut
from lesionbrush.server.jobs.job import Outcome, Ticket, Watch
from lesionbrush.server.storage.private import private_root
from lesionbrush.server.synthesis.inference import Service, Vault
from lesionbrush.server.synthesis.likeness import LikeOrder

CASE_BYTES = 2_000_000
"""Room that must be left for each case; its box is smaller as a rule."""
_COHORT, _MADE_OF = "cohort", "made_of"
_ENDS_THE_JOB = (Cancelled, TimedOut, StorageFull)


class CohortFacts(BaseModel):
    """One cohort of the server."""

    name: str
    model: str
    made: int = Field(description="cases that are there, each of them whole")
    wanted: int
    problems: list[str] = Field(description="why others could not be made, each reason once")
    folder: str = Field(description="in the studies folder, for `run.py cohort export` there")


@dataclass
class WarmRack(ModelRack):
    """The server's own models."""

    service: Service = field(kw_only=True)

    def get(self, installed: InstalledModel) -> Any:
        return self.service.models.warm(installed.card.name, self.device).model


class CohortWork:
    """See `jobs.job.Work`. What is made stays, also when the job is cancelled or runs out of time."""

    def __init__(self, service: Service, vault: Vault, like: LikeOrder) -> None:
        self.service, self.vault, self.like = service, vault, like
        self.folder = private_root(vault.studies).cohorts / like.name

    def run(self, device: str, watch: Watch) -> Outcome:
        watch.check()
        SizeLimits.current().require_room(self.like.wanted.count * CASE_BYTES, self.folder.parent)
        with naming_full_disk():
            self.folder.mkdir(mode=0o700, exist_ok=True)
            specification = self._lay_out()
            check_specification(specification)
            references = find_references(specification.references)
            cohort = CohortFolder.begin(self.folder / _COHORT, specification, references)
            with held(cohort):
                try:
                    self._make(cohort, device, watch)
                finally:
                    cohort.write_report()
        _require_some(cohort)
        return Outcome(0, tuple(_remarks(cohort)))

    def _lay_out(self) -> CohortSpecification:
        """Raises UnknownReference (an upload that has gone meanwhile), and as `LikeOrder.lay_out`."""
        reference = self.like.order.reference
        with ExitStack() as stack:
            if reference is not None and reference.sha256 is not None:
                stack.enter_context(self.vault.references.using(reference.sha256))
            assert reference is not None
            return self.like.lay_out(self.folder / _MADE_OF, self.service.load_ct(reference.path))

    def _make(self, cohort: CohortFolder, device: str, watch: Watch) -> None:
        total, done = self.like.steps, len(cohort.cases) - len(cohort.pending())
        steps = self.like.request.steps

        def on_step(step: int, of: int) -> None:
            watch.on_step(min(done * steps + round(steps * step / max(of, 1)), total), total)

        rack = WarmRack(device, service=self.service)
        maker = CaseMaker(cohort.specification, cohort.asked, rack, on_step)
        for reference in cohort.references:
            cases = [case for case in cohort.pending() if case.reference == reference.name]
            host = self._read(cohort, reference.name) if cases else None
            for case in cases:
                watch.check()
                if host is not None:
                    self._make_one(cohort, maker, case, host)
                done += 1
                watch.on_step(done * steps, total)

    def _read(self, cohort: CohortFolder, name: str) -> CohortHost | None:
        cohort.forget(name)
        try:
            return CohortHost.read(cohort.reference(name))
        except LesionBrushError as error:
            cohort.note(CohortProblem(name, "", error.code, str(error)))
            return None

    def _make_one(self, cohort: CohortFolder, maker: CaseMaker, case: PlannedCase, host: CohortHost) -> None:
        try:
            write_case(maker.make(case, host), cohort.folder_of(case.id))
        except _ENDS_THE_JOB:
            raise
        except LesionBrushError as error:
            cohort.note(CohortProblem(case.reference, case.id, error.code, str(error)))
        else:
            cohort.forget(case.reference, case.id)

    def forget(self) -> None:
        """Nothing of it goes with the job: `drop_cohort` is for that."""


def ticket_for(service: Service, vault: Vault, like: LikeOrder, client: str) -> Ticket:
    work = CohortWork(service, vault, like)
    what = f"cohort of {like.wanted.count} by {like.order.model}"
    return Ticket(like.order.model, client, lambda _: work, like.steps, what)


def list_cohorts(vault: Vault) -> list[CohortFacts]:
    """By name; what is damaged, or was never begun, is left out."""
    root = private_root(vault.studies).cohorts
    found = []
    for path in sorted(root.iterdir()):
        try:
            if (path / _COHORT / ABOUT).is_file():
                found.append(_facts(path))
        except LesionBrushError:
            continue
    return found


def drop_cohort(vault: Vault, name: str) -> None:
    """Remove it with all its cases. Raises UnknownCohort, CohortInUse."""
    path = private_root(vault.studies).cohorts / name
    if not path.is_dir():
        raise UnknownCohort(f"no cohort is called {name!r} on this server; GET /cohorts lists them")
    if (path / _COHORT / ABOUT).is_file():
        with suppress(DamagedFile), held(CohortFolder.open(path / _COHORT)):
            (path / _COHORT / ABOUT).unlink()
    shutil.rmtree(path)


@contextmanager
def held(cohort: CohortFolder) -> Iterator[None]:
    """As `CohortFolder.held`; raises CohortInUse where another job works on it."""
    with ExitStack() as stack:
        try:
            stack.enter_context(cohort.held())
        except InvalidRequest as error:
            raise CohortInUse("another job works on this cohort: wait for it, or cancel it") from error
        yield


def _facts(path: Path) -> CohortFacts:
    cohort = CohortFolder.open(path / _COHORT)
    wanted = len(cohort.cases)
    return CohortFacts(
        name=path.name,
        model=cohort.specification.models["any"].name,
        made=wanted - len(cohort.pending()),
        wanted=wanted,
        problems=list(dict.fromkeys(one.reason for one in cohort.problems())),
        folder="/".join(cohort.path.parts[-4:]),
    )


def _require_some(cohort: CohortFolder) -> None:
    """InvalidRequest, with the first reason, where not one case could be made."""
    if len(cohort.pending()) == len(cohort.cases):
        reasons = [one.reason for one in cohort.problems()]
        raise InvalidRequest(f"none of {len(cohort.cases)} cases could be made: {reasons[0]}")


def _remarks(cohort: CohortFolder) -> list[str]:
    wanted = len(cohort.cases)
    made = wanted - len(cohort.pending())
    said = [f"{made} of {wanted} cases are in the cohort {cohort.path.parent.name}."]
    reasons = dict.fromkeys(one.reason for one in cohort.problems())
    return said + [f"Some could not be made: {reason}" for reason in list(reasons)[:3]]
