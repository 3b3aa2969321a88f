"""Listing the datastore and writing into it, at MONAI Label's own addresses; `downloads` reads from it."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from fastapi import APIRouter, Depends, Form, Request, UploadFile

from lesionbrush.core.volume import mask_on_grid
from lesionbrush.errors import EmptyMask, InvalidRequest
from lesionbrush.files.io import read_volume
from lesionbrush.server.http.deps import (
    RequestFiles,
    TheClient,
    TheRequestFiles,
    TheService,
    TheStudies,
    asker,
)
from lesionbrush.server.stock.label_map import KEPT, Submission, submit
from lesionbrush.server.stock.runs import Runs, UnseenRun
from lesionbrush.server.stock.words import understand
from lesionbrush.server.storage.cases import TAG
from lesionbrush.server.storage.uploads import store
from lesionbrush.server.synthesis.inference import Service
from lesionbrush.server.threads import few_at_a_time

router = APIRouter()


@router.get("/datastore/")
async def list_images(studies: TheStudies, output: Literal["stats", "all"] = "stats") -> dict[str, Any]:
    studies.refresh()
    listing: dict[str, Any] = studies.json() if output == "all" else studies.status()
    return listing


@router.put("/datastore/")  # as MONAI Label's own client still calls it
@router.put("/datastore/image")
async def put_image(
    image: str, file: UploadFile, studies: TheStudies, params: Annotated[str, Form()] = "{}"
) -> dict[str, str]:
    info = _json_object(params)
    place = studies.place_for_image(image, file.filename or "")
    await few_at_a_time(store)(file.file, place)
    studies.refresh()
    studies.update_image_info(image, info)
    return {"image": image}


class SentLabel(NamedTuple):
    """A label on its way in. info: what is to be noted with it; run: whose CT is kept for it, if any."""

    image: str
    tag: str
    file: UploadFile
    info: dict[str, Any]
    client: str
    run: UnseenRun | None


async def receive_label(
    request: Request,
    image: str,
    label: UploadFile,
    client: TheClient,
    tag: str = TAG,
    params: Annotated[str, Form()] = "{}",
) -> SentLabel:
    """Raises InvalidRequest."""
    info = _json_object(params)
    client = asker(request, client, info.get("client_id"))
    runs: Runs = request.app.state.runs
    return SentLabel(image, tag, label, info, client, runs.find(client, image) if tag == TAG else None)


@router.put("/datastore/label")
async def put_label(
    sent: Annotated[SentLabel, Depends(receive_label)],
    studies: TheStudies,
    service: TheService,
    files: TheRequestFiles,
) -> dict[str, Any]:
    """Store a label. That of a lesion whose synthetic CT is kept becomes a case, see `stock.label_map`."""
    both = {"image": sent.image, "label": sent.image}
    if sent.run is not None:
        uri = studies.get_image_uri(sent.image)
        words = understand({"label_info": sent.info.get("label_info", ())})
        mask = await few_at_a_time(files.mask)(sent.file)
        submission = Submission(sent.image, Path(uri) if uri else None, mask, words, sent.client)
        cases = await few_at_a_time(submit)(service, studies, sent.run, submission)
        return {**both, "cases": cases, "note": KEPT}
    place = studies.place_for_label(sent.image, sent.tag, sent.file.filename or "")
    await few_at_a_time(_require_fitting)(service, studies.locate(sent.image), sent.file, files)
    await few_at_a_time(store)(sent.file.file, place, checked=True)
    studies.refresh()
    studies.update_label_info(sent.image, sent.tag, sent.info)
    return both


def _require_fitting(service: Service, image: Path, label: UploadFile, files: RequestFiles) -> None:
    """A label is not overwritten, so it has to be one, on the grid of its image; it may be empty.

    Raises InvalidRequest, GeometryMismatch, and what reading the two raises.
    """
    mask = read_volume(files.mask(label))
    label.file.seek(0)
    if mask.array.dtype.kind not in "biuf" or mask.value_range[0] < 0:
        raise InvalidRequest(
            f"the label holds values that are no labels (lowest {mask.value_range[0]:g}); use 0, 1, 2, ..."
        )
    with suppress(EmptyMask):
        mask_on_grid(mask.with_array((mask.array != 0).astype(np.uint8)), service.load_ct(image))


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidRequest(f"params is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidRequest("params is not a JSON object")
    return value
