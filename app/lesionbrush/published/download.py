"""One file over https. The only place that fetches anything for a model, and only when asked."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Callable
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, OpenerDirector, Request, build_opener

from lesionbrush.errors import DamagedFile, InvalidRequest, StorageFull

LIMIT_BYTES = 8 << 30
TIMEOUT_S = 30.0
_CHUNK = 1 << 20

OnBytes = Callable[[int, "int | None"], None]
"""Told (bytes so far, bytes in all or None where the server does not say)."""


def is_url(source: str) -> bool:
    return "://" in source


def plain_url(url: str) -> str:
    """The URL without user, query and fragment, which may hold secrets."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return urlunsplit((parts.scheme, f"{host}:{parts.port}" if parts.port else host, parts.path, "", ""))


def check_url(url: str) -> None:
    """InvalidRequest unless it is https and names a host."""
    try:
        parts = urlsplit(url)
        safe = parts.scheme == "https" and bool(parts.hostname) and (parts.port or 443) > 0
    except ValueError:
        safe = False
    if not safe:
        raise InvalidRequest(
            "weights are only fetched from https addresses: give one, or download the file yourself"
        )


class HttpsOnly(HTTPRedirectHandler):
    """A redirection away from https is refused like any other address that is not."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        check_url(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def https_opener() -> OpenerDirector:
    return build_opener(HTTPSHandler(context=ssl.create_default_context()), HttpsOnly())


def fetch(url: str, target: Path, on_bytes: OnBytes, opener: OpenerDirector | None = None) -> None:
    """Write what `url` answers to `target`, which must not be there.

    Raises InvalidRequest (no https, refused, unreachable, too large), DamagedFile (ended early), StorageFull.
    """
    check_url(url)
    request = Request(url, headers={"User-Agent": "LesionBrush", "Accept-Encoding": "identity"})
    where = plain_url(url)
    try:
        with (opener or https_opener()).open(request, timeout=TIMEOUT_S) as answer:
            _receive(answer, target, on_bytes)
    except HTTPError as error:
        raise InvalidRequest(f"{where} answers {error.code} ({error.reason}): check the address") from error
    except HTTPException as error:
        raise DamagedFile(f"the download from {where} broke off: try again") from error
    except OSError as error:
        if not hasattr(error, "reason") and not isinstance(error, (TimeoutError, ConnectionError)):
            raise  # a fault of the disk, which says its own
        reason = getattr(error, "reason", error)
        raise InvalidRequest(f"{where} could not be fetched: {reason}") from error


def _receive(answer: Any, target: Path, on_bytes: OnBytes) -> None:
    length = answer.headers.get("Content-Length")
    total = int(length) if length and length.isdigit() else None
    if (total or 0) > LIMIT_BYTES:
        raise InvalidRequest(f"the file has {total} bytes; more than {LIMIT_BYTES} are not taken")
    if (total or 0) > shutil.disk_usage(target.parent).free:
        raise StorageFull(
            f"the file has {total} bytes, and the disk of the models folder has not that many free"
        )
    done = 0
    with target.open("xb") as file:
        while chunk := answer.read(_CHUNK):
            done += len(chunk)
            if done > LIMIT_BYTES:
                raise InvalidRequest(f"the file has more than {LIMIT_BYTES} bytes, which are not taken")
            file.write(chunk)
            on_bytes(done, total)
    if total is not None and done != total:
        raise DamagedFile(f"the download ended after {done} of {total} bytes: try again")
