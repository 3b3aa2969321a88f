"""What goes over the wire of `/lesionbrush/v1`: bodies, answers and headers. `docs/wire.md` explains them."""

from __future__ import annotations

import base64
import json
from typing import Annotated, Any

from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field

from lesionbrush.core.provenance import Provenance
from lesionbrush.server.jobs.job import JobStatus, Problem

PROTOCOL = 1
NAME_PATTERN = r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$"
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
JobId = Annotated[str, Field(pattern=r"^[0-9a-f]{24}$")]


class Refusal(BaseModel):
    """The shape of every error."""

    detail: Problem


class ModelFacts(BaseModel):
    """card: what it is and may be used for; schema: of the parameters; problem: null when it can run."""

    model_config = ConfigDict(populate_by_name=True)

    card: dict[str, Any]
    parameters: dict[str, Any] = Field(alias="schema")
    problem: str | None


class Limits(BaseModel):
    """queue_length: jobs that may wait, jobs_per_client: of one client; *_seconds: see docs/wire.md."""

    upload_bytes: int
    queue_length: int
    jobs_per_client: int
    job_seconds: float
    result_seconds: float


class ServerFacts(BaseModel):
    """What a client should know before it asks for more."""

    version: str
    protocol: int
    models: dict[str, ModelFacts]
    limits: Limits
    devices: list[str]
    read_only: bool


class ReferenceFacts(BaseModel):
    """reference: SHA-256 of the uploaded bytes; voxel_sha256: of the HU as int16, i fastest."""

    reference: str
    voxel_sha256: str
    shape: tuple[int, ...]
    bytes: int


class AcceptBody(BaseModel):
    """image: the id the new case should have; chosen by the server when left out."""

    model_config = ConfigDict(extra="forbid")

    image: str | None = Field(None, pattern=NAME_PATTERN)


class Accepted(BaseModel):
    """The case in the datastore: its image, and the tag of its label."""

    image: str
    label: str


class CohortStarted(BaseModel):
    """cohort: its name in the list; job: that makes it, to be followed as any other; it has no variants."""

    cohort: str
    job: JobStatus


def box_response(record: Provenance, content: bytes, box_sha256: str, zipped: bool) -> Response:
    """The changed voxels, raw or as gzip, with what is needed to put them in place."""
    headers = {
        "X-LesionBrush-Shape": ",".join(map(str, record.box_shape)),
        "X-LesionBrush-Offset": ",".join(map(str, record.box_offset)),
        "X-LesionBrush-Reference-Voxels": record.reference_sha256 or "",
        "X-LesionBrush-Box": box_sha256,
        "Vary": "Accept-Encoding",
    }
    if zipped:
        headers["Content-Encoding"] = "gzip"
    return Response(content, media_type="application/octet-stream", headers=headers)


def status_event(number: int, status: JobStatus) -> str:
    return f"id: {number}\nevent: status\ndata: {status.model_dump_json()}\n\n"


def preview_event(number: int, step: int, png: bytes) -> str:
    data = json.dumps({"step": step, "png": base64.b64encode(png).decode("ascii")})
    return f"id: {number}\nevent: preview\ndata: {data}\n\n"


ALIVE = ": alive\n\n"
