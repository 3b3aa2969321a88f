"""The routes of a job's results: box, CT and labels, accept and discard. See docs/wire.md."""

from __future__ import annotations

import gzip
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from fastapi import APIRouter, Body, Depends, Header
from fastapi import Path as InPath
from fastapi.responses import Response

from lesionbrush.core.provenance import Provenance
from lesionbrush.core.volume import Volume
from lesionbrush.files.io import write_volume
from lesionbrush.server.http import wire
from lesionbrush.server.http.deps import TheClient, TheJob, TheService, TheStudies, Workspace
from lesionbrush.server.http.replies import FileReply
from lesionbrush.server.jobs.errors import Discarded, Gone, NotDone, UnknownJob, UnknownVariant
from lesionbrush.server.jobs.job import JobRecord, JobStatus, State
from lesionbrush.server.storage.accept import AcceptedCase, accept_case
from lesionbrush.server.storage.cases import TAG
from lesionbrush.server.synthesis.inference import STEM
from lesionbrush.server.synthesis.stored import StoredResult

LABELS_STEM = "labels"
VolumeFormat = Literal["nii", "nii.gz", "nrrd", "mha"]
GZIP_LEVEL = 1  # of 1 to 9: what more would save costs more time than sending it

variants = APIRouter(prefix="/jobs/{job}/variants/{number}")


class Variant(NamedTuple):
    """One result of a job that is done. number: from 1."""

    record: JobRecord
    stored: StoredResult
    number: int


def the_variant(record: TheJob, number: Annotated[int, InPath(ge=1, le=9999)]) -> Variant:
    """Raises NotDone, Gone, UnknownVariant, Discarded."""
    stored = record.work
    if not isinstance(stored, StoredResult):
        raise UnknownJob("the result of this job went to the one who waited for it")
    if record.state is State.EXPIRED:
        raise Gone("the result was kept for its time and is gone: submit the job again")
    if record.state is not State.DONE:
        raise NotDone(f"the job is {record.state.value}: it has no result")
    if number > record.variants:
        raise UnknownVariant(f"the job has {record.variants} variants, no number {number}")
    if number in record.discarded:
        raise Discarded(f"variant {number} was discarded")
    return Variant(record, stored, number)


TheVariant = Annotated[Variant, Depends(the_variant)]


class Octets(Response):
    media_type = "application/octet-stream"


@variants.get("")
def provenance(variant: TheVariant) -> Provenance:
    """Where it comes from, and where its box belongs."""
    return variant.stored.provenance(variant.number)


@variants.get("/box", response_class=Octets)
def box(
    variant: TheVariant, accept_encoding: Annotated[str, Header(include_in_schema=False)] = ""
) -> Response:
    """The changed box: int16 HU, little-endian, first axis fastest; shape and offset are in the headers."""
    record, content = variant.stored.box(variant.number)
    digest = sha256(content).hexdigest()
    zipped = _takes_gzip(accept_encoding)
    return wire.box_response(
        record, gzip.compress(content, GZIP_LEVEL) if zipped else content, digest, zipped
    )


@variants.get("/volume", response_class=Octets)
def volume(variant: TheVariant, folder: Workspace, format: VolumeFormat = "nii.gz") -> FileReply:
    """The whole synthetic CT as a file."""
    made = variant.stored.result(variant.number)
    return _file(made.volume(), folder / f"{STEM}-{variant.number}.{format}", made.provenance)


@variants.get("/labels", response_class=Octets)
def labels(variant: TheVariant, folder: Workspace, format: VolumeFormat = "nii.gz") -> FileReply:
    """What is where in a whole new CT, as a label volume on its grid."""
    layout = variant.stored.labels(variant.number)
    record = variant.stored.provenance(variant.number)
    return _file(layout.labels, folder / f"{LABELS_STEM}-{variant.number}.{format}", record)


@variants.get("/labels/names")
def label_names(variant: TheVariant) -> dict[int, str]:
    """What the values of the label volume mean."""
    return variant.stored.label_names(variant.number)


def _file(volume: Volume, path: Path, record: Provenance) -> FileReply:
    write_volume(volume, path, record.note, lasting=False)
    return FileReply(path, media_type=Octets.media_type, filename=path.name)


@variants.post("/accept")
def accept(
    variant: TheVariant,
    service: TheService,
    studies: TheStudies,
    client: TheClient,
    body: Annotated[wire.AcceptBody | None, Body()] = None,
) -> wire.Accepted:
    """Make it a case of the datastore: image and final label. Doing it twice makes one case."""
    case = case_of(variant, client)
    image = accept_case(studies, replace(case, image=body.image) if body else case)
    service.jobs.accept(variant.record, variant.number, image)
    return wire.Accepted(image=image, label=TAG)


def case_of(variant: Variant, user: str) -> AcceptedCase:
    """A variant as a case to accept. Raises Gone, Discarded, UnknownReference, InvalidRequest."""
    made, reference = variant.stored.result(variant.number), variant.stored.order.reference
    mask, names = variant.stored.final_label(made)
    return AcceptedCase(
        synthetic=made.volume(),
        mask=mask,
        provenance=made.provenance,
        reference_id=None if reference is None else reference.image or str(reference.sha256),
        user=user,
        key=f"{variant.record.id}-{variant.number}",
        label_names=names,
    )


@variants.post("/discard")
def discard(variant: TheVariant, service: TheService) -> JobStatus:
    """Its bytes go; asked for again, the answer is 410. What was accepted stays in the datastore."""
    variant.stored.discard(variant.number)
    service.jobs.discard(variant.record, variant.number)
    return service.jobs.status(variant.record)


def _takes_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header names gzip, and not to refuse it (RFC 9110, 12.5.3)."""
    for part in accept_encoding.lower().split(","):
        name, _, weight = part.partition(";")
        if name.strip() == "gzip":
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
