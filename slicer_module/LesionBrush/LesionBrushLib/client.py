"""Talks to a LesionBrush server. Runs in any Python from 3.9 on, 3D Slicer's too, with `requests` alone."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Callable, Optional
from urllib.parse import quote
from zipfile import ZIP_STORED, ZipFile

import requests

from .wire import CHUNK_BYTES, BrokenAnswer, FilePart, Form, OnProgress, read_answer

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")
SIDECAR = ".provenance.json"
CONNECT_TIMEOUT_S = 5.0

_DICOM_SUFFIXES = (".dcm", ".ima", ".dicom")


class ServerError(Exception):
    """The server's own error. code: a stable name; str(error): what it says, to be shown as it is."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class ServerUnreachable(Exception):
    """No server there, or the connection broke; nothing was saved."""


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
    """One server. Not for use by several threads at once.

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
        self.url = url.rstrip("/")
        self.timeout_s, self.on_upload = timeout_s, on_upload
        self.session = requests.Session()
        self.session.trust_env = False  # no proxy, and no password file, ever has a part in this
        self.session.headers["Accept-Encoding"] = "identity"
        if token:
            self.session.headers["Authorization"] = f"Bearer {token}"

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
        form = Form({"params": "{}"}, {"file": _file_part("reference", path)}, self.on_upload)
        answer = self._json("PUT", "/datastore/image", query={"image": image_id}, form=form)
        return str(answer["image"])

    def infer(
        self,
        model: str,
        *,
        mask_path: Path,
        out_path: Path,
        image_id: Optional[str] = None,
        reference_path: Optional[Path] = None,
        params: Optional[dict[str, Any]] = None,
    ) -> Result:
        """Send a mask, with a CT or the id of a stored one; write the synthetic CT and its record.

        reference_path: a volume, or a folder with a DICOM series; params: see `schema` in `models()`.
        out_path: its type (.nii.gz, .nii, .nrrd, .mha) is the type that comes back; `ct.nii` is fast. For
        several variants it becomes ct-1.nii, ct-2.nii, ... Nothing is written unless all of it arrived.
        Raises ValueError for a file type the server does not take.
        """
        stem, suffix = _split(out_path)
        query = {"output": "all", "format": suffix[1:], **({"image": image_id} if image_id else {})}
        with TemporaryDirectory(prefix=".lesionbrush-", dir=out_path.parent) as folder:
            draft = Path(folder) / "answer"
            files = {"label": _file_part("mask", mask_path)}
            if reference_path is not None:
                files["file"] = _reference_part(reference_path, Path(folder))
            form = Form({"params": json.dumps(params or {})}, files, self.on_upload)
            with (
                self._send("POST", f"/infer/{quote(model, safe='')}", query, form) as response,
                draft.open("wb") as file,
            ):
                record = read_answer(response.iter_content(CHUNK_BYTES), file)
            drafts = [draft] if len(record["variants"]) == 1 else _unpacked(draft, suffix)
            names = _names(stem, suffix, len(drafts))
            paths = [out_path.with_name(name) for name in names]
            _publish(drafts, paths, record["variants"])
        return Result(paths, record["variants"], record["seconds"])

    def _json(
        self, method: str, path: str, query: Optional[dict[str, str]] = None, form: Optional[Form] = None
    ) -> Any:
        with self._send(method, path, query, form) as response:
            return response.json()

    @contextmanager
    def _send(
        self, method: str, path: str, query: Optional[dict[str, str]], form: Optional[Form]
    ) -> Iterator[requests.Response]:
        """The answer to a request, its body still to be read."""
        try:
            with self.session.request(
                method,
                self.url + path,
                params=query,
                data=form,
                headers={"Content-Type": form.content_type} if form else None,
                timeout=(CONNECT_TIMEOUT_S, self.timeout_s),
                stream=True,
                allow_redirects=False,  # a CT goes where the user sent it
            ) as response:
                if response.status_code != 200:
                    raise _server_error(response)
                yield response
        except (requests.RequestException, BrokenAnswer) as error:
            raise ServerUnreachable(self._unreachable(error)) from error

    def _unreachable(self, error: Exception) -> str:
        if isinstance(error, requests.ConnectTimeout) or not isinstance(error, requests.Timeout):
            kind = type(error).__name__
            return f"no usable answer from {self.url} ({kind}): start the server there, or look into its log"
        return f"{self.url} was silent for {self.timeout_s:g} s: ask for fewer steps, or wait longer"


def _server_error(response: requests.Response) -> ServerError:
    """The error in the server's own shape, or whatever it did say."""
    try:
        detail = response.json()["detail"]
        return ServerError(response.status_code, detail["code"], detail["message"])
    except (ValueError, KeyError, TypeError):
        text = response.text[:500] or response.reason
        return ServerError(
            response.status_code, "http_error", f"the server answered {response.status_code}: {text}"
        )


def _split(path: Path) -> "tuple[str, str]":
    """`ct.nii.gz` -> (`ct`, `.nii.gz`)."""
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)], suffix
    raise ValueError(f"{path.name}: unknown file type; use one of {', '.join(SUFFIXES)}")


def _file_part(name: str, path: Path) -> FilePart:
    """The server learns what kind of file it is, not how it is called here."""
    return FilePart(name + _split(path)[1], path)


def _reference_part(path: Path, folder: Path) -> FilePart:
    """A volume, or the files of a DICOM series in a .zip without their names."""
    if not path.is_dir():
        return _file_part("reference", path)
    archive = folder / "reference.zip"
    with ZipFile(archive, "w", ZIP_STORED) as zipped:
        for number, file in enumerate(sorted(file for file in path.iterdir() if file.is_file())):
            suffix = file.suffix.lower()
            zipped.write(file, f"{number:05d}{suffix if suffix in _DICOM_SUFFIXES else ''}")
    return FilePart(archive.name, archive)


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


def _publish(drafts: list[Path], paths: list[Path], records: list[dict[str, Any]]) -> None:
    """Write the records beside the drafts, then move all into place; the volumes last."""
    for draft, path, record in zip(drafts, paths, records):
        sidecar = path.with_name(_split(path)[0] + SIDECAR)
        beside = draft.with_name(f"{draft.name}.json")
        beside.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        os.replace(beside, sidecar)
        os.replace(draft, path)
