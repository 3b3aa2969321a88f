"""`run.py cohort node`: this machine makes cases of cohorts for others, until it is interrupted."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from lesionbrush.cohorts.cluster import QUIET, require_ray
from lesionbrush.cohorts.processes import usable_cores
from lesionbrush.errors import InvalidRequest

LOOPBACK, PORT = "127.0.0.1", 6379
TOKEN = Path("~/.ray/auth_token")
_STORE_BYTES = 80 * 2**20
"""Least that Ray allows: nothing large goes through it."""
_STARTED = "Ray runtime started."


def add_node_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--at", default=LOOPBACK, metavar="IP",
        help="this machine's address in a private network (default: %(default)s, for this machine alone)",
    )  # fmt: skip
    parser.add_argument("--join", metavar="HOST:PORT", help="the first node (default: this is it)")
    parser.add_argument("--port", type=int, default=PORT, help="of the first node (default: %(default)s)")
    parser.add_argument(
        "--workers", type=int, default=usable_cores(), metavar="N",
        help="how many have room here (default: as many as there are CPU cores)",
    )  # fmt: skip


def run_node(options: Namespace) -> int:
    """Until Ctrl-C. Raises InvalidRequest."""
    require_ray()
    if options.workers < 1 or not 1024 <= options.port < 2**16:
        raise InvalidRequest(
            f"--workers {options.workers} --port {options.port}: give 1 or more, and a port from 1024 on"
        )
    if options.join and options.at == LOOPBACK:
        raise InvalidRequest(f"--join {options.join}: give this machine's own address there too, with --at")
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or TOKEN.expanduser())
    require_token(token, first=not options.join)
    temporary = TemporaryDirectory(prefix="lesionbrush-", ignore_cleanup_errors=True)
    with temporary as logs, _node(options, token, Path(logs)) as node:
        address = options.join or f"{options.at}:{options.port}"
        print(f"a node for {options.workers} workers; Ctrl-C ends it. Use --ray {address}", flush=True)
        return node.wait()


def require_token(path: Path, first: bool) -> None:
    """Whoever has it may run anything on all nodes; the first one makes it. Raises InvalidRequest."""
    if path.is_file():
        return
    if not first:
        raise InvalidRequest(f"there is no {path}: copy it from the first node, readable by you alone")
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32))


@contextmanager
def _node(options: Namespace, token: Path, logs: Path) -> Iterator[subprocess.Popen[bytes]]:
    """One that has started. It ends with all it started."""
    log = logs / "node.log"
    with log.open("wb") as said:
        node = subprocess.Popen(
            ray_start(options, logs), env=node_environment(options, token), stdout=said, stderr=said
        )
    try:
        while _STARTED not in log.read_text(errors="replace"):
            if node.poll() is not None:
                last = [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-1:]
                raise InvalidRequest(f"Ray did not start: {' '.join(last)}")
            time.sleep(0.2)
        yield node
    finally:
        node.send_signal(signal.SIGTERM)
        node.wait()


def ray_start(options: Namespace, folder: Path) -> Sequence[str]:
    """No dashboard, nothing that watches or grows the cluster."""
    first = ("--head", f"--port={options.port}", "--include-dashboard=false", "--no-monitor")
    return [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block"),
        *((f"--address={options.join}",) if options.join else first),
        f"--node-ip-address={options.at}",
        f"--num-cpus={options.workers}",
        f"--object-store-memory={_STORE_BYTES}",
        f"--temp-dir={folder}",
        "--include-log-monitor=false",
        "--disable-usage-stats",
    ]


def node_environment(options: Namespace, token: Path) -> Mapping[str, str]:
    return {
        **os.environ,
        **QUIET,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        # What it does, on all systems: without it 127.0.0.1 becomes an address that others reach.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": str(int(options.at != LOOPBACK)),
    }
