"""Start the server for 3D Slicer and other clients. It keeps the CTs it is sent in the studies folder."""

from __future__ import annotations

import errno
import ipaddress
import socket
from argparse import ArgumentParser, Namespace
from pathlib import Path

from lesionbrush.cli.options import DEFAULT_MODEL
from lesionbrush.errors import InvalidRequest
from lesionbrush.server.serve import serve

EXAMPLE = (
    "curl -f -F file=@ct.nii.gz -F label=@mask.nii.gz -F 'params={{\"seed\": 1}}' "
    "'{url}/infer/{model}?output=image' -o synthetic_ct.nii.gz"
)


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--studies", type=Path, metavar="DIR", default=Path("studies"), help="./studies")
    parser.add_argument("--host", default="127.0.0.1", help="address (default: this machine only)")
    parser.add_argument("--port", type=int, default=8000, help="default: %(default)s")


def run(options: Namespace) -> int:
    require_free(options.host, options.port)
    options.studies.mkdir(parents=True, exist_ok=True)
    print(greeting(options.host, options.port, options.studies), flush=True)
    serve(options.studies, options.host, options.port)
    return 0


def require_free(host: str, port: int) -> None:
    """Raise InvalidRequest when nobody can listen there: MONAI Label would say so after half a minute."""
    if not 0 < port < 2**16:
        raise InvalidRequest(f"--port {port}: ports are numbers from 1 to 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        advice = "another program listens there; choose another --port" if taken else str(error)
        raise InvalidRequest(f"cannot serve at {host}:{port}: {advice}") from error


def greeting(host: str, port: int, studies: Path) -> str:
    """What to do with the server, and a warning when others can reach it."""
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    lines = [
        f"Serving at {url}, CTs in {studies.resolve()}. Ctrl-C stops it. For example:",
        f"  {EXAMPLE.format(url=url, model=DEFAULT_MODEL)}",
    ]
    if not is_loopback(host):
        lines.append(f"Whoever reaches {host} can use this server and read its CTs.")
    return "\n".join(lines)


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
