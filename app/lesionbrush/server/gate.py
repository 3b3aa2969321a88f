"""What stands before MONAI Label's own app: a short list of its routes passes, all else is ours to answer."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from lesionbrush.server.errors import TooLarge, problem
from lesionbrush.server.uploads import MAX_BYTES

STOCK_ROUTES = {
    ("GET", "/info/"),
    ("GET", "/datastore/image"),
    ("HEAD", "/datastore/image"),
    ("GET", "/datastore/label"),
    ("HEAD", "/datastore/label"),
    ("GET", "/datastore/label/info"),
}
"""The routes of MONAI Label that only read, take no path, and tell no path of this machine."""


class Gate:
    """ASGI middleware. stock: MONAI Label's app; front: ours, which refuses what it does not know."""

    def __init__(self, app: ASGIApp, front: ASGIApp, max_bytes: int = MAX_BYTES) -> None:
        self.stock, self.front, self.max_bytes = app, front, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or (scope.get("method"), scope["path"]) in STOCK_ROUTES:
            await self.stock(scope, receive, send)
            return
        await (self._refusal(scope) or self.front)(scope, receive, send)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        """An answer to a body of unknown or excessive size, before a byte of it is stored."""
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH"):
            return None
        length = Headers(scope=scope).get("content-length", "")
        if not length.isdecimal():
            return problem(411, "length_required", "send the Content-Length of the request")
        if int(length) > self.max_bytes:
            sent, taken = (f"{size / 1e9:.3f} GB" for size in (int(length), self.max_bytes))
            return problem(413, TooLarge.code, f"the request is {sent}; this server takes up to {taken}")
        return None


def install(front: ASGIApp) -> None:
    """Put the gate before MONAI Label's app, in the place of its CORS middleware; once or many times.

    For use while that app starts up: its middleware, in use already, is stacked anew at the next request.
    """
    from monailabel.app import app

    app.user_middleware = [Middleware(Gate, front=front)]
    app.middleware_stack = None
