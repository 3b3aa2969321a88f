"""Synthesis by the one long request of a server that has no job routes."""

import io
import json
from contextlib import ExitStack
from typing import Any, Optional
from urllib.parse import quote
from zipfile import BadZipFile, ZipFile

from .boxes import Box
from .orders import Order
from .transport import Call, Transport
from .uploads import Upload, nifti_voxels
from .wire import CHUNK_BYTES, BrokenAnswer, Form, OnProgress, read_answer

SILENT_S = 1800.0
"""Such a server says nothing until it is done."""

Results = tuple[list[Box], list[dict[str, Any]]]


def infer(transport: Transport, order: Order, on_upload: Optional[OnProgress] = None) -> Results:
    """The boxes of all variants and their records. Raises ServerError, ServerUnreachable."""
    params = {**order.params, "output": "box"}
    query = {"output": "all", "format": "nii"}
    files = {"label": order.mask.part("mask")}
    with ExitStack() as stack:
        if isinstance(order.reference, Upload):
            files["file"] = stack.enter_context(order.reference.packed()).part("reference")
        else:
            query["image"] = order.reference
        form = Form({"params": json.dumps(params)}, files, on_upload)
        call = Call("POST", f"/infer/{quote(order.model, safe='')}", query, form, timeout_s=SILENT_S)
        with transport.send(call) as response:
            content = io.BytesIO()
            record = read_answer(response.iter_content(CHUNK_BYTES), content)
            return _boxes(content.getvalue(), record)


def _boxes(content: bytes, record: "dict[str, Any]") -> Results:
    try:
        provenances = list(record["variants"])
        files = [content] if len(provenances) == 1 else _unpacked(content)
        if len(files) != len(provenances):
            raise BrokenAnswer(f"{len(files)} volumes came for {len(provenances)} variants")
        return [_box(file, said) for file, said in zip(files, provenances)], provenances
    except (KeyError, TypeError, ValueError, BadZipFile) as error:
        raise BrokenAnswer(f"the answer holds no changed boxes: {error!r}") from error


def _unpacked(content: bytes) -> "list[bytes]":
    with ZipFile(io.BytesIO(content)) as zipped:
        return [zipped.read(entry) for entry in zipped.infolist() if entry.filename.endswith(".nii")]


def _box(content: bytes, provenance: "dict[str, Any]") -> Box:
    i, j, k = (int(start) for start in provenance["box_offset"])
    voxels = nifti_voxels(content, tuple(int(length) for length in provenance["box_shape"]))
    if voxels is None:
        raise BrokenAnswer("the box is no NIfTI of 16-bit integers")
    return Box(voxels, (i, j, k), str(provenance["reference_sha256"]))
