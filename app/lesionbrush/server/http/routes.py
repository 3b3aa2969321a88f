"""The routes that are ours, in an app of their own that stands before MONAI Label's.

Work with files and models is done in functions without `async`, which the framework runs in threads, or
`few_at_a_time`: the event loop stays free. What touches MONAI Label's datastore is `async`, and so runs in
the event loop alone; so does what takes microseconds, because a thread costs more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from anyio import CancelScope, move_on_after
from fastapi import APIRouter, Depends, FastAPI, File, Form, Query, Request, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from lesionbrush.core.model import EditHooks
from lesionbrush.core.registry import find_model
from lesionbrush.errors import InvalidRequest
from lesionbrush.server.errors import HANDLERS
from lesionbrush.server.http.datastore_routes import router as datastore
from lesionbrush.server.http.deps import (
    RequestFiles,
    TheClient,
    TheRequestFiles,
    TheRuns,
    TheService,
    TheStudies,
    asker,
    read_made_from,
    the_vault,
)
from lesionbrush.server.http.downloads import router as downloads
from lesionbrush.server.http.job_routes import PREFIX, job_app
from lesionbrush.server.http.replies import Kind, reply
from lesionbrush.server.jobs.board import Jobs
from lesionbrush.server.jobs.job import JobRecord
from lesionbrush.server.stock.label_map import extract_lesion, label_map_of
from lesionbrush.server.stock.routes import router as stock
from lesionbrush.server.stock.runs import Runs, UnseenRun
from lesionbrush.server.stock.stale import TrueBoundary
from lesionbrush.server.stock.strategies import NextWithoutCase, list_strategies
from lesionbrush.server.stock.words import Words, require_device, split
from lesionbrush.server.storage.cases import TAG
from lesionbrush.server.storage.sessions import keep_upload
from lesionbrush.server.storage.studies import Studies
from lesionbrush.server.storage.uploads import receive_reference, suffix_of
from lesionbrush.server.synthesis.inference import Service, SynthesisOutput, output_of, require_done, submit
from lesionbrush.server.synthesis.order import Order, ReferenceCT
from lesionbrush.server.synthesis.stored import ticket_of
from lesionbrush.server.threads import few_at_a_time
from lesionbrush.systems import find_system, parse_request

HANG_UP_S = 1.0
"""How often it is looked whether the client is still there."""
LABEL_STEM = "lesion_label"

router = APIRouter()


def front_app(
    service: Service, studies: Studies, strategies: Mapping[str, NextWithoutCase] | None = None
) -> FastAPI:
    """strategies: of Next Sample, by name; MONAI Label lists its own app's."""
    app = FastAPI(openapi_url=None, exception_handlers=HANDLERS)
    app.state.service, app.state.studies, app.state.runs = service, studies, Runs()
    app.state.strategies = strategies or list_strategies(np.random.default_rng())
    for routes in (router, datastore, downloads, stock):
        app.include_router(routes)
    app.add_middleware(TrueBoundary)
    app.mount(PREFIX, job_app(service, studies))
    return app


class InferQuery(BaseModel):
    """image: id of a stored CT, where none is uploaded; session_id: its CT is taken, whatever `image` says.

    format: of the result, by default the reference's.
    """

    model_config = ConfigDict(extra="forbid")

    image: str = ""
    session_id: str = Field("", pattern=r"^([0-9a-f]{32})?$")
    output: Kind = "all"
    format: Literal["nii", "nii.gz", "nrrd", "mha"] | None = None


class Uploads(NamedTuple):
    params: str
    file: UploadFile | None
    label: UploadFile | None
    record: str | None


async def uploads(
    params: Annotated[str, Form()] = "{}",
    file: Annotated[UploadFile | None, File()] = None,
    label: Annotated[UploadFile | None, File()] = None,
    record: Annotated[str | None, Form()] = None,
) -> Uploads:
    return Uploads(params, file, label, record)


class Named(NamedTuple):
    """The CT that a query names. label: the mask that is stored with it, looked for where none was sent."""

    reference: ReferenceCT
    label: Path | None = None


async def hold_reference(
    query: Annotated[InferQuery, Query()],
    sent: Annotated[Uploads, Depends(uploads)],
    studies: TheStudies,
    service: TheService,
) -> AsyncIterator[Named | None]:
    """The CT that the query names; it stays until the answer is out.

    Raises UnknownSession, UnknownReference, UnknownImage, and for studies in an archive what that raises.
    """
    if query.session_id:
        vault = await the_vault(service)
        session = await run_in_threadpool(vault.sessions.use, query.session_id)
        path = await run_in_threadpool(vault.references.hold, session.reference)
        try:
            yield Named(ReferenceCT(path, sha256=session.reference))
        finally:
            with CancelScope(shield=True):
                await run_in_threadpool(vault.references.release, session.reference)
        return
    if not query.image:
        yield None
        return
    label = ""
    path = studies.locate(query.image)
    if sent.label is None:
        await run_in_threadpool(studies.fetch_label, query.image, TAG)
        label = studies.get_label_uri(query.image, TAG)
    yield Named(ReferenceCT(path, query.image), Path(label) if label else None)


@dataclass(frozen=True)
class Received:
    """An order at MONAI Label's own address. suffix: of the answer's file, None for no file at all."""

    order: Order
    words: Words
    folder: Path
    suffix: str | None


@few_at_a_time
def receive_order(
    model: str,
    query: Annotated[InferQuery, Query()],
    sent: Annotated[Uploads, Depends(uploads)],
    named: Annotated[Named | None, Depends(hold_reference)],
    files: TheRequestFiles,
    service: TheService,
) -> Received:
    """The request with its files in place.

    Raises UnknownModel, InvalidRequest, DamagedFile, TooLarge, StorageFull.
    """
    card = find_model(model, service.models.root).card
    hooks = find_system(card.system).hooks
    if not isinstance(hooks, EditHooks):
        raise InvalidRequest(
            f"model {model!r} makes whole CTs, and this route edits one: ask POST {PREFIX}/jobs for them"
        )
    words, rest = split(sent.params)
    request = parse_request(rest, card.system)
    require_device(words, service.jobs.devices)
    if hooks.needs_mask and sent.label is None and (named is None or named.label is None):
        raise InvalidRequest(
            "there is no mask: send it as the file 'label', or store it as label 'final' of the image"
        )
    reference = _reference(service, named, sent.file, words, files.folder)
    suffix = None if query.output == "json" else _result_suffix(query, words, reference.path)
    value_is_said = getattr(request, "label", None) is not None  # of the lesion
    mask = _mask(sent.label, named, files, None if value_is_said else words)
    made_from = read_made_from(reference, sent.record)
    order = Order(model, request, reference, mask, files.inputs(card), made_from)
    return Received(order, words, files.folder, suffix)


def _reference(
    service: Service, named: Named | None, file: UploadFile | None, words: Words, folder: Path
) -> ReferenceCT:
    if file is None and named is not None:
        return named.reference
    if file is None or named is not None:
        raise InvalidRequest(
            "send one reference CT: the id of a stored one as 'image', the file 'file', or a session"
        )
    if words.wants_label_map and service.vault is not None:  # its synthetic CT may be asked for later
        kept = keep_upload(service.vault.references, file)
        return ReferenceCT(service.vault.references.path(kept.reference), sha256=kept.reference)
    return ReferenceCT(receive_reference(file, folder))


def _mask(
    label: UploadFile | None, named: Named | None, files: RequestFiles, words: Words | None
) -> Path | None:
    """What was sent, else what is stored with the image. words: may say which part of the sent is meant."""
    if label is not None:
        mask = files.mask(label)
        return mask if words is None else extract_lesion(mask, words)
    return None if named is None or named.label is None else files.take_stored_mask(named.label)


def _result_suffix(query: InferQuery, words: Words, reference: Path) -> str:
    if query.format or words.result_extension:
        return f".{query.format}" if query.format else str(words.result_extension)
    return ".nii.gz" if reference.is_dir() else suffix_of(reference.name)


@router.post("/infer/{model}")
async def infer(
    request: Request,
    received: Annotated[Received, Depends(receive_order)],
    query: Annotated[InferQuery, Query()],
    service: TheService,
    client: TheClient,
    runs: TheRuns,
) -> Response:
    """The reference CT with the lesion in it, or the lesion's label map. Waits for its turn among jobs."""
    client = asker(request, client, received.words.client_id)
    order = received.order
    if not received.words.wants_label_map:
        record, work = submit(service, order, client)
        await _over(request, service.jobs, record)
        output = await run_in_threadpool(output_of, record, work, received.folder, received.suffix)
        return reply(output, query.output)
    ticket = ticket_of(service, await the_vault(service), order, client)
    ticket = replace(ticket, what=f"infer {order.model}")
    record = await run_in_threadpool(service.jobs.submit, ticket)
    await _over(request, service.jobs, record)
    output = await run_in_threadpool(_show, service, record, received)
    runs.remember(client, query.image, UnseenRun(record.id, received.words.selected_label_name))
    return reply(output, query.output)


def _show(service: Service, record: JobRecord, received: Received) -> SynthesisOutput:
    """Raises what ended the job, StorageFull."""
    require_done(record)
    name = f"{LABEL_STEM}{received.suffix or '.nii.gz'}"
    return label_map_of(service, record, received.words, received.folder / name)


async def _over(request: Request, jobs: Jobs, record: JobRecord) -> None:
    """Return once the job is over; it is cancelled when its client hangs up, or the server stops."""
    try:
        with record.feed.listening() as bell:
            while not record.state.over:
                if await request.is_disconnected():
                    jobs.cancel(record, "cancelled: its client hung up")
                with move_on_after(HANG_UP_S):
                    await bell.wait()
                bell.clear()
    except asyncio.CancelledError:
        jobs.cancel(record)
        raise
