"""The routes that are ours, in an app of their own that stands before MONAI Label's.

Work with files and models is done in functions without `async`, which the framework runs in threads, or
`few_at_a_time`: the event loop stays free. What touches MONAI Label's datastore is `async`, and so runs in
the event loop alone; so does what takes microseconds, because a thread costs more.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from anyio import move_on_after
from fastapi import APIRouter, Depends, FastAPI, File, Form, Query, Request, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict

from lesionbrush.errors import InvalidRequest
from lesionbrush.registry import find_model
from lesionbrush.request import parse_request
from lesionbrush.server.aside import few_at_a_time
from lesionbrush.server.errors import HANDLERS
from lesionbrush.server.http.deps import TheClient, TheIncoming, TheService, TheStudies
from lesionbrush.server.http.downloads import router as downloads
from lesionbrush.server.http.job_routes import PREFIX, job_app
from lesionbrush.server.http.replies import Kind, reply
from lesionbrush.server.jobs.board import Jobs
from lesionbrush.server.jobs.job import JobRecord
from lesionbrush.server.storage.studies import Studies
from lesionbrush.server.storage.uploads import receive_reference, stored, suffix_of
from lesionbrush.server.synthesis.inference import Job, Service, output_of, submitted

HANG_UP_S = 1.0
"""How often it is looked whether the client is still there."""

router = APIRouter()


def front_app(service: Service, studies: Studies) -> FastAPI:
    app = FastAPI(openapi_url=None, exception_handlers=HANDLERS)
    app.state.service, app.state.studies = service, studies
    app.include_router(router)
    app.include_router(downloads)
    app.mount(PREFIX, job_app(service, studies))
    return app


class InferQuery(BaseModel):
    """image: id of a stored CT, where none is uploaded; format: of the result, by default the reference's."""

    model_config = ConfigDict(extra="forbid")

    image: str = ""
    output: Kind = "all"
    format: Literal["nii", "nii.gz", "nrrd", "mha"] | None = None


class Uploads(NamedTuple):
    params: str
    file: UploadFile | None
    label: UploadFile | None


async def uploads(
    params: Annotated[str, Form()] = "{}",
    file: Annotated[UploadFile | None, File()] = None,
    label: Annotated[UploadFile | None, File()] = None,
) -> Uploads:
    return Uploads(params, file, label)


async def stored_image(query: Annotated[InferQuery, Query()], studies: TheStudies) -> Path | None:
    return studies.locate(query.image) if query.image else None


@few_at_a_time
def received_job(
    model: str,
    query: Annotated[InferQuery, Query()],
    sent: Annotated[Uploads, Depends(uploads)],
    image: Annotated[Path | None, Depends(stored_image)],
    files: TheIncoming,
    service: TheService,
) -> Job:
    """The request with its files in place.

    Raises UnknownModel, InvalidRequest, DamagedFile, TooLarge, StorageFull.
    """
    card = find_model(model, service.models.root).card
    request = parse_request(sent.params, card.system)
    if sent.label is None:
        raise InvalidRequest("there is no mask: send it as the file 'label'")
    reference = _reference(image, sent.file, files.folder)
    suffix = None if query.output == "json" else _result_suffix(query, reference)
    mask, inputs = files.mask(sent.label), files.inputs(card)
    return Job(model, reference, image is not None, mask, request, files.folder, suffix, inputs)


def _reference(image: Path | None, file: UploadFile | None, folder: Path) -> Path:
    if file is None and image is not None:
        return image
    if file is not None and image is None:
        return receive_reference(file, folder)
    raise InvalidRequest("send one reference CT: the id of a stored one as 'image', or the file 'file'")


def _result_suffix(query: InferQuery, reference: Path) -> str:
    if query.format:
        return f".{query.format}"
    return ".nii.gz" if reference.is_dir() else suffix_of(reference.name)


@router.post("/infer/{model}")
async def infer(
    request: Request,
    job: Annotated[Job, Depends(received_job)],
    query: Annotated[InferQuery, Query()],
    service: TheService,
    client: TheClient,
) -> Response:
    """The reference CT with the lesion in it. Waits for its turn among the jobs."""
    record, work = submitted(service, job, client, f"infer {job.model}")
    await _over(request, service.jobs, record)
    return reply(await run_in_threadpool(output_of, service, record, work), query.output)


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


@router.get("/datastore/")
async def list_images(studies: TheStudies, output: Literal["stats", "all"] = "stats") -> dict[str, Any]:
    studies.refresh()
    listing: dict[str, Any] = studies.json() if output == "all" else studies.status()
    return listing


@router.put("/datastore/image")
async def put_image(
    image: str, file: UploadFile, studies: TheStudies, params: Annotated[str, Form()] = "{}"
) -> dict[str, str]:
    info = _json_object(params)
    place = studies.place_for_image(image, file.filename or "")
    await few_at_a_time(stored)(file.file, place)
    studies.refresh()
    studies.update_image_info(image, info)
    return {"image": image}


@router.put("/datastore/label")
async def put_label(
    image: str,
    label: UploadFile,
    studies: TheStudies,
    tag: str = "final",
    params: Annotated[str, Form()] = "{}",
) -> dict[str, str]:
    info = _json_object(params)
    place = studies.place_for_label(image, tag, label.filename or "")
    await few_at_a_time(stored)(label.file, place)
    studies.refresh()
    studies.update_label_info(image, tag, info)
    return {"image": image, "label": image}


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidRequest(f"params is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidRequest("params is not a JSON object")
    return value
