"""Servers of our own command, `run.py serve`, each in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from lesionbrush.files.io import write_volume
from server_kit import REPOSITORY, STORED, free_port, make_ct, server_environment, stop

START_TIMEOUT_S = 240


@dataclass(frozen=True)
class Started:
    """root holds `studies`, `scratch`, `home` and `server.log`."""

    process: subprocess.Popen[bytes]
    url: str
    root: Path

    @property
    def log(self) -> str:
        return (self.root / "server.log").read_text(encoding="utf-8")

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


def start(root: Path, models_dir: Path, *arguments: str, **variables: str) -> Started:
    """With one CT stored. arguments: of `run.py serve`; variables: of its environment."""
    studies, scratch, port = root / "studies", root / "scratch", free_port()
    for folder in (studies, scratch, root / "home"):
        folder.mkdir()
    write_volume(make_ct(), studies / f"{STORED}.nii.gz")
    path = os.pathsep.join(str(REPOSITORY / name) for name in ("app", "slicer_module/LesionBrush"))
    own = {"PYTHONPATH": path, "HOME": str(root / "home"), "MPLCONFIGDIR": str(scratch)}
    environment = {**server_environment(scratch, models_dir), **own, **variables}
    command = [sys.executable, "-m", "lesionbrush.cli", "serve"]
    command += ["--studies", str(studies), "--port", str(port)]
    with (root / "server.log").open("w") as log:
        process = subprocess.Popen(
            [*command, *arguments], cwd=root, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    scheme = "https" if "--tls-cert" in arguments else "http"
    return Started(process, f"{scheme}://127.0.0.1:{port}", root)


def wait_until_live(server: Started, authority: Path | None = None) -> None:
    """authority: PEM file of whoever signed the server's certificate."""
    deadline = time.monotonic() + START_TIMEOUT_S
    url, verify = f"{server.url}/health/live", str(authority) if authority else True
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            if requests.get(url, timeout=5, verify=verify).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.2)
    pytest.fail(f"the server did not start:\n{server.log[-8000:]}")


@contextmanager
def serving(
    root: Path, models_dir: Path, *arguments: str, authority: Path | None = None, **variables: str
) -> Iterator[Started]:
    """One that answers, and is stopped however the block is left."""
    server = start(root, models_dir, *arguments, **variables)
    try:
        wait_until_live(server, authority)
        yield server
    finally:
        stop(server.process)
