"""From errors to HTTP: one table of statuses, and one shape, {"detail": {"code": ..., "message": ...}}."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from lesionbrush import errors
from lesionbrush.errors import LesionBrushError, StorageFull
from lesionbrush.files import durable
from lesionbrush.server.jobs import errors as job_errors

logger = logging.getLogger(__name__)


class UnknownImage(LesionBrushError):
    """No image of the studies folder has this id."""

    code = "unknown_image"


class UnknownLabel(LesionBrushError):
    """The image has no label of this tag."""

    code = "unknown_label"


class AlreadyStored(LesionBrushError):
    """The studies folder has a file of this name, and files are never overwritten."""

    code = "already_stored"


class TooLarge(LesionBrushError):
    """More bytes than this server takes."""

    code = "too_large"


class UnknownReference(LesionBrushError):
    """No uploaded reference has this hash, or it has gone."""

    code = "unknown_reference"


class UnknownSession(LesionBrushError):
    """No session has this id, or it has ended."""

    code = "unknown_session"


class UnknownStrategy(LesionBrushError):
    """There is no such way to choose the next sample."""

    code = "unknown_strategy"


class UnknownCohort(LesionBrushError):
    """No cohort has this name."""

    code = "unknown_cohort"


class CohortInUse(LesionBrushError):
    """A job works on this cohort."""

    code = "cohort_in_use"


class HashMismatch(LesionBrushError):
    """The bytes that came are not the ones the address names."""

    code = "hash_mismatch"


class StudiesInUse(LesionBrushError):
    """Another server works on this studies folder."""

    code = "studies_in_use"


class ArchiveUnreachable(LesionBrushError):
    """The DICOMweb archive gave no answer, or one that makes no sense."""

    code = "archive_unreachable"


class ArchiveRefused(LesionBrushError):
    """The DICOMweb archive does not let us."""

    code = "archive_refused"


class NotInArchive(LesionBrushError):
    """The DICOMweb archive has nothing under this address."""

    code = "not_in_archive"


class PushFailed(LesionBrushError):
    """The DICOMweb archive did not take all of a case."""

    code = "push_failed"


STATUS: dict[type[LesionBrushError], int] = {
    errors.InvalidRequest: 422,
    errors.GeometryMismatch: 422,
    errors.EmptyMask: 422,
    errors.NoLungs: 422,
    errors.AmbiguousMask: 422,
    errors.NotACT: 422,
    errors.DamagedFile: 422,
    errors.UnsupportedSeries: 422,
    errors.UnknownModel: 404,
    UnknownImage: 404,
    UnknownLabel: 404,
    AlreadyStored: 409,
    TooLarge: 413,
    UnknownReference: 404,
    UnknownSession: 404,
    UnknownStrategy: 404,
    UnknownCohort: 404,
    CohortInUse: 409,
    HashMismatch: 422,
    StudiesInUse: 503,
    errors.Cancelled: 499,  # nginx's "client closed request"
    errors.WeightsError: 503,
    job_errors.UnknownJob: 404,
    job_errors.UnknownVariant: 404,
    job_errors.NoPreview: 404,
    job_errors.NoLabels: 404,
    job_errors.NotDone: 409,
    job_errors.IdempotencyConflict: 409,
    job_errors.Gone: 410,
    job_errors.Discarded: 410,
    job_errors.QueueFull: 503,
    job_errors.OutOfMemory: 503,
    job_errors.TimedOut: 504,
    ArchiveUnreachable: 503,
    ArchiveRefused: 502,
    NotInArchive: 404,
    PushFailed: 502,
    StorageFull: 507,
}


def detail(error: LesionBrushError) -> dict[str, str]:
    return {"code": error.code, "message": str(error)}


def problem(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse({"detail": {"code": code, "message": message}}, status)


def on_known(_: Request, error: LesionBrushError) -> JSONResponse:
    wait = {"Retry-After": str(error.retry_s)} if isinstance(error, job_errors.QueueFull) else None
    return JSONResponse({"detail": detail(error)}, STATUS[type(error)], wait)


def on_invalid(_: Request, error: RequestValidationError) -> JSONResponse:
    """A query or a form that FastAPI refused: which part, and why."""
    parts = (f"{'.'.join(map(str, item['loc'][1:]))}: {item['msg']}" for item in error.errors())
    return problem(422, errors.InvalidRequest.code, "; ".join(parts))


def on_http(request: Request, error: HTTPException) -> JSONResponse:
    """What the framework itself refuses. A route that does not exist is one this server does not offer."""
    if error.status_code in (404, 405):
        return problem(404, "not_offered", "this server does not offer this")
    if durable.is_disk_full(error.__cause__):  # while the framework was receiving an upload
        return on_known(request, StorageFull(FULL))
    return problem(error.status_code, HTTPStatus(error.status_code).name.lower(), str(error.detail))


def on_crash(request: Request, error: Exception) -> JSONResponse:
    """A defect of ours: the caller gets a number; the log has it too and, from uvicorn, the traceback."""
    incident = uuid4().hex[:8]
    kind, door = type(error).__name__, request.scope.get("lesionbrush_door")
    where = door.template if door else request.url.path  # behind a gate: nothing a client wrote
    logger.error("incident %s: %s in %s %s", incident, kind, request.method, where)
    text = f"the server failed on this request and lives on; its log says why, under incident {incident}"
    return problem(500, "internal_error", text)


def on_crashed_job(_: Request, error: job_errors.JobCrashed) -> JSONResponse:
    """As `on_crash`, for what has its number and its place in the log already."""
    return problem(500, "internal_error", str(error))


HANDLERS: dict[int | type[Exception], Any] = {
    LesionBrushError: on_known,
    RequestValidationError: on_invalid,
    HTTPException: on_http,
    job_errors.JobCrashed: on_crashed_job,
    Exception: on_crash,
}

FULL = "the server's disk is full; nothing was written"


def naming_full_disk() -> AbstractContextManager[None]:
    """As `files.durable` does, of the server's disk."""
    return durable.naming_full_disk(FULL)
