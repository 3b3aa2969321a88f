"""Results on their way out: streamed from disk, never whole in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from uuid import uuid4

from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse

from lesionbrush.server.synthesis.inference import Answer, SynthesisOutput

Kind = Literal["image", "all", "json"]
_CHUNK_BYTES = 1 << 20


class FileReply(FileResponse):
    """In pieces large enough for a volume: each one costs a change of threads."""

    chunk_size = _CHUNK_BYTES


def reply(output: SynthesisOutput, kind: Kind) -> Response:
    """The answer as MONAI Label shapes it. image: the file; json: the record; all: both, as multipart."""
    headers = essentials(output.answer)
    if kind == "json" or output.path is None:
        return JSONResponse(output.answer.model_dump(mode="json"), headers=headers)
    if kind == "image":
        return FileReply(output.path, media_type=_OCTETS, filename=output.path.name, headers=headers)
    return multipart(output.answer, output.path, headers)


def essentials(answer: Answer) -> dict[str, str]:
    """Header fields for those who only look at the file."""
    variants = answer.variants
    return {
        "X-LesionBrush-Model": variants[0].model,
        "X-LesionBrush-Seed": ",".join(str(variant.seed) for variant in variants),
        "X-LesionBrush-Voxels-Changed": ",".join(str(variant.voxels_changed) for variant in variants),
    }


_OCTETS = "application/octet-stream"
_JSON_PART = 'Content-Disposition: form-data; name="params"\r\nContent-Type: application/json'
_FILE_PART = (
    'Content-Disposition: form-data; name="image"; filename="{}"\r\nContent-Type: {}\r\nContent-Length: {}'
)


def multipart(answer: Answer, path: Path, headers: dict[str, str]) -> Response:
    """Part `params` (JSON), then part `image` (the file), as multipart/form-data (RFC 7578)."""
    boundary, size = uuid4().hex, path.stat().st_size
    stem, _, suffix = path.name.partition(
        "."
    )  # MONAI Label's client saves under this name, all in one folder
    file_part = _FILE_PART.format(f"{stem}-{boundary[:12]}.{suffix}", _OCTETS, size)
    parts = (f"--{boundary}", _JSON_PART, "", answer.model_dump_json(), f"--{boundary}", file_part, "", "")
    head, tail = "\r\n".join(parts).encode(), f"\r\n--{boundary}--\r\n".encode()
    length = len(head) + size + len(tail)
    return StreamingResponse(
        _body(head, path, tail),
        media_type=f"multipart/form-data; boundary={boundary}",
        headers={**headers, "Content-Length": str(length)},
    )


def _body(head: bytes, path: Path, tail: bytes) -> Iterator[bytes]:
    yield head
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
    yield tail
