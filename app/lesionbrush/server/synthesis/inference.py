"""What outlives a request, and a result that is handed over to whoever waits for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

from pydantic import BaseModel

from lesionbrush.core.provenance import Provenance
from lesionbrush.core.recording import Clock
from lesionbrush.core.request import BaseRequest
from lesionbrush.core.synthesize import Synthesis
from lesionbrush.core.volume import Volume
from lesionbrush.errors import Cancelled
from lesionbrush.files.io import write_volume
from lesionbrush.files.records import write_sidecar
from lesionbrush.server.errors import UnknownReference
from lesionbrush.server.jobs.board import Jobs
from lesionbrush.server.jobs.errors import JobCrashed
from lesionbrush.server.jobs.job import JobLimits, JobRecord, Outcome, Ticket, Watch
from lesionbrush.server.operation.meter import Meter
from lesionbrush.server.settings import ServerSettings
from lesionbrush.server.storage.private import private_root
from lesionbrush.server.storage.references import ReferenceCache
from lesionbrush.server.storage.sessions import Sessions
from lesionbrush.server.storage.vault import RESULT_BOUNDS, References, Results
from lesionbrush.server.synthesis.devices import choose_devices
from lesionbrush.server.synthesis.facts import WeightsCheck
from lesionbrush.server.synthesis.making import Finished, Variant, carry_out
from lesionbrush.server.synthesis.models import ModelPool
from lesionbrush.server.synthesis.order import Order

STEM = "synthetic_ct"


class Service:
    """What outlives a request: warm models, decoded CTs, jobs, and the private folder of the studies."""

    def __init__(
        self, models_root: Path | None = None, studies: Path | None = None, limits: JobLimits | None = None
    ) -> None:
        self.models = ModelPool(models_root)
        self.references = ReferenceCache()
        self.meter = Meter()
        self.weights = WeightsCheck()
        limits = limits or limits_of(ServerSettings.from_environment())
        self.jobs = Jobs(choose_devices(), limits)
        self.vault = None if studies is None else Vault.open(studies, limits.result_seconds)
        if self.vault is not None:
            self.vault.references.on_stored = self.references.keep  # it was decoded to be checked

    def load_ct(self, path: Path) -> Volume:
        """Raises UnknownReference when it went since it was named, and what `read_ct` raises."""
        try:
            return self.references.get(path)
        except FileNotFoundError as error:
            raise UnknownReference("the reference CT is not here any more: send or store it again") from error


def limits_of(settings: ServerSettings) -> JobLimits:
    return JobLimits(
        queue_length=settings.queue_length,
        per_client=settings.jobs_per_client,
        job_seconds=settings.job_seconds,
        result_seconds=settings.result_seconds,
    )


@dataclass(frozen=True)
class Vault:
    """What is kept on disk between requests, in the private folder of the studies."""

    studies: Path
    references: References
    results: Results
    sessions: Sessions

    @classmethod
    def open(cls, studies: Path, result_seconds: float) -> Vault:
        """Raises StudiesInUse, InvalidRequest, OSError."""
        private = private_root(studies)
        bounds = replace(RESULT_BOUNDS, max_age_s=result_seconds)
        references = References(private)
        vault = cls(studies, references, Results(private, bounds), Sessions(private, references))
        private.sweep_regularly(vault.sweep)
        return vault

    def sweep(self) -> None:
        """Drop what is past its time or room."""
        self.references.sweep()
        self.results.sweep()
        self.sessions.sweep()


class Answer(BaseModel):
    """What is said about a result. seconds: per phase of the whole request."""

    seconds: dict[str, float]
    variants: list[Provenance]


@dataclass(frozen=True)
class SynthesisOutput:
    """path: the volume, or for several variants a .zip with each volume and its sidecar."""

    answer: Answer
    path: Path | None


class ResultInMemory:
    """A result that is handed over in memory, to whoever waits for it. See `jobs.job.Work`."""

    def __init__(self, service: Service, order: Order) -> None:
        self.service, self.order = service, order
        self.done: Finished | None = None

    def run(self, device: str, watch: Watch) -> Outcome:
        done = self.done = replace(carry_out(self.service, self.order, device, watch), lesion=None)
        return Outcome(len(done.variants), done.variants[0].provenance.remarks)

    def forget(self) -> None:
        self.done = None


def submit(service: Service, order: Order, client: str) -> tuple[JobRecord, ResultInMemory]:
    """The job in the queue, and what will hold its result. Raises QueueFull."""
    work = ResultInMemory(service, order)
    ticket = Ticket(order.model, client, lambda _: work, order.steps, f"infer {order.model}")
    return service.jobs.submit(ticket), work


def output_of(record: JobRecord, work: ResultInMemory, folder: Path, suffix: str | None) -> SynthesisOutput:
    """Write the result of a job that is over, and forget the job. Raises what ended it.

    suffix: of the file (".nii.gz"), None for no file at all.
    """
    done = work.done
    work.service.jobs.forget(record)
    require_done(record)
    if done is None:
        raise JobCrashed("the job has no result")
    clock = Clock()
    with clock.phase("write"):
        path = _write(done, work.order.request, folder, suffix) if suffix else None
    records = [variant.provenance for variant in done.variants]
    return SynthesisOutput(Answer(seconds={**done.seconds, **clock.seconds}, variants=records), path)


def require_done(record: JobRecord) -> None:
    """Raises what ended a job that is over and has no result."""
    if record.failure is not None:
        raise record.failure
    problem = record.problem
    if problem is not None:
        raise (Cancelled if problem.code == Cancelled.code else JobCrashed)(problem.message)


def _write(done: Finished, request: BaseRequest, folder: Path, suffix: str) -> Path:
    if len(done.variants) == 1:
        return _write_one(done.variants[0], request, folder / f"{STEM}{suffix}")
    archive = folder / f"{STEM}s.zip"
    with ZipFile(archive, "w", ZIP_STORED) as zipped:
        for number, made in enumerate(done.variants, 1):
            volume = _write_one(made, request, folder / f"{STEM}-{number}{suffix}")
            for file in (volume, write_sidecar(made.provenance, volume)):
                zipped.write(file, file.name)
                file.unlink()
    return archive


def _write_one(made: Variant, request: BaseRequest, path: Path) -> Path:
    boxed = getattr(request, "output", "volume") == "box"
    volume = made.box_volume() if isinstance(made, Synthesis) and boxed else made.volume()
    write_volume(volume, path, made.provenance.note, lasting=False)
    return path
