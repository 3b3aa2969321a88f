"""Talks to a LesionBrush server. Runs in any Python from 3.9 on, 3D Slicer's too, with `requests` alone."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Callable, Optional, Union
from urllib.parse import quote
from zipfile import ZipFile

import requests

from .answers import ModelFacts
from .errors import ServerError, ServerUnreachable, WrongInput
from .inputs import parts, require_taken
from .records import publish
from .transport import CONNECT_TIMEOUT_S, Call, Transport
from .uploads import SUFFIXES, Upload, split
from .wire import CHUNK_BYTES, FilePart, Form, OnProgress, read_answer

__all__ = ["CONNECT_TIMEOUT_S", "SUFFIXES", "Client", "Result", "ServerError", "ServerUnreachable"]


@dataclass(frozen=True)
class Result:
    """Files written, in the order of the variants; what the server says of each; seconds per phase."""

    paths: list[Path]
    provenances: list[dict[str, Any]]
    seconds: dict[str, float]

    @property
    def path(self) -> Path:
        return self.paths[0]

    @property
    def provenance(self) -> dict[str, Any]:
        return self.provenances[0]


class Client:
    """One server, by MONAI Label's routes; `JobClient` can do more. Not for several threads at once.

    timeout_s: how long the server may be silent, as it is during a synthesis; on_upload: called with
    (bytes sent, bytes in all). Every method raises ServerError and ServerUnreachable.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        token: Optional[str] = None,
        timeout_s: float = 600.0,
        on_upload: Optional[OnProgress] = None,
    ) -> None:
        self.transport, self.on_upload = Transport(url, token, timeout_s), on_upload

    @property
    def url(self) -> str:
        return self.transport.url

    def info(self) -> dict[str, Any]:
        """What the server says of itself."""
        return self._json("GET", "/info/")

    def models(self) -> dict[str, dict[str, Any]]:
        """Facts by name of model: `card`, `schema` of the parameters, `problem` (None when it can run)."""
        models: dict[str, dict[str, Any]] = self.info()["models"]
        return models

    def wait_until_ready(self, timeout_s: float = 60.0, alive: Callable[[], bool] = lambda: True) -> None:
        """Return once the server answers. ServerUnreachable after `timeout_s`, or when `alive` says no."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self.info()
                return
            except ServerUnreachable:
                if time.monotonic() > deadline or not alive():
                    raise
                time.sleep(0.2)

    def images(self) -> list[str]:
        """Ids of the stored CTs."""
        return sorted(self._json("GET", "/datastore/", query={"output": "all"})["objects"])

    def put_image(self, path: Path, image_id: str) -> str:
        """Store a CT on the server, once for many requests. ServerError 409 when the id is taken."""
        form = Form({"params": "{}"}, {"file": _file(path).part("reference")}, self.on_upload)
        answer = self._json("PUT", "/datastore/image", query={"image": image_id}, form=form)
        return str(answer["image"])

    def infer(
        self,
        model: str,
        *,
        mask_path: Union[Path, str],
        out_path: Union[Path, str],
        image_id: Optional[str] = None,
        reference_path: Union[Path, str, None] = None,
        params: Optional[dict[str, Any]] = None,
        **inputs: Upload,
    ) -> Result:
        """Send a mask, with a CT or the id of a stored one; write the synthetic CT and its record.

        reference_path: a volume, or a folder with a DICOM series; params: see `schema` in `models()`; inputs:
        volumes beside CT and mask, by the names in `card["inputs"]` there, say `anatomy=Upload.of(path)`.
        out_path: its type (.nii.gz, .nii, .nrrd, .mha) is the type that comes back; `ct.nii` is fast. For
        several variants it becomes ct-1.nii, ct-2.nii, ... Nothing is written unless all of it arrived.
        Raises ValueError for a file type the server does not take, WrongInput for a volume that the model
        does not, and for a result that would replace what it is made from.
        """
        out_path = Path(out_path)
        stem, suffix = split(out_path)
        _require_no_input(out_path, [mask_path, reference_path])
        query = {"output": "all", "format": suffix[1:], **({"image": image_id} if image_id else {})}
        with TemporaryDirectory(prefix=".lesionbrush-", dir=out_path.parent) as folder:
            draft = Path(folder) / "answer"
            files = self._files(model, Path(mask_path), inputs)
            asked = self._asked(model, query, files, reference_path, params)
            with asked as response, draft.open("wb") as file:
                record = read_answer(response.iter_content(CHUNK_BYTES), file)
            drafts = [draft] if len(record["variants"]) == 1 else _unpacked(draft, suffix)
            names = _names(stem, out_path.name[len(stem) :], len(drafts))  # as it was spelled
            paths = [out_path.with_name(name) for name in names]
            publish(drafts, paths, record["variants"])
        return Result(paths, record["variants"], record["seconds"])

    def _files(self, model: str, mask: Path, inputs: Mapping[str, Upload]) -> dict[str, FilePart]:
        """An unknown model is for the server to refuse."""
        said = self.models().get(model) if inputs else None
        if said is not None:
            require_taken(inputs, ModelFacts.from_json(model, said))
        return {"label": _file(mask).part("mask"), **parts(inputs)}

    @contextmanager
    def _asked(
        self,
        model: str,
        query: dict[str, str],
        files: dict[str, FilePart],
        reference: Union[Path, str, None],
        params: Any,
    ) -> Iterator[requests.Response]:
        """The answer to a mask and, if there is one, a reference."""
        with ExitStack() as stack:
            if reference is not None:
                files["file"] = stack.enter_context(Upload.of(Path(reference)).packed()).part("reference")
            form = Form({"params": json.dumps(params or {})}, files, self.on_upload)
            call = Call("POST", f"/infer/{quote(model, safe='')}", query, form)
            yield stack.enter_context(self.transport.send(call))

    def _json(
        self, method: str, path: str, query: Optional[dict[str, str]] = None, form: Optional[Form] = None
    ) -> Any:
        return self.transport.json(Call(method, path, query or {}, form))


def _require_no_input(out_path: Path, inputs: "list[Union[Path, str, None]]") -> None:
    for path in inputs:
        if path is not None and out_path.exists() and Path(path).exists() and out_path.samefile(path):
            raise WrongInput(f"{out_path.name} is what the result is made from: give it another name")


def _file(path: Path) -> Upload:
    return Upload(path, split(path)[1][1:])


def _unpacked(archive: Path, suffix: str) -> list[Path]:
    """The volumes in the archive, in order; the records in it came with the answer as well."""
    with ZipFile(archive) as zipped:
        volumes = [entry for entry in zipped.infolist() if entry.filename.endswith(suffix)]
        for number, entry in enumerate(volumes, 1):
            entry.filename = f"variant-{number}"
            zipped.extract(entry, archive.parent)
    return [archive.with_name(entry.filename) for entry in volumes]


def _names(stem: str, suffix: str, count: int) -> list[str]:
    return [stem + suffix] if count == 1 else [f"{stem}-{number}{suffix}" for number in range(1, count + 1)]
