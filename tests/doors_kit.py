"""A gate with our routes behind it and a stand-in for MONAI Label's, called without a network."""

from __future__ import annotations

import gzip
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient
from lesionbrush.server.doors.gate import Gate, Visit
from lesionbrush.server.doors.perimeter import Perimeter
from lesionbrush.server.settings import ServerSettings
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

TOKEN = "write-token-for-tests-0123456789"
READ_TOKEN = "read-token-for-tests-0123456789"
LOCAL = "http://127.0.0.1:8000"
HERE = ("127.0.0.1", 40000)
SHA256 = "a" * 64


def bearer(token: str = TOKEN) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def settings(**given: Any) -> ServerSettings:
    return ServerSettings(**given)


def stub(text: str) -> Starlette:
    """Answers everything with its name."""
    app = Starlette()

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        await PlainTextResponse(text)(scope, receive, send)

    app.mount("/", answer)
    return app


@dataclass
class House:
    """A gate, and all that it told of who came."""

    front: ASGIApp = field(default_factory=lambda: stub("front"))
    stock: ASGIApp = field(default_factory=lambda: stub("stock"))
    visits: list[Visit] = field(default_factory=list)

    def client(self, base_url: str = LOCAL, peer: tuple[str, int] = HERE, **given: Any) -> TestClient:
        gate = Gate(self.stock, self.front, Perimeter.of(settings(**given)), self.visits.append)
        return TestClient(gate, base_url, client=peer, raise_server_exceptions=False)


def code_of(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["detail"]["code"]


def nifti_header(shape: tuple[int, int, int], bits: int = 16) -> bytes:
    """348 bytes that promise so many voxels of int16, and 4 that say nothing follows."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *shape, 1, 1, 1, 1)
    struct.pack_into("<hh", header, 70, 4, bits)
    struct.pack_into("<8f", header, 76, 1, 1, 1, 1, 0, 0, 0, 0)
    struct.pack_into("<f", header, 108, 352)
    header[344:348] = b"n+1\0"
    return bytes(header)


def gzip_bomb(path: Path, head: bytes, zeros: int, members: int = 1) -> Path:
    """A small file that unpacks to `head` and `members` times `zeros` bytes, in gzip members of their own."""
    packed = gzip.compress(b"\0" * zeros)
    path.write_bytes(gzip.compress(head) + packed * members)
    return path
