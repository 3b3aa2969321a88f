"""Results on their way to this computer: nothing is taken that is not whole."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

import numpy as np

from .boxes import Box
from .transport import Call, Transport
from .wire import CHUNK_BYTES, BrokenAnswer, OnProgress

_HEADER = "X-LesionBrush-"


def fetch_box(transport: Transport, call: Call) -> Box:
    """The changed box. Raises ServerError, ServerUnreachable (also when it is not what its hash says)."""
    with transport.send(call) as response:
        content = b"".join(response.iter_content(CHUNK_BYTES))
        return _box(content, response.headers)


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
