"""The routes that are ours, in an app of their own that stands before MONAI Label's.

Work with files and models is done in functions without `async`, which the framework runs in threads: the
event loop stays free. What touches MONAI Label's datastore is `async`, and so runs in the event loop alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal, NamedTuple

from fastapi import APIRouter, Depends, FastAPI, File, Form, Query, Request, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from monailabel.endpoints.user.auth import RBAC
from pydantic import BaseModel, ConfigDict

from lesionbrush.errors import InvalidRequest
from lesionbrush.request import parse_request
from lesionbrush.server.errors import HANDLERS
from lesionbrush.server.inference import Job, Service, run_inference
from lesionbrush.server.replies import Kind, reply
from lesionbrush.server.studies import Studies
from lesionbrush.server.uploads import receive_mask, receive_reference, stored, suffix_of

router = APIRouter(dependencies=[Depends(RBAC("*"))])  # MONAI Label's access control, where it is switched on


def front_app(service: Service, studies: Studies) -> FastAPI:
    app = FastAPI(openapi_url=None, exception_handlers=HANDLERS)
    app.state.service, app.state.studies = service, studies
    app.include_router(router)
    return app


def the_service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def the_studies(request: Request) -> Studies:
    studies: Studies = request.app.state.studies
    return studies


def workspace() -> Iterator[Path]:
    """A private folder (0700) that goes once the response is out, or the request has failed."""
    with TemporaryDirectory(prefix="lesionbrush-") as folder:
        yield Path(folder)


TheService = Annotated[Service, Depends(the_service)]
TheStudies = Annotated[Studies, Depends(the_studies)]
Workspace = Annotated[Path, Depends(workspace)]


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


def uploads(
    params: Annotated[str, Form()] = "{}",
    file: Annotated[UploadFile | None, File()] = None,
    label: Annotated[UploadFile | None, File()] = None,
) -> Uploads:
    return Uploads(params, file, label)


async def stored_image(query: Annotated[InferQuery, Query()], studies: TheStudies) -> Path | None:
    return studies.locate(query.image) if query.image else None


def received_job(
    model: str,
    query: Annotated[InferQuery, Query()],
    sent: Annotated[Uploads, Depends(uploads)],
    image: Annotated[Path | None, Depends(stored_image)],
    folder: Workspace,
) -> Job:
    """The request with its files in place. Raises InvalidRequest, DamagedFile, TooLarge, StorageFull."""
    request = parse_request(sent.params)
    if sent.label is None:
        raise InvalidRequest("there is no mask: send it as the file 'label'")
    reference = _reference(image, sent.file, folder)
    suffix = None if query.output == "json" else _result_suffix(query, reference)
    return Job(model, reference, image is not None, receive_mask(sent.label, folder), request, folder, suffix)


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
def infer(
    job: Annotated[Job, Depends(received_job)], query: Annotated[InferQuery, Query()], service: TheService
) -> Response:
    """The reference CT with the lesion in it."""
    return reply(run_inference(service, job), query.output)


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
    await run_in_threadpool(stored, file.file, place)
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
    await run_in_threadpool(stored, label.file, place)
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
