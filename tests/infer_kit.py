"""A client of MONAI Label's own route `/infer`, for tests of what the server answers there."""

from __future__ import annotations

import io
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zipfile import ZipFile

from LesionBrushLib.client import JobClient, Result, Upload
from LesionBrushLib.client.records import publish
from LesionBrushLib.client.transport import Call
from LesionBrushLib.client.uploads import split
from LesionBrushLib.client.wire import Form


def infer(
    client: JobClient,
    model: str,
    out_path: Path,
    *,
    mask_path: Path,
    image_id: str | None = None,
    reference_path: Path | None = None,
    params: dict[str, Any] | None = None,
) -> Result:
    """One long request; the volumes and their records are written as `Client.infer` does."""
    stem, suffix = split(out_path)
    query = {"output": "all", "format": suffix[1:], **({"image": image_id} if image_id else {})}
    files = {"label": Upload.of(mask_path).part("mask")}
    with ExitStack() as stack:
        if reference_path is not None:
            files["file"] = stack.enter_context(Upload.of(reference_path).packed()).part("reference")
        form = Form({"params": json.dumps(params or {})}, files)
        call = Call("POST", f"/infer/{quote(model, safe='')}", query, form, timeout_s=120)
        response = stack.enter_context(client.transport.send(call))
        record, image = parts(response.content)
    records = record["variants"]
    volumes = [image] if len(records) == 1 else unpacked(image, suffix)
    ends = [""] if len(volumes) == 1 else [f"-{n}" for n in range(1, len(volumes) + 1)]
    paths = [out_path.with_name(f"{stem}{end}{suffix}") for end in ends]
    drafts = [path.with_name(f".{path.name}") for path in paths]
    for draft, volume in zip(drafts, volumes, strict=True):
        draft.write_bytes(volume)
    publish(drafts, paths, records)
    return Result(paths, records, record["seconds"])


def parts(content: bytes) -> tuple[dict[str, Any], bytes]:
    """`params` and `image` of the answer's form."""
    _, _, rest = content.partition(b"\r\n\r\n")
    record, _, rest = rest.partition(b"\r\n")
    head, _, rest = rest.partition(b"\r\n\r\n")
    lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n") if b": " in line)
    length = int(lines[b"content-length"])
    assert rest[length : length + 4] == b"\r\n--"
    return json.loads(record), rest[:length]


def unpacked(archive: bytes, suffix: str) -> list[bytes]:
    with ZipFile(io.BytesIO(archive)) as zipped:
        return [zipped.read(name) for name in zipped.namelist() if name.endswith(suffix)]
