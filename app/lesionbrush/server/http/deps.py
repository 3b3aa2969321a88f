"""What the routes are given: the service, the studies, a private folder, and the name of the client.

What takes microseconds is `async`: the framework would start a thread for it otherwise.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NamedTuple, cast

from anyio import CancelScope
from anyio.to_thread import run_sync
from fastapi import Depends, Header, Request, UploadFile
from pydantic import ValidationError

from lesionbrush.core.inputs import require_accepted
from lesionbrush.core.provenance import Provenance
from lesionbrush.core.registry import ModelCard
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.inputs import list_sent
from lesionbrush.files.records import record_of
from lesionbrush.server.doors.limits import check_volume
from lesionbrush.server.errors import UnknownReference
from lesionbrush.server.http import wire
from lesionbrush.server.jobs.job import JobRecord
from lesionbrush.server.stock.runs import Runs
from lesionbrush.server.stock.words import CLIENT, client_name
from lesionbrush.server.storage.studies import Studies
from lesionbrush.server.storage.uploads import copy_stream, receive_volume, suffix_of
from lesionbrush.server.synthesis.inference import Service, Vault
from lesionbrush.server.synthesis.order import ReferenceCT
from lesionbrush.systems import find_system, list_inputs

CLIENT_HEADER = "X-LesionBrush-Client"
OWN_PARTS = ("params", "file", "label", "record")
"""Of a form: what does not depend on the system."""


async def the_service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def the_studies(request: Request) -> Studies:
    studies: Studies = request.app.state.studies
    return studies


async def workspace() -> AsyncIterator[Path]:
    """A private folder (0700) that goes once the response is out, or the request has failed."""
    folder = TemporaryDirectory(prefix="lesionbrush-")
    try:
        yield Path(folder.name)
    finally:
        with CancelScope(shield=True):
            await run_sync(folder.cleanup)


async def the_client(request: Request) -> str:
    """Who asks, for the fair order of jobs: what it calls itself, or its address. Raises InvalidRequest."""
    name = request.headers.get(CLIENT_HEADER)
    if name is None:
        return request.client.host if request.client else "unknown"
    if not CLIENT.fullmatch(name):
        raise InvalidRequest(f"{CLIENT_HEADER}: use 1 to 64 letters, digits, '.', '_' and '-'")
    return name


def asker(request: Request, client: str, client_id: object) -> str:
    """As `the_client`; a client of MONAI Label, without that header, by what it calls itself as well."""
    return client if CLIENT_HEADER in request.headers else client_name(client_id, client)


async def the_runs(request: Request) -> Runs:
    runs: Runs = request.app.state.runs
    return runs


async def the_vault(service: Annotated[Service, Depends(the_service)]) -> Vault:
    vault = service.vault
    if vault is None:
        raise UnknownReference("this server keeps nothing: it was started without a studies folder")
    return vault


def the_job(job: wire.JobId, service: Annotated[Service, Depends(the_service)]) -> JobRecord:
    """Raises UnknownJob."""
    return service.jobs.get(job)


class RequestFiles(NamedTuple):
    """The private folder of a request, and what came beside CT and mask, by `Input.parts`."""

    folder: Path
    uploads: dict[str, UploadFile | str]

    def mask(self, upload: UploadFile) -> Path:
        """Raises as `receive_volume`."""
        return receive_volume(upload, self.folder, "mask")

    def take_stored_mask(self, label: Path) -> Path:
        """A label of the datastore, as if it had come with the request: jobs take their mask away."""
        with label.open("rb") as stream:
            file = copy_stream(stream, self.folder / f"mask{suffix_of(label.name)}")
        check_volume(file)
        return file

    def inputs(self, card: ModelCard) -> dict[str, Path]:
        """Raises InvalidRequest for one the model does not take, or lacks, and as `receive_volume`."""
        accepted = find_system(card.system).inputs
        require_accepted(card.name, list_sent(self.uploads, accepted), accepted)
        volumes = {one.name for one in accepted if one.kind != "text"}
        return {
            name: self._volume(name, sent) if name in volumes else self._text(name, sent)
            for name, sent in self.uploads.items()
        }

    def _volume(self, name: str, sent: UploadFile | str) -> Path:
        if isinstance(sent, str):
            raise InvalidRequest(f"{name}: send a file (got the text {sent[:40]!r})")
        return receive_volume(sent, self.folder, name)

    def _text(self, name: str, sent: UploadFile | str) -> Path:
        """As it came, in a field or as a file."""
        file = self.folder / f"{name}.txt"
        if isinstance(sent, str):
            file.write_text(sent, encoding="utf-8")
            return file
        return copy_stream(sent.file, file)


def read_made_from(reference: ReferenceCT, sent: str | None) -> Provenance | None:
    """The record of a CT that is synthetic itself: what came with it, or what lies beside a stored one.

    Raises InvalidRequest, DamagedFile.
    """
    if reference.image is not None:
        if sent is not None:
            raise InvalidRequest("record: a stored image has its own; leave it out")
        return record_of(reference.path)
    try:
        return None if sent is None else Provenance.model_validate_json(sent)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "JSON"
        raise InvalidRequest(
            f"record: this is no record of LesionBrush ({where}: {first['msg']}): send it as it was written"
        ) from error


async def receive_inputs(request: Request, folder: Annotated[Path, Depends(workspace)]) -> RequestFiles:
    """What systems take comes under their own names, which are not known here."""
    form = await request.form()
    parts = {name: part for name, part in form.items() if name not in OWN_PARTS}
    return RequestFiles(folder, cast(dict[str, UploadFile | str], parts))


def document_parts() -> dict[str, Any]:
    """What all systems take, for the OpenAPI document of a route."""
    properties: dict[str, Any] = {}
    for one in list_inputs().values():
        text = {"type": "string", "description": one.about}
        properties[one.name] = text if one.kind == "text" else {**text, "format": "binary"}
        for names in one.parts[1:]:
            properties[names] = {"type": "string", "description": f"what the labels of {one.name} mean, JSON"}
    schema = {"schema": {"properties": properties}}
    return {"requestBody": {"content": {"multipart/form-data": schema}}}


Key = Annotated[
    str | None, Header(alias="Idempotency-Key", min_length=1, max_length=128, pattern=r"^[!-~]+$")
]
TheService = Annotated[Service, Depends(the_service)]
TheVault = Annotated[Vault, Depends(the_vault)]
TheJob = Annotated[JobRecord, Depends(the_job)]
TheStudies = Annotated[Studies, Depends(the_studies)]
TheRequestFiles = Annotated[RequestFiles, Depends(receive_inputs)]
Workspace = Annotated[Path, Depends(workspace)]
TheClient = Annotated[str, Depends(the_client)]
TheRuns = Annotated[Runs, Depends(the_runs)]
