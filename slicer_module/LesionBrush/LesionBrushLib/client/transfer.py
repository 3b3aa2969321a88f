"""CTs on their way to a server, each once; results on their way back, none that is not whole."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np

from .answers import StoredReference
from .boxes import Array, Box
from .errors import ServerError
from .nifti import read_nifti
from .orders import Labels
from .patience import IsCancelled, Patience, interruptible, retrying, stop_if, watched
from .transport import Call, Transport, reference_path
from .uploads import Upload
from .wire import CHUNK_BYTES, Body, BrokenAnswer, OnProgress

_HEADER = "X-LesionBrush-"
SLOW_S = 600.0
"""Reading, writing or passing on a whole CT, before a server says the first byte."""


def find_reference(transport: Transport, sha256: str) -> Optional[StoredReference]:
    """The reference whose file has this hash, None when the server has it not."""
    try:
        return transport.ask(Call("GET", reference_path(sha256)), StoredReference.from_json)
    except ServerError as error:
        if error.status == 404:
            return None
        raise


def send_reference(
    transport: Transport,
    source: Upload,
    patience: Patience,
    on_upload: Optional[OnProgress],
    cancelled: Optional[IsCancelled],
) -> StoredReference:
    """Asks by hash first, before each try too: what broke may have been the answer alone."""
    with source.packed() as upload:
        sha256 = interruptible(lambda: upload.sha256(lambda: stop_if(cancelled)), cancelled)

        def attempt(report: OnProgress) -> StoredReference:
            return find_reference(transport, sha256) or _sent(transport, upload, sha256, report)

        return retrying(lambda: watched(attempt, on_upload, cancelled), patience, cancelled)


def _sent(transport: Transport, upload: Upload, sha256: str, report: OnProgress) -> StoredReference:
    body = Body(upload.source, "application/octet-stream", report)
    call = Call("PUT", reference_path(sha256), {"format": upload.format}, body, timeout_s=SLOW_S)
    return transport.ask(call, lambda said: StoredReference.from_json(said, sent=True))


def as_upload(source: Union[Upload, Path, bytes], format: Optional[str]) -> Upload:
    if isinstance(source, Upload):
        return source
    if format is not None:
        return Upload(source, format)
    if isinstance(source, bytes):
        raise ValueError("bytes have no name to tell their type by: say which format they are")
    return Upload.of(source)


def fetch_box(transport: Transport, call: Call) -> Box:
    """The changed box. Raises ServerError, ServerUnreachable (also when it is not what its hash says)."""
    with transport.send(call) as response:
        content = b"".join(response.iter_content(CHUNK_BYTES))
        return _box(content, response.headers)


def fetch_nifti(transport: Transport, path: str) -> "tuple[Array, Array]":
    """Voxels (i, j, k) and affine of a whole volume. Raises ServerError, ServerUnreachable."""
    with transport.send(Call("GET", path, {"format": "nii.gz"}, timeout_s=SLOW_S)) as response:
        return read_nifti(b"".join(response.iter_content(CHUNK_BYTES)))


def fetch_labels(transport: Transport, path: str) -> Optional[Labels]:
    """What is where in a generated CT, None where that is not known."""
    try:
        names = transport.ask(Call("GET", f"{path}/names"), _names)
        return Labels(fetch_nifti(transport, path)[0], names)
    except ServerError as error:
        if error.code == "no_labels":
            return None
        raise


def _names(said: Any) -> "dict[int, str]":
    try:
        return {int(label): str(name) for label, name in said.items()}
    except (AttributeError, ValueError) as error:
        raise BrokenAnswer(f"these are no names of labels: {error!r}") from error


def fetch_file(transport: Transport, call: Call, path: Path, on_progress: Optional[OnProgress]) -> None:
    """Write the answer's body; a file cut short is ServerUnreachable."""
    with transport.send(call) as response:
        total, got = int(response.headers.get("Content-Length") or 0), 0
        with path.open("wb") as file:
            for chunk in response.iter_content(CHUNK_BYTES):
                file.write(chunk)
                got += len(chunk)
                if on_progress is not None:
                    on_progress(got, max(got, total))
        if total and got != total:
            raise BrokenAnswer(f"the file ended {total - got} bytes early")


def _box(content: bytes, headers: Mapping[str, str]) -> Box:
    try:
        shape, offset = (_triple(headers[f"{_HEADER}{name}"]) for name in ("Shape", "Offset"))
        voxels, promised = headers[f"{_HEADER}Reference-Voxels"], headers[f"{_HEADER}Box"]
    except (KeyError, ValueError) as error:
        raise BrokenAnswer(f"the box is not described: {error!r}") from error
    if hashlib.sha256(content).hexdigest() != promised.lower():
        raise BrokenAnswer("the box arrived damaged: its hash is another")
    if len(content) != 2 * shape[0] * shape[1] * shape[2] or min(*shape, *(n + 1 for n in offset)) < 1:
        raise BrokenAnswer(f"{len(content)} bytes are no box of {shape} voxels at {offset}")
    array = np.frombuffer(content, "<i2").reshape(shape, order="F").astype(np.int16)
    return Box(array, offset, voxels.lower())


def _triple(text: str) -> "tuple[int, int, int]":
    i, j, k = (int(number) for number in text.split(","))
    return i, j, k
