"""The only way in: one list of routes, and who may use them. All else is 404."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from tempfile import gettempdir
from time import monotonic
from typing import Protocol
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lesionbrush.errors import StorageFull
from lesionbrush.server.doors.access import Role
from lesionbrush.server.doors.closed import why_not
from lesionbrush.server.doors.perimeter import Perimeter
from lesionbrush.server.errors import TooLarge, problem
from lesionbrush.server.settings import ServerSettings
from lesionbrush.server.threads import in_turn

V1 = "/lesionbrush/v1"
REQUEST_ID = "X-LesionBrush-Request"


class BodyKind(Enum):
    """What a route takes in; its value in bytes, None for as much as the upload limit says."""

    NONE = 0
    SMALL = 1 << 16
    FILES = None


@dataclass(frozen=True)
class Door:
    """One route that exists. stock: MONAI Label's own; open: without a token too."""

    method: str
    template: str
    body: BodyKind = BodyKind.NONE
    stock: bool = False
    open: bool = False


DOORS = (
    Door("GET", "/info/", stock=True),
    Door("POST", "/infer/{model}", BodyKind.FILES),
    Door("GET", "/auth/", open=True),
    Door("POST", "/auth/token", BodyKind.SMALL, open=True),
    Door("GET", "/auth/token/valid"),
    Door("POST", "/activelearning/{strategy}", BodyKind.SMALL),
    Door("PUT", "/session/", BodyKind.FILES),
    Door("GET", "/session/{session}"),
    Door("DELETE", "/session/{session}", BodyKind.FILES),  # none is read; see `_too_much`
    Door("GET", "/datastore/"),
    Door("PUT", "/datastore/", BodyKind.FILES),
    Door("GET", "/datastore/image"),
    Door("HEAD", "/datastore/image"),
    Door("PUT", "/datastore/image", BodyKind.FILES),
    Door("GET", "/datastore/label"),
    Door("HEAD", "/datastore/label"),
    Door("PUT", "/datastore/label", BodyKind.FILES),
    Door("GET", "/datastore/label/info"),
    Door("GET", "/health/live", open=True),
    Door("GET", "/health/ready", open=True),
    Door("GET", "/metrics"),
    Door("GET", f"{V1}/"),
    Door("GET", f"{V1}/openapi.json"),
    Door("GET", f"{V1}/references/{{sha256}}"),
    Door("PUT", f"{V1}/references/{{sha256}}", BodyKind.FILES),
    Door("POST", f"{V1}/jobs", BodyKind.FILES),
    Door("GET", f"{V1}/jobs/{{id}}"),
    Door("DELETE", f"{V1}/jobs/{{id}}"),
    Door("GET", f"{V1}/jobs/{{id}}/events"),
    Door("GET", f"{V1}/jobs/{{id}}/preview"),
    Door("GET", f"{V1}/jobs/{{id}}/variants/{{n}}"),
    Door("GET", f"{V1}/jobs/{{id}}/variants/{{n}}/box"),
    Door("GET", f"{V1}/jobs/{{id}}/variants/{{n}}/volume"),
    Door("GET", f"{V1}/jobs/{{id}}/variants/{{n}}/labels"),
    Door("GET", f"{V1}/jobs/{{id}}/variants/{{n}}/labels/names"),
    Door("POST", f"{V1}/jobs/{{id}}/variants/{{n}}/accept", BodyKind.SMALL),
    Door("POST", f"{V1}/jobs/{{id}}/variants/{{n}}/discard", BodyKind.SMALL),
    Door("POST", f"{V1}/jobs/{{id}}/variants/{{n}}/cohort", BodyKind.SMALL),
    Door("GET", f"{V1}/cohorts"),
    Door("DELETE", f"{V1}/cohorts/{{name}}"),
)
"""Everything this server offers. A test compares it with the routes that are there."""

PARTS = {
    "model": "[A-Za-z0-9_-]{1,64}",
    "sha256": "[0-9a-f]{64}",
    "id": "[A-Za-z0-9_-]{1,64}",
    "n": "[1-9][0-9]{0,3}",
    "session": "[0-9a-f]{32}",
    "name": "like[0-9a-f]{16}",
    "strategy": "[a-z]{1,32}",
}


_OUR_ID = re.compile("[0-9a-f]{24}")
"""The ids this server makes. Only these are logged: in the place of one a client can write anything."""


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{(\w+)\}", lambda part: f"(?P<{part[1]}>{PARTS[part[1]]})", template))


_PATTERNS = [(door, _pattern(door.template)) for door in DOORS]


@dataclass(frozen=True)
class Visit:
    """One request, as the access log and the metrics see it: nothing in it comes from the client as it is.

    door: None for what is not offered; ident: id of a job, or hash of a reference, else "".
    """

    request: str
    method: str
    door: Door | None
    ident: str
    peer: str
    status: int
    seconds: float


class VisitWatch(Protocol):
    def __call__(self, visit: Visit, /) -> None: ...


def nobody(_: Visit) -> None:
    """Watches nothing."""


def find_door(method: str, path: str) -> tuple[Door | None, str]:
    """The door of a request, and the id or hash in its path."""
    for door, pattern in _PATTERNS:
        if door.method == method and (found := pattern.fullmatch(path)):
            parts = found.groupdict()
            ident = parts.get("id", "")
            return door, ident if _OUR_ID.fullmatch(ident) else parts.get("sha256", "")[:12]
    return None, ""


class Gate:
    """ASGI middleware. stock: MONAI Label's app; front: ours; watch: is told of every request at its end."""

    def __init__(
        self, app: ASGIApp, front: ASGIApp, perimeter: Perimeter | None = None, watch: VisitWatch = nobody
    ) -> None:
        self.stock, self.front, self.watch = app, front, watch
        self.perimeter = perimeter or Perimeter.of(ServerSettings.from_environment())
        self._for_pages = CORSMiddleware(
            self._pass,
            allow_origins=self.perimeter.origins,
            allow_methods=("GET", "HEAD", "POST", "PUT", "DELETE"),
            allow_headers=_SENT_BY_PAGES,
            expose_headers=_READ_BY_PAGES,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.stock(scope, receive, send)
        elif scope["type"] == "http":
            await self._watch(scope, receive, send)
        else:  # there is no WebSocket here
            await send({"type": "websocket.close", "code": 1008})

    async def _watch(self, scope: Scope, receive: Receive, send: Send) -> None:
        began, request = monotonic(), uuid4().hex[:12]
        door, ident = find_door(scope["method"], scope["path"])
        status = 500

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = request
                for name, value in _ALWAYS.items():
                    headers.setdefault(name, value)
            await send(message)

        scope = {**scope, "lesionbrush_door": door, "lesionbrush_request": request}
        try:
            origin = Headers(scope=scope).get("origin", "")
            entrance = self._for_pages if self.perimeter.lists(origin) else self._pass
            await entrance(scope, receive, send_marked)
        finally:
            peer = (scope.get("client") or ("",))[0]
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self.watch(Visit(request, method, door, ident, peer, status, monotonic() - began))

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        door: Door | None = scope["lesionbrush_door"]
        refused = self._refusal(door, scope)
        if refused is not None:
            await refused(scope, receive, send)
            return
        if door and door.body is BodyKind.FILES:
            await in_turn()
        await (self.stock if door and door.stock else self.front)(scope, receive, send)

    def _refusal(self, door: Door | None, scope: Scope) -> JSONResponse | None:
        """Why not, said before a byte of the body is read."""
        headers = Headers(scope=scope)
        refusal = self.perimeter.refusal(scope, headers)
        if refusal is not None:
            return problem(*refusal)
        access = self.perimeter.access
        role: Role | None = Role.WRITE
        if access.guarded:
            sent = access.role(headers.get("authorization", ""))
            role = sent or (Role.WRITE if door and door.open else None)
        if role is None:
            answer = problem(401, "unauthorized", "send a valid token as 'Authorization: Bearer TOKEN'")
            answer.headers["WWW-Authenticate"] = 'Bearer realm="LesionBrush"'
            return answer
        if door is None:
            return problem(*why_not(scope["method"], scope["path"]))
        foreign = self.perimeter.foreign_page(scope, headers)
        if foreign is not None:
            return problem(*foreign)
        scope["lesionbrush_read_only"], scope["lesionbrush_access"] = role is Role.READ, access
        if not role.allows(door.method):
            return problem(403, "read_only", "this token may only read")
        return self._too_much(door, headers)

    def _too_much(self, door: Door, headers: Headers) -> JSONResponse | None:
        """A body of unknown or excessive size."""
        length = headers.get("content-length", "0")
        if "transfer-encoding" in headers or not (length.isascii() and length.isdecimal()):
            return problem(411, "length_required", "send the Content-Length of the request")
        if (
            door.method in _BODILESS
        ):  # no route reads one, and MONAI Label's client claims that of its last request
            return None
        taken = self.perimeter.limits.upload_bytes if door.body is BodyKind.FILES else door.body.value
        assert taken is not None
        if int(length[:20]) <= taken:
            return self._no_room(int(length))
        sizes = (f"{size / 1e9:.3f} GB" for size in (int(length[:20]), taken))
        return problem(413, TooLarge.code, "the request is {}; up to {} is taken here".format(*sizes))

    def _no_room(self, size_bytes: int) -> JSONResponse | None:
        """A body that would fill the disk, where all uploads land first."""
        if size_bytes > _SPOOLED_BYTES:
            try:
                self.perimeter.limits.require_room(size_bytes, Path(gettempdir()))
            except StorageFull as error:
                return problem(507, error.code, str(error))
        return None


_SPOOLED_BYTES = 1 << 20  # smaller ones stay in memory
_BODILESS = ("GET", "HEAD")
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")
_ALWAYS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
_SENT_BY_PAGES = (
    "Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "X-LesionBrush-Client",
)  # fmt: skip
_READ_BY_PAGES = (
    "Content-Disposition", "Location", "Retry-After", REQUEST_ID, "X-LesionBrush-Shape",
    "X-LesionBrush-Offset", "X-LesionBrush-Reference-Voxels", "X-LesionBrush-Box", "X-LesionBrush-Model",
    "X-LesionBrush-Seed", "X-LesionBrush-Voxels-Changed",
)  # fmt: skip


def install(front: ASGIApp, perimeter: Perimeter | None = None, watch: VisitWatch = nobody) -> None:
    """Put the gate before MONAI Label's app, in the place of its CORS middleware; once or many times.

    For use while that app starts up: its middleware, in use already, is stacked anew at the next request.
    Raises InvalidRequest when the settings make no sense: then the app must not start.
    """
    from monailabel.app import app

    perimeter = perimeter or Perimeter.of(ServerSettings.from_environment())
    app.user_middleware = [Middleware(Gate, front=front, perimeter=perimeter, watch=watch)]
    app.middleware_stack = None
