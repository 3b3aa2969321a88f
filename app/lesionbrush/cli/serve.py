"""Start the server for 3D Slicer and other clients. It keeps the CTs it is sent in the studies folder."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from lesionbrush.engines.choice import VARIABLE as ENGINE
from lesionbrush.engines.choice import WORDS, choose_engine
from lesionbrush.errors import InvalidRequest
from lesionbrush.server.operation.place import require_free, require_studies
from lesionbrush.server.operation.serve import Tls, serve
from lesionbrush.server.synthesis.devices import VARIABLE as DEVICE
from lesionbrush.server.synthesis.devices import choose_devices
from lesionbrush.systems import DEFAULT_MODEL

EXAMPLE = (
    "curl -f {auth}-F file=@ct.nii.gz -F label=@mask.nii.gz -F 'params={{\"seed\": 1}}' "
    "'{url}/infer/{model}?output=image' -o synthetic_ct.nii.gz"
)
SETTINGS = (
    "token_file", "read_token_file", "upload_gb", "unpacked_gb", "free_gb", "log_format", "shutdown",
    "grace_seconds",
)  # fmt: skip


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--studies",
        type=studies_at,
        metavar="DIR",
        default=Path("studies"),
        help="folder of CTs, or the address of a DICOMweb server (default: ./studies)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address (default: this machine only)")
    parser.add_argument("--port", type=int, default=8000, help="default: %(default)s")
    parser.add_argument("--check", action="store_true", help="say what is wrong, and do not start")
    parser.add_argument("--make-token", type=Path, metavar="FILE", help="write a new token, and do not start")
    doors = parser.add_argument_group("who may use it (each option has a variable LESIONBRUSH_<NAME> too)")
    doors.add_argument("--token-file", metavar="FILE", help="needed to listen beyond this machine")
    doors.add_argument("--read-token-file", metavar="FILE", help="a second token, that may only read")
    doors.add_argument("--origin", action="append", metavar="URL", help="a web page that may use the server")
    doors.add_argument("--tls-cert", type=Path, metavar="PEM", help="serve HTTPS with this certificate")
    doors.add_argument("--tls-key", type=Path, metavar="PEM", help="its key, if not in the same file")
    limits = parser.add_argument_group("limits")
    limits.add_argument("--upload-gb", metavar="GB", help="largest request (default: 4)")
    limits.add_argument("--unpacked-gb", metavar="GB", help="most a file may unpack to (default: 8)")
    limits.add_argument("--free-gb", metavar="GB", help="kept free on the disk (default: 1)")
    running = parser.add_argument_group("running")
    running.add_argument("--device", metavar="NAMES", help="cpu, cuda, or cuda:0,cuda:1 (default: all GPUs)")
    running.add_argument("--engine", metavar="NAME", help=f"of CPUs: {', '.join(WORDS)}")
    running.add_argument("--log", dest="log_format", choices=("text", "json"), help="default: text")
    running.add_argument("--shutdown", choices=("finish", "cancel"), help="running jobs (default: finish)")
    running.add_argument("--grace", dest="grace_seconds", metavar="S", help="to finish in (default: 30)")


def run(options: Namespace) -> int:
    if options.make_token:
        return make(options.make_token)
    apply(options)
    tls = tls_from(options)
    if options.check:
        return check(options, tls)
    require_free(options.host, options.port)
    require_allowed(options.host)
    if isinstance(options.studies, Path):
        require_studies(options.studies)
        options.studies.mkdir(parents=True, exist_ok=True)
    print(greeting(options.host, options.port, options.studies, encrypted=tls is not None), flush=True)
    serve(options.studies, options.host, options.port, tls=tls)
    return 0


def studies_at(text: str) -> Path | str:
    """An address stays as it is: a Path would lose a slash of it. Raises InvalidRequest."""
    if "://" not in text:
        return Path(text)
    from lesionbrush.server.archive.dicomweb import check_address

    return check_address(text)  # before anybody prints it: it may hold a password


def apply(options: Namespace) -> None:
    """Options become the variables that both ways to start the server read. Raises InvalidRequest."""
    for name in SETTINGS:
        if getattr(options, name) is not None:
            os.environ[f"LESIONBRUSH_{name.upper()}"] = str(getattr(options, name))
    if options.device is not None:
        os.environ[DEVICE] = ",".join(choose_devices(options.device))
    if options.engine is not None:
        choose_engine(wanted=options.engine)
        os.environ[ENGINE] = options.engine
    if options.origin:
        os.environ["LESIONBRUSH_ORIGINS"] = " ".join(options.origin)


def tls_from(options: Namespace) -> Tls | None:
    """Raises InvalidRequest."""
    if options.tls_cert is None:
        if options.tls_key is not None:
            raise InvalidRequest("--tls-key needs --tls-cert")
        return None
    return Tls(options.tls_cert, options.tls_key)


def make(path: Path) -> int:
    from lesionbrush.server.doors.access import make_token

    make_token(path)
    print(f"{path} has a new token, for you alone to read. Start with --token-file {path}")
    return 0


def check(options: Namespace, tls: Tls | None) -> int:
    """1 if the server would not start, or not work."""
    from lesionbrush.server.operation.check import findings

    found = findings(options.studies, options.host, options.port, encrypted=tls is not None)
    for finding in found:
        print(finding)
    wrong = sum(finding.wrong for finding in found)
    print(f"{wrong} of {len(found)} points are wrong" if wrong else "all is well")
    return 1 if wrong else 0


def require_allowed(host: str) -> None:
    """Raises InvalidRequest: bad settings, or no token for an address that others can reach."""
    from lesionbrush.server.doors.access import load_access
    from lesionbrush.server.doors.perimeter import require_bindable
    from lesionbrush.server.settings import ServerSettings

    require_bindable(host, load_access(ServerSettings.from_environment()))


def greeting(host: str, port: int, studies: Path | str, *, encrypted: bool = False) -> str:
    """What to do with the server, and a warning when others can listen to what is said."""
    from lesionbrush.server.doors.perimeter import is_loopback

    url = f"http{'s' if encrypted else ''}://{f'[{host}]' if ':' in host else host}:{port}"
    where = studies.resolve() if isinstance(studies, Path) else studies
    guarded = any(os.environ.get(f"LESIONBRUSH_{name}") for name in ("TOKEN", "TOKEN_FILE"))
    auth = '-H "Authorization: Bearer $TOKEN" ' if guarded else ""
    lines = [
        f"Serving at {url}, CTs in {where}. Ctrl-C stops it. For example:",
        f"  {EXAMPLE.format(url=url, model=DEFAULT_MODEL, auth=auth)}",
    ]
    if not encrypted and not is_loopback(host):
        lines.append(
            "Without TLS whoever listens on the network can read the token and the CTs: see docs/server.md"
        )
    return "\n".join(lines)
