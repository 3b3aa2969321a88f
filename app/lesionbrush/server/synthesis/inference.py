"""The one way from files to a synthetic CT; every route and task of the server goes through it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

import numpy as np
from pydantic import BaseModel

from lesionbrush.core.inputs import check_inputs
from lesionbrush.core.provenance import Provenance
from lesionbrush.core.registry import InstalledModel, find_model
from lesionbrush.core.request import BaseRequest, EditRequest
from lesionbrush.core.synthesize import Clock, Synthesis, synthesize
from lesionbrush.core.volume import Volume, mask_on_grid
from lesionbrush.errors import Cancelled, WeightsError
from lesionbrush.files.inputs import read_inputs
from lesionbrush.files.io import read_volume, write_volume
from lesionbrush.files.records import write_sidecar
from lesionbrush.server.errors import UnknownReference
from lesionbrush.server.jobs.board import Jobs
from lesionbrush.server.jobs.errors import JobCrashed
from lesionbrush.server.jobs.job import JobLimits, JobRecord, Outcome, Ticket, Watch
from lesionbrush.server.jobs.previews import middle_slice_png, wanted
from lesionbrush.server.operation.meter import Meter
from lesionbrush.server.settings import ServerSettings
from lesionbrush.server.storage.private import private_root
from lesionbrush.server.storage.references import ReferenceCache, read_ct
from lesionbrush.server.storage.sessions import Sessions
from lesionbrush.server.storage.vault import RESULT_BOUNDS, References, Results
from lesionbrush.server.synthesis.devices import chosen_devices
from lesionbrush.server.synthesis.facts import WeightsCheck
from lesionbrush.server.synthesis.models import ModelPool
from lesionbrush.systems import find_system

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
        self.jobs = Jobs(chosen_devices(), limits)
        self.vault = None if studies is None else Vault.open(studies, limits.result_seconds)
        if self.vault is not None:
            self.vault.references.on_stored = self.references.keep  # it was decoded to be checked


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


@dataclass(frozen=True)
class Job:
    """One request with its files in place.

    reference: a CT (a file, or a folder with one DICOM series); stored: it will be asked for again;
    folder: where results go; suffix: format of the result (".nii.gz"), None for no file at all;
    inputs: files of the volumes that steer it.
    """

    model: str
    reference: Path
    stored: bool
    mask: Path
    request: BaseRequest
    folder: Path
    suffix: str | None
    inputs: Mapping[str, Path] = field(default_factory=dict)


class Answer(BaseModel):
    """What is said about a result. seconds: per phase of the whole request."""

    seconds: dict[str, float]
    variants: list[Provenance]


@dataclass(frozen=True)
class Output:
    """path: the volume, or for several variants a .zip with each volume and its sidecar."""

    answer: Answer
    path: Path | None


class InMemory:
    """A job whose result is handed over in memory, to whoever waits for it. See `jobs.job.Work`."""

    def __init__(self, service: Service, job: Job) -> None:
        self.service, self.job = service, job
        self.made: tuple[list[Synthesis], dict[str, float]] | None = None

    def run(self, device: str, watch: Watch) -> Outcome:
        syntheses, seconds = synthesized(self.service, self.job, device, watch)
        self.made = syntheses, seconds
        return Outcome(0, syntheses[0].provenance.remarks)

    def forget(self) -> None:
        self.made = None


def submitted(service: Service, job: Job, client: str, what: str) -> tuple[JobRecord, InMemory]:
    """The job in the queue, and what will hold its result. Raises QueueFull."""
    work = InMemory(service, job)
    steps = job.request.steps * job.request.variants
    return service.jobs.submit(Ticket(job.model, client, lambda _: work, steps, what)), work


def run_inference(service: Service, job: Job, client: str = "server") -> Output:
    """Wait for its turn, synthesize and write; not for the event loop.

    Raises any LesionBrushError, JobCrashed; `job.folder` is the caller's to empty.
    """
    record, work = submitted(service, job, client, f"infer {job.model}")
    service.jobs.wait(record)
    return output_of(service, record, work)


def output_of(service: Service, record: JobRecord, work: InMemory) -> Output:
    """Write the result of a job that is over, and forget the job. Raises what ended it."""
    made = work.made
    service.jobs.forget(record)
    require_done(record)
    if made is None:
        raise JobCrashed("the job has no result")
    clock, (syntheses, seconds), job = Clock(), made, work.job
    with clock.phase("write"):
        path = _write(syntheses, job) if job.suffix else None
    return Output(
        Answer(seconds={**seconds, **clock.seconds}, variants=[s.provenance for s in syntheses]), path
    )


def require_done(record: JobRecord) -> None:
    """Raises what ended a job that is over and has no result."""
    if record.failure is not None:
        raise record.failure
    problem = record.problem
    if problem is not None:
        raise (Cancelled if problem.code == Cancelled.code else JobCrashed)(problem.message)


def synthesized(
    service: Service, job: Job, device: str, watch: Watch
) -> tuple[list[Synthesis], dict[str, float]]:
    """All variants, and seconds per phase. Raises any LesionBrushError, and what `watch` raises.

    What was sent is looked at before a model is loaded: that may push another one out.
    """
    clock, installed, request = Clock(), find_model(job.model, service.models.root), job.request
    assert isinstance(request, EditRequest)
    _require_weights(service, installed, device)
    with clock.phase("read"):
        reference = stored_ct(service, job.reference) if job.stored else read_ct(job.reference)
        mask = read_volume(job.mask)
        accepted = find_system(installed.card.system).inputs
        inputs = read_inputs(job.inputs, accepted)
        check_inputs(inputs, accepted, reference)
        mask_on_grid(mask, reference, request.label)
    watch.check()
    with clock.phase("load"):
        warm = service.models.warm(job.model, device)
    watch.check()
    show = _Show(watch)
    syntheses = synthesize(
        reference, mask, request, warm.model, inputs, on_step=watch.on_step, on_estimate=show.estimate
    )
    if warm.remarks:
        syntheses = [_with_remarks(synthesis, warm.remarks) for synthesis in syntheses]
    seconds = {**clock.seconds, **syntheses[0].provenance.seconds}
    service.meter.worked(seconds)
    return syntheses, seconds


def _require_weights(service: Service, installed: InstalledModel, device: str) -> None:
    """Raise WeightsError for what could not be loaded; their hash is remembered."""
    warm = installed.card.name in service.models.names(device)
    problem = None if warm else service.weights.problem(installed)
    if problem is not None:
        raise WeightsError(problem)


def stored_ct(service: Service, path: Path) -> Volume:
    """Raises UnknownReference when it went since it was named, and what `read_ct` raises."""
    try:
        return service.references.get(path)
    except FileNotFoundError as error:
        raise UnknownReference("the reference CT is not here any more: send or store it again") from error


class _Show:
    """Makes a preview every few steps."""

    def __init__(self, watch: Watch) -> None:
        self.watch, self.step = watch, 0

    def estimate(self, hu: np.ndarray) -> None:
        self.step += 1
        if wanted(self.step):
            self.watch.on_preview(middle_slice_png(hu))


def _with_remarks(synthesis: Synthesis, remarks: tuple[str, ...]) -> Synthesis:
    provenance = synthesis.provenance
    told = provenance.model_copy(update={"remarks": (*remarks, *provenance.remarks)})
    return Synthesis(synthesis.reference, synthesis.box, synthesis.offset, told)


def _write(syntheses: Sequence[Synthesis], job: Job) -> Path:
    if len(syntheses) == 1:
        return _write_one(syntheses[0], job, f"{STEM}{job.suffix}")
    archive = job.folder / f"{STEM}s.zip"
    with ZipFile(archive, "w", ZIP_STORED) as zipped:
        for number, synthesis in enumerate(syntheses, 1):
            volume = _write_one(synthesis, job, f"{STEM}-{number}{job.suffix}")
            for file in (volume, write_sidecar(synthesis.provenance, volume)):
                zipped.write(file, file.name)
                file.unlink()
    return archive


def _write_one(synthesis: Synthesis, job: Job, name: str) -> Path:
    volume = synthesis.box_volume() if getattr(job.request, "output", "") == "box" else synthesis.volume()
    write_volume(volume, job.folder / name, synthesis.provenance.note)
    return job.folder / name
