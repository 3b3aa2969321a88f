"""The routes of protocol 1: references, jobs and their news. See docs/wire.md.

They are an app of their own below `PREFIX`, so that its OpenAPI document describes these and no others.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Depends, FastAPI, File, Form, Header, Query, Request, UploadFile
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

import lesionbrush
from lesionbrush.core.model import EditHooks
from lesionbrush.core.registry import find_model
from lesionbrush.errors import EmptyMask, InvalidRequest
from lesionbrush.server.doors.limits import SizeLimits
from lesionbrush.server.errors import HANDLERS
from lesionbrush.server.http import wire
from lesionbrush.server.http.cohort_routes import cohorts
from lesionbrush.server.http.deps import (
    Key,
    TheClient,
    TheJob,
    TheRequestFiles,
    TheService,
    TheStudies,
    TheVault,
    document_parts,
    read_made_from,
)
from lesionbrush.server.http.stream import last_event_id, news
from lesionbrush.server.http.variant_routes import variants
from lesionbrush.server.jobs.errors import NoPreview
from lesionbrush.server.jobs.job import JobStatus, Ticket
from lesionbrush.server.storage.studies import Studies
from lesionbrush.server.storage.vault import Format
from lesionbrush.server.synthesis.facts import model_facts
from lesionbrush.server.synthesis.inference import Service
from lesionbrush.server.synthesis.order import Order, ReferenceCT
from lesionbrush.server.synthesis.stored import ticket_of
from lesionbrush.server.threads import few_at_a_time
from lesionbrush.systems import find_system, parse_request

PREFIX = "/lesionbrush/v1"

router = APIRouter()


class EventStream(StreamingResponse):
    media_type = "text/event-stream"


class Png(Response):
    media_type = "image/png"


REFUSALS: dict[int | str, dict[str, Any]] = {"4XX": {"model": wire.Refusal}, "5XX": {"model": wire.Refusal}}


def job_app(service: Service, studies: Studies) -> FastAPI:
    app = FastAPI(
        title="LesionBrush",
        version=str(wire.PROTOCOL),
        description="Paint a lesion on a CT, get the same CT with it. Outputs are synthetic.",
        docs_url=None,
        redoc_url=None,
        exception_handlers=HANDLERS,
    )
    app.state.service, app.state.studies = service, studies
    for routes in (router, variants, cohorts):
        app.include_router(routes, responses=REFUSALS)
    return app


@router.get("/")
def server_facts(service: TheService, request: Request) -> wire.ServerFacts:
    """Version, models, limits and devices."""
    limits = service.jobs.limits
    facts = model_facts(service.models.root, service.weights)
    return wire.ServerFacts(
        version=lesionbrush.__version__,
        protocol=wire.PROTOCOL,
        models={name: wire.ModelFacts.model_validate(said) for name, said in facts.items()},
        limits=wire.Limits(
            upload_bytes=SizeLimits.current().upload_bytes,
            queue_length=limits.queue_length,
            jobs_per_client=limits.per_client,
            job_seconds=limits.job_seconds,
            result_seconds=limits.result_seconds,
        ),
        devices=list(service.jobs.devices),
        read_only=bool(request.scope.get("lesionbrush_read_only", False)),
    )


@router.get("/references/{reference}")
def reference_facts(reference: wire.Sha256, vault: TheVault) -> wire.ReferenceFacts:
    """Whether a CT is here already, by the SHA-256 of its file."""
    return wire.ReferenceFacts.model_validate(vault.references.about(reference), from_attributes=True)


_BYTES = {"schema": {"type": "string", "format": "binary"}}
BODY = {"requestBody": {"required": True, "content": {"application/octet-stream": _BYTES}}}
IT_WAS_HERE: dict[int | str, dict[str, Any]] = {200: {"model": wire.ReferenceFacts}}


@router.put("/references/{reference}", status_code=201, openapi_extra=BODY, responses=IT_WAS_HERE)
async def put_reference(
    request: Request, response: Response, reference: wire.Sha256, format: Format, vault: TheVault
) -> wire.ReferenceFacts:
    """Store a CT by the SHA-256 of its file: a volume, or a DICOM series as zip. 200: it was here already."""
    if reference in vault.references.shelf:
        async for _ in request.stream():  # read, so that the client hears the answer
            pass
        response.status_code = 200
        return wire.ReferenceFacts.model_validate(vault.references.about(reference), from_attributes=True)
    size_bytes = int(request.headers.get("content-length", "0"))
    about = await vault.references.receive(reference, format, request.stream(), size_bytes)
    return wire.ReferenceFacts.model_validate(about, from_attributes=True)


class SubmitQuery(BaseModel):
    """One of reference (hash of an uploaded CT) and image (id of a stored one).

    abandon_after: cancel the job when its client neither asked nor listened for so many seconds.
    """

    model_config = ConfigDict(extra="forbid")

    model: str = Field(pattern=r"^[a-z0-9_]{1,128}$")
    reference: wire.Sha256 | None = None
    image: str | None = Field(None, pattern=wire.NAME_PATTERN)
    abandon_after: float | None = Field(None, ge=1, le=86400)


async def locate_image(query: Annotated[SubmitQuery, Query()], studies: TheStudies) -> Path | None:
    return studies.locate(query.image) if query.image else None


class Sent(NamedTuple):
    """What came in the form, but for the inputs of the model, which have their own names."""

    params: str
    label: UploadFile | None
    record: str | None


async def receive_form(
    params: Annotated[str, Form(description="the model's parameters as JSON, see its schema")] = "{}",
    label: Annotated[UploadFile | None, File(description="the mask of an edit, a volume file")] = None,
    record: Annotated[
        str | None, Form(description="the record of an uploaded CT that is synthetic itself, JSON")
    ] = None,
) -> Sent:
    return Sent(params, label, record)


@few_at_a_time
def the_order(
    query: Annotated[SubmitQuery, Query()],
    sent: Annotated[Sent, Depends(receive_form)],
    image: Annotated[Path | None, Depends(locate_image)],
    files: TheRequestFiles,
    service: TheService,
    vault: TheVault,
) -> Order:
    """What is asked for, with its files in place.

    Raises InvalidRequest, EmptyMask, UnknownModel, UnknownImage, UnknownReference, DamagedFile, StorageFull.
    """
    card = find_model(query.model, service.models.root).card
    request = parse_request(sent.params, card.system)
    hooks = find_system(card.system).hooks
    if not isinstance(hooks, EditHooks):
        _require_nothing_to_edit(card.name, query, sent)
        return Order(query.model, request, inputs=files.inputs(card))
    if sent.label is None and hooks.needs_mask:
        raise EmptyMask("there is no mask: paint a lesion and send it as the file 'label'")
    if (query.reference is None) == (query.image is None):
        raise InvalidRequest("name one CT: an uploaded one as 'reference', or a stored one as 'image'")
    path = image or vault.references.path(str(query.reference))
    reference = ReferenceCT(path, query.image, query.reference)
    made_from = read_made_from(reference, sent.record)
    mask = None if sent.label is None else files.mask(sent.label)
    return Order(query.model, request, reference, mask, files.inputs(card), made_from)


def _require_nothing_to_edit(model: str, query: SubmitQuery, sent: Sent) -> None:
    """InvalidRequest for what a whole new CT has no use of."""
    came = {"mask": sent.label, "reference": query.reference, "image": query.image, "record": sent.record}
    extra = [name for name, value in came.items() if value is not None]
    if extra:
        raise InvalidRequest(f"model {model!r} makes whole CTs: leave out the {' and the '.join(extra)}")


def the_ticket(
    query: Annotated[SubmitQuery, Query()],
    order: Annotated[Order, Depends(the_order)],
    service: TheService,
    vault: TheVault,
    client: TheClient,
    key: Key = None,
) -> Ticket:
    ticket = ticket_of(service, vault, order, client)
    content = order.digest() if key else ""
    return replace(ticket, abandon_after_s=query.abandon_after, key=key, content=content)


@router.post("/jobs", status_code=202, openapi_extra=document_parts())
def submit(
    response: Response, ticket: Annotated[Ticket, Depends(the_ticket)], service: TheService
) -> JobStatus:
    """A job in the queue. With an Idempotency-Key that came before, the job that came with it."""
    record = service.jobs.submit(ticket)
    response.headers["Location"] = f"{PREFIX}/jobs/{record.id}"
    return service.jobs.status(record)


@router.get("/jobs/{job}")
def status(record: TheJob, service: TheService) -> JobStatus:
    return service.jobs.status(record)


@router.delete("/jobs/{job}")
def cancel(record: TheJob, service: TheService) -> JobStatus:
    """Cancel it; one that is over is forgotten, with its result. A running one ends at its next step."""
    if record.state.over:
        service.jobs.forget(record)
    else:
        service.jobs.cancel(record)
    return service.jobs.status(record)


@router.get("/jobs/{job}/events", response_class=EventStream)
async def events(
    record: TheJob,
    service: TheService,
    last_seen: Annotated[str | None, Header(alias="Last-Event-ID", description="continue after it")] = None,
) -> StreamingResponse:
    """Server-sent events until the job is over: `status` (a JobStatus) and `preview` (step, PNG)."""
    stream = news(service.jobs, record, last_event_id(last_seen))
    return EventStream(stream, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})


@router.get("/jobs/{job}/preview", response_class=Png)
def preview(record: TheJob) -> Response:
    """The newest picture of what is becoming of it: middle axial slice, lung window."""
    newest = record.preview
    if newest is None:
        raise NoPreview("there is no preview: none was made yet, or the job ended without a result")
    return Png(newest[1], headers={"Cache-Control": "no-store", "X-LesionBrush-Step": str(newest[0])})
