"""A real server, with a token, that tests may stop and start again."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from LesionBrushLib.client import Client, ServerUnreachable
from server_kit import REPOSITORY, free_port, server_environment

TOKEN = "a-token-of-a-test-and-nothing-else"
SETTINGS = {"LESIONBRUSH_TOKEN": TOKEN, "LESIONBRUSH_JOBS_PER_CLIENT": "5"}
START_S = 240


@dataclass
class Process:
    """A server that can be stopped and started again, at the same address."""

    root: Path
    models: Path
    port: int = field(default_factory=free_port)
    running: Any = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(REPOSITORY / "app")]
        command += ["--studies", str(self.root / "studies"), "--host", "127.0.0.1", "--port", str(self.port)]
        environment = {**server_environment(self.root / "scratch", self.models), **SETTINGS}
        with (self.root / "server.log").open("a") as log:
            self.running = subprocess.Popen(
                command, cwd=self.root, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            alive = self.running.poll
            Client(self.url, TOKEN).wait_until_ready(START_S, alive=lambda: alive() is None)
        except ServerUnreachable:
            pytest.fail(f"the server did not start:\n{(self.root / 'server.log').read_text()[-6000:]}")
