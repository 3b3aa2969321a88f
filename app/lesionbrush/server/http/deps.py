"""What the routes are given: the service, the studies, a private folder, and the name of the client."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from fastapi import Depends, Request

from lesionbrush.errors import InvalidRequest
from lesionbrush.server.errors import UnknownReference
from lesionbrush.server.http import wire
from lesionbrush.server.jobs.job import JobRecord
from lesionbrush.server.storage.studies import Studies
from lesionbrush.server.synthesis.inference import Service, Vault

CLIENT_HEADER = "X-LesionBrush-Client"
_CLIENT = re.compile(r"[A-Za-z0-9._-]{1,64}")


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


def the_client(request: Request) -> str:
    """Who asks, for the fair order of jobs: what it calls itself, or its address. Raises InvalidRequest."""
    name = request.headers.get(CLIENT_HEADER)
    if name is None:
        return request.client.host if request.client else "unknown"
    if not _CLIENT.fullmatch(name):
        raise InvalidRequest(f"{CLIENT_HEADER}: use 1 to 64 letters, digits, '.', '_' and '-'")
    return name


def the_vault(request: Request) -> Vault:
    vault = the_service(request).vault
    if vault is None:
        raise UnknownReference("this server keeps nothing: it was started without a studies folder")
    return vault


def the_job(job: wire.JobId, request: Request) -> JobRecord:
    """Raises UnknownJob."""
    return the_service(request).jobs.get(job)


TheService = Annotated[Service, Depends(the_service)]
TheVault = Annotated[Vault, Depends(the_vault)]
TheJob = Annotated[JobRecord, Depends(the_job)]
TheStudies = Annotated[Studies, Depends(the_studies)]
Workspace = Annotated[Path, Depends(workspace)]
TheClient = Annotated[str, Depends(the_client)]
