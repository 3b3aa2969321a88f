"""A real server of our own for as long as a command needs one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from LesionBrushLib.client import Cancelled, Client, ServerError, ServerUnreachable

from lesionbrush.errors import LesionBrushError
from lesionbrush.server.operation.serve import APP

LOOPBACK = "127.0.0.1"
START_TIMEOUT_S = 180
STOP_TIMEOUT_S = 10
LOG_TAIL_LINES = 12


class ServerFailed(LesionBrushError):
    """The server did not start, or did not do what it was asked."""

    code = "server_failed"


@contextmanager
def local_server(studies: Path, log: Path, *, gpu: bool = True) -> Iterator[tuple[Client, int]]:
    """`run.py serve` on a free loopback port, stopped however the block is left.

    studies: its folder of CTs; log: where its output goes. Yields a client for it, and its process id.
    Raises ServerFailed, with the end of the log, when it does not start.
    """
    port = free_port()
    hidden = {} if gpu else {"CUDA_VISIBLE_DEVICES": ""}
    path = os.pathsep.join(filter(None, (str(APP), os.environ.get("PYTHONPATH"))))
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [sys.executable, *serve_command(studies, port)],
            env={**os.environ, **hidden, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        client = Client(f"http://{LOOPBACK}:{port}")
        _wait_until_ready(client, process, log)
        yield client, process.pid
    finally:
        stop(process)


@contextmanager
def asking() -> Iterator[None]:
    """Turn what the client raises into ServerFailed, with the server's own words."""
    try:
        yield
    except (ServerError, ServerUnreachable, Cancelled) as error:
        raise ServerFailed(str(error)) from error


def serve_command(studies: Path, port: int) -> list[str]:
    """What follows `python`."""
    where = ["--studies", str(studies), "--host", LOOPBACK, "--port", str(port)]
    return ["-m", "lesionbrush.cli", "serve", *where]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        port: int = listener.getsockname()[1]
        return port


def _wait_until_ready(client: Client, process: subprocess.Popen[bytes], log: Path) -> None:
    try:
        client.wait_until_ready(START_TIMEOUT_S, alive=lambda: process.poll() is None)
    except (ServerError, ServerUnreachable) as error:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        tail = "\n".join(lines[-LOG_TAIL_LINES:])
        raise ServerFailed(f"the server did not start. The end of {log}:\n{tail}") from error


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the process to end; end it if it does not, or if we are in a hurry ourselves (a second Ctrl-C)."""
    process.terminate()
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_S)
    finally:
        process.kill()
        process.wait()
