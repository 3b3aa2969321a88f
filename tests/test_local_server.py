"""The server a command starts for itself: it is there, and gone afterwards, whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from lesionbrush.cli import local_server as module
from lesionbrush.cli.__main__ import exit_when_terminated
from lesionbrush.cli.local_server import ServerFailed, asking, local_server
from LesionBrushLib.client import Cancelled, ServerError, ServerUnreachable

STUB = """
import json, signal, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response({status})
        self.end_headers()
        self.wfile.write(json.dumps({{"version": "0", "protocol": 1, "models": {{}}}}).encode())

{prologue}
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture
def stub(monkeypatch):
    """Puts a small web server in the place of ours."""

    def install(prologue: str = "", status: int = 200) -> None:
        program = STUB.format(prologue=prologue, status=status)
        monkeypatch.setattr(module, "serve_command", lambda studies, port: ["-c", program, str(port)])

    return install


def test_it_answers_and_is_gone_afterwards(stub, tmp_path: Path) -> None:
    stub()
    with local_server(tmp_path, tmp_path / "log") as (client, process):
        assert client.about().models == {}
        assert psutil.pid_exists(process)
    assert not psutil.pid_exists(process)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_it_is_gone_after_an_error(stub, tmp_path: Path, error: type[BaseException]) -> None:
    stub()
    with pytest.raises(error), local_server(tmp_path, tmp_path / "log") as (_, process):
        raise error
    assert not psutil.pid_exists(process)


def test_one_that_does_not_listen_to_reason_is_killed(stub, tmp_path: Path, monkeypatch) -> None:
    stub("signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    monkeypatch.setattr(module, "STOP_TIMEOUT_S", 0.3)
    with local_server(tmp_path, tmp_path / "log") as (_, process):
        pass
    assert not psutil.pid_exists(process)


def test_one_that_ends_at_once_shows_its_last_words(stub, tmp_path: Path) -> None:
    stub("raise SystemExit('no such flavour')")
    with pytest.raises(ServerFailed, match="no such flavour"), local_server(tmp_path, tmp_path / "log"):
        pass


def test_one_that_answers_with_an_error_is_none(stub, tmp_path: Path) -> None:
    stub("print('out of luck', flush=True)", status=500)
    with pytest.raises(ServerFailed, match="out of luck"), local_server(tmp_path, tmp_path / "log"):
        pass


def test_a_cpu_only_server_sees_no_gpu(stub, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    stub("import os; print('sees', repr(os.environ['CUDA_VISIBLE_DEVICES']), flush=True)")
    for gpu, seen in ((True, "'0'"), (False, "''")):
        with local_server(tmp_path, tmp_path / "log", gpu=gpu):
            pass
        assert f"sees {seen}" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    "error",
    [
        ServerError(422, "empty_mask", "the mask is empty"),
        ServerUnreachable("gone"),
        Cancelled("cancelled there"),
    ],
)
def test_the_servers_own_words_are_kept(error: Exception) -> None:
    with pytest.raises(ServerFailed, match=str(error)), asking():
        raise error


HOLDER = """
import signal, sys, time
from pathlib import Path
from lesionbrush.cli import local_server as module
from lesionbrush.cli.__main__ import exit_when_terminated

signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests may ignore Ctrl-C
exit_when_terminated()
module.serve_command = lambda studies, port: ["-c", {program!r}, str(port)]
with module.local_server(Path("."), Path({log!r})) as (_, process):
    print(process, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_it_is_gone_when_the_command_is_stopped(tmp_path: Path, number: int, code: int) -> None:
    program = HOLDER.format(program=STUB.format(prologue="", status=200), log=str(tmp_path / "log"))
    roots = [str(REPOSITORY / "app"), str(REPOSITORY / "slicer_module" / "LesionBrush")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(roots)}
    holder = subprocess.Popen(
        [sys.executable, "-c", program],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with holder:
        server = int(holder.stdout.readline())
        holder.send_signal(number)
        assert holder.wait(20) == code
    assert gone(server)


def test_a_command_under_nohup_outlives_its_terminal() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN), signal.getsignal(signal.SIGTERM)
    try:
        exit_when_terminated()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is not before[1]
    finally:
        signal.signal(signal.SIGHUP, before[0])
        signal.signal(signal.SIGTERM, before[1])


def gone(process: int, timeout_s: float = 5.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while psutil.pid_exists(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not psutil.pid_exists(process)
