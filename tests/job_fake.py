"""A server in this process that speaks protocol 1, and misbehaves as it is told."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from LesionBrushLib.client.boxes import voxel_sha256
from LesionBrushLib.client.nifti import write_nifti

PREFIX = "/lesionbrush/v1"
PNG = b"\x89PNG of the lesion"
CT = np.asfortranarray(np.random.default_rng(0).integers(-1000, 400, (9, 8, 7)).astype(np.int16))
VOXELS = voxel_sha256(CT)
BOX = np.asfortranarray(np.arange(-12, 12).reshape(2, 3, 4).astype(np.int16))
OFFSET = (4, 2, 1)
RECORD = {"synthetic": True, "seed": 5}
MODEL = {"card": {"title": "Lung", "window_hu": [-1000, 400]}, "schema": {"type": "object"}, "problem": None}
"""As servers wrote it that knew edits only, and of inputs no more than names."""
TAKES = [
    {"name": "layout", "kind": "layout", "about": "organs and their names", "required": True, "on": "own"},
    {"name": "report", "kind": "text", "about": "what a radiologist would say"},
]
WHOLE = {**MODEL, "card": {"title": "Chests", "kind": "volume", "takes": TAKES}}
"""A model that makes whole CTs."""
AFFINE = np.array(((-0.8, 0.0, 0.0, 90.0), (0.0, -0.8, 0.0, 70.0), (0.0, 0.0, 2.5, -300.0), (0, 0, 0, 1.0)))
ORGANS = np.asfortranarray((CT > 0).astype(np.uint8) * 2)
ORGAN_NAMES = {"2": "body"}
GENERATED = {"synthetic": True, "generated": True, "reference_sha256": None, "seed": 5}


@dataclass
class Fake:
    """Knobs and memory of the server.

    steps: statuses a job goes through; token: it wants; events: "ok", "absent", "held" (by something on the
    way), "cut" (after each one), "broken" (no event at all); lose: by what is asked ("submit", "box", ...),
    how many answers never arrive, though the work was done; slow_answer_s; refuse: (status, body, headers).
    """

    url: str = ""
    token: str = ""
    facts: dict[str, Any] = field(
        default_factory=lambda: {"version": "9", "protocol": 1, "models": {"lung": MODEL}}
    )
    record: dict[str, Any] = field(default_factory=lambda: dict(RECORD))
    volume: bytes = b"volume" * 100_000
    labels: bytes | None = None
    names: Any = field(default_factory=lambda: dict(ORGAN_NAMES))
    events: str = "ok"
    step_s: float = 0.01
    steps: int = 3
    end: dict[str, Any] = field(default_factory=lambda: {"state": "done", "variants": 1})
    lose: Counter[str] = field(default_factory=Counter)
    slow_answer_s: dict[str, float] = field(default_factory=dict)
    refuse: dict[str, tuple[int, bytes, dict[str, str]]] = field(default_factory=dict)
    box_hash: str = hashlib.sha256(BOX.tobytes(order="F")).hexdigest()
    asked: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    references: dict[str, int] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    started: dict[str, float] = field(default_factory=dict)

    def generate(self) -> None:
        """Answer with whole new CTs, in which it is known what is where."""
        self.facts = {"version": "9", "protocol": 1, "models": {"chest": WHOLE}}
        self.record = dict(GENERATED)
        self.volume = gzip.compress(write_nifti(CT, AFFINE))
        self.labels = gzip.compress(write_nifti(ORGANS, AFFINE))

    def new_job(self, key: str) -> dict[str, Any]:
        if key not in self.keys:
            self.keys[key] = f"job{len(self.keys)}"
            self.started[self.keys[key]] = time.monotonic()
        return self.status(self.keys[key])

    def status(self, job: str) -> dict[str, Any]:
        """By the clock, so that polling and events agree."""
        base = {"id": job, "model": "lung", "variants": 0, "steps": self.steps}
        step = int((time.monotonic() - self.started[job]) / self.step_s)
        if job in self.cancelled:
            return {**base, "state": "cancelled", "step": min(step, self.steps)}
        if step >= self.steps:
            return {**base, "step": self.steps, **self.end}
        return {**base, "state": "running" if step else "queued", "step": step}

    def restart(self) -> None:
        self.started.clear()
        self.keys.clear()

    def count(self, what: str) -> int:
        return sum(what in line for line in self.asked)


class Lost(Exception):
    """No answer: the connection is closed."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: Fake

    def log_message(self, *_: object) -> None: ...

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (Lost, OSError):
            self.close_connection = True

    def answer(self) -> None:
        path = urlsplit(self.path).path
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.fake.asked.append(f"{self.command} {self.path}")
        self.fake.headers.append(dict(self.headers))
        self.fake.bodies.append(body)
        what = next(name for name, route in ROUTES if re.fullmatch(route, f"{self.command} {path}"))
        if self.fake.token and self.headers.get("Authorization") != f"Bearer {self.fake.token}":
            self.fail(401, "unauthorized", "this server wants a token")
        elif what in self.fake.refuse:
            self.send(*self.fake.refuse[what])
        else:
            getattr(self, f"on_{what}")(path, body)

    do_GET = do_PUT = do_POST = do_DELETE = answer  # noqa: N815, the library's names

    def on_facts(self, path: str, body: bytes) -> None:
        self.say(200, self.fake.facts, "facts")

    def on_known(self, path: str, body: bytes) -> None:
        sha = path.rpartition("/")[2]
        if sha not in self.fake.references:
            self.fail(404, "unknown_reference", "send it")
        else:
            self.say(200, self.reference(sha), "known")

    def on_put(self, path: str, body: bytes) -> None:
        sha = path.rpartition("/")[2]
        if hashlib.sha256(body).hexdigest() != sha:
            self.fail(422, "hash_mismatch", "the bytes are others")
            return
        self.fake.references[sha] = len(body)
        self.say(201, self.reference(sha), "put")

    def reference(self, sha: str) -> dict[str, Any]:
        size = self.fake.references[sha]
        return {"reference": sha, "voxel_sha256": VOXELS, "shape": list(CT.shape), "bytes": size}

    def on_submit(self, path: str, body: bytes) -> None:
        self.say(202, self.fake.new_job(self.headers["Idempotency-Key"]), "submit")

    def job(self, path: str) -> str | None:
        job = path.removeprefix(f"{PREFIX}/jobs/").partition("/")[0]
        if job in self.fake.started:
            return job
        self.fail(404, "unknown_job", "there is no such job")
        return None

    def on_status(self, path: str, body: bytes) -> None:
        if job := self.job(path):
            self.say(200, self.fake.status(job), "status")

    def on_cancel(self, path: str, body: bytes) -> None:
        if job := self.job(path):
            self.fake.cancelled.add(job)
            self.say(200, self.fake.status(job), "cancel")

    def on_events(self, path: str, body: bytes) -> None:
        job = self.job(path)
        if job is None:
            return
        if self.fake.events == "absent":
            self.fail(404, "not_found", "no such route")
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        if self.fake.events == "broken":
            return
        self.stream(job, int(self.headers.get("Last-Event-ID", 0)))

    def stream(self, job: str, last: int) -> None:
        number, held = last, self.fake.events == "held"
        while job in self.fake.started:
            status = self.fake.status(job)
            number += 1
            text = f": alive\n\nid: {number}\nevent: status\ndata: {json.dumps(status)}\n\n"
            if status["step"]:
                number += 1
                png = base64.b64encode(PNG).decode()
                text = (
                    f"id: {number}\nevent: preview\ndata: "
                    + json.dumps({"step": 1, "png": png})
                    + f"\n\n{text}"
                )
            if not held:
                self.wfile.write(text.encode())
                self.wfile.flush()
            if status["state"] not in ("queued", "running") or self.fake.events == "cut":
                return
            until = time.monotonic() + self.fake.step_s
            while time.monotonic() < until and job in self.fake.started:
                time.sleep(0.01)

    def on_preview(self, path: str, body: bytes) -> None:
        self.send(200, PNG, {})

    def on_record(self, path: str, body: bytes) -> None:
        self.say(200, self.fake.record, "record")

    def on_labels(self, path: str, body: bytes) -> None:
        if self.fake.labels is None:
            self.fail(404, "no_labels", "it is not known what is where")
        elif path.endswith("names"):
            self.say(200, self.fake.names, "names")
        else:
            self.send(200, self.fake.labels, {})

    def on_box(self, path: str, body: bytes) -> None:
        self.lose("box")
        headers = {
            "Shape": ",".join(map(str, BOX.shape)),
            "Offset": ",".join(map(str, OFFSET)),
            "Reference-Voxels": VOXELS,
            "Box": self.fake.box_hash,
        }
        headers = {f"X-LesionBrush-{name}": value for name, value in headers.items()}
        self.send(200, BOX.tobytes(order="F"), headers)

    def on_volume(self, path: str, body: bytes) -> None:
        content = self.fake.volume
        if self.fake.lose["volume"] > 0:
            self.fake.lose["volume"] -= 1
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 3])
            raise Lost
        self.send(200, content, {})

    on_image = on_volume

    def on_images(self, path: str, body: bytes) -> None:
        self.say(200, {"objects": {"ct2": {}, "ct1": {}}}, "images")

    def on_put_image(self, path: str, body: bytes) -> None:
        self.say(200, {"image": "own"}, "put_image")

    def on_accept(self, path: str, body: bytes) -> None:
        wanted = json.loads(body or b"{}").get("image")
        self.say(200, {"image": wanted or "synthetic-1", "label": "final"}, "accept")

    def on_discard(self, path: str, body: bytes) -> None:
        if path in self.fake.cancelled:
            self.fail(410, "discarded", "it is gone")
            return
        self.fake.cancelled.add(path)
        self.say(200, {}, "discard")

    def lose(self, what: str) -> None:
        if self.fake.lose[what] > 0:
            self.fake.lose[what] -= 1
            raise Lost

    def say(self, status: int, content: Any, what: str) -> None:
        self.lose(what)
        time.sleep(self.fake.slow_answer_s.get(what, 0.0))
        self.send(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def fail(self, status: int, code: str, message: str) -> None:
        self.say(status, {"detail": {"code": code, "message": message}}, "")

    def send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


JOB = f"{PREFIX}/jobs/[^/]+"
ROUTES = (
    ("facts", f"GET {PREFIX}/"),
    ("images", "GET /datastore/"),
    ("image", "GET /datastore/image"),
    ("put_image", "PUT /datastore/image"),
    ("known", f"GET {PREFIX}/references/.*"),
    ("put", f"PUT {PREFIX}/references/.*"),
    ("submit", f"POST {PREFIX}/jobs"),
    ("status", f"GET {JOB}"),
    ("cancel", f"DELETE {JOB}"),
    ("events", f"GET {JOB}/events"),
    ("preview", f"GET {JOB}/preview"),
    ("record", rf"GET {JOB}/variants/\d+"),
    ("box", rf"GET {JOB}/variants/\d+/box"),
    ("volume", rf"GET {JOB}/variants/\d+/volume"),
    ("labels", rf"GET {JOB}/variants/\d+/labels(/names)?"),
    ("accept", rf"POST {JOB}/variants/\d+/accept"),
    ("discard", rf"POST {JOB}/variants/\d+/discard"),
)


@contextmanager
def running(fake: Fake, tls: ssl.SSLContext | None = None) -> Iterator[Fake]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"fake": fake}))
    if tls is not None:  # the handshake is for the thread of the connection
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    fake.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield fake
    finally:
        fake.started.clear()  # streams end
        server.shutdown()
        server.server_close()
