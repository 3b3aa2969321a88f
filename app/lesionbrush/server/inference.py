"""The one way from files to a synthetic CT; every route and task of the server goes through it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

from pydantic import BaseModel

from lesionbrush.io import read_volume, write_volume
from lesionbrush.provenance import Provenance, write_sidecar
from lesionbrush.request import SynthesisRequest
from lesionbrush.server.models import ModelPool
from lesionbrush.server.references import ReferenceCache, read_ct
from lesionbrush.synthesize import Clock, Synthesis, synthesize

STEM = "synthetic_ct"


class Service:
    """What outlives a request: warm models and decoded CTs."""

    def __init__(self, models_root: Path | None = None) -> None:
        self.models = ModelPool(models_root)
        self.references = ReferenceCache()


@dataclass(frozen=True)
class Job:
    """One request with its files in place.

    reference: a CT (a file, or a folder with one DICOM series); stored: it will be asked for again;
    folder: where results go; suffix: format of the result (".nii.gz"), None for no file at all.
    """

    model: str
    reference: Path
    stored: bool
    mask: Path
    request: SynthesisRequest
    folder: Path
    suffix: str | None


class Answer(BaseModel):
    """What is said about a result. seconds: per phase of the whole request."""

    seconds: dict[str, float]
    variants: list[Provenance]


@dataclass(frozen=True)
class Output:
    """path: the volume, or for several variants a .zip with each volume and its sidecar."""

    answer: Answer
    path: Path | None


def run_inference(service: Service, job: Job) -> Output:
    """Synthesize and write. Raises any LesionBrushError; `job.folder` is the caller's to empty."""
    clock = Clock()
    with clock.phase("load"):
        model = service.models.warm(job.model)
    with clock.phase("read"):
        reference = service.references.get(job.reference) if job.stored else read_ct(job.reference)
        mask = read_volume(job.mask)
    with service.models.device:
        syntheses = synthesize(reference, mask, job.request, model)
    with clock.phase("write"):
        path = _write(syntheses, job) if job.suffix else None
    seconds = {**clock.seconds, **syntheses[0].provenance.seconds}
    return Output(Answer(seconds=seconds, variants=[s.provenance for s in syntheses]), path)


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
    volume = synthesis.box_volume() if job.request.output == "box" else synthesis.volume()
    write_volume(volume, job.folder / name, synthesis.provenance.note)
    return job.folder / name
