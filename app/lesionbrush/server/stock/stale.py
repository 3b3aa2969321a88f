"""MONAI Label's Python client, once it has a token, sends the Content-Type of its last request along.

Its `create_session` then names a boundary that is not in the body. The body's first line has the right one.
"""

from __future__ import annotations

import re

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PATH = "/session/"
_FIRST_LINE = re.compile(rb"--([0-9A-Za-z_-]{1,70})\r\n")


class TrueBoundary:
    """ASGI middleware: a form of a new session is read by the boundary that it has."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (scope["method"], scope["path"]) != ("PUT", _PATH):
            await self.app(scope, receive, send)
            return
        first: list[Message] = [await receive()]
        found = _FIRST_LINE.match(first[0].get("body", b""))
        if found is not None:
            scope = {**scope, "headers": list(scope["headers"])}
            MutableHeaders(scope=scope)["Content-Type"] = f"multipart/form-data; boundary={found[1].decode()}"

        async def from_the_first() -> Message:
            return first.pop() if first else await receive()

        await self.app(scope, from_the_first, send)
