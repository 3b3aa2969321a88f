"""Starting the server: MONAI Label's app with ours in it, on this machine only unless there is a token."""

from __future__ import annotations

import gc
import logging
import os
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lesionbrush.errors import InvalidRequest, LesionBrushError
from lesionbrush.server.collector import no_collections

APP = Path(__file__).resolve().parents[3]
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}  # read when mlflow is imported
STOCK_HOST = "0.0.0.0"
NOT_NEEDED = ("ignite", "mlflow", "pandas", "matplotlib", "tensorboard", "sklearn")
"""Optional to MONAI, which has them for training, its records and plots: two of six seconds of a start.

This server trains nothing (`doors/closed.py`), and neither running networks nor MONAI's transforms need them.
"""
_SPARE_SECONDS = 15  # for answers on their way, once the jobs are over

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tls:
    """PEM files. key: None where the certificate's file has it."""

    certificate: Path
    key: Path | None = None

    def __post_init__(self) -> None:
        for file in filter(None, (self.certificate, self.key)):
            if not file.is_file():
                raise InvalidRequest(f"{file}: there is no such file; TLS needs a certificate and its key")


def serve(
    studies: Path | str,
    host: str = "127.0.0.1",
    port: int = 8000,
    models: Path | None = None,
    tls: Tls | None = None,
) -> None:
    """Serve a folder of CTs, or the studies at a DICOMweb address, until interrupted or terminated.

    All else is set by variables, see `settings`.

    models: folder of installed models, by default this checkout's. Writes nothing beside the studies folder
    and its private folder. Raises InvalidRequest: settings that make no sense, no token for an open address;
    StudiesInUse.
    """
    os.environ.update(QUIET)
    if models is not None:
        os.environ["LESIONBRUSH_MODELS"] = str(models.resolve())
    import uvicorn

    from lesionbrush.server.doors.perimeter import Perimeter, require_bindable
    from lesionbrush.server.operation.logs import configure
    from lesionbrush.server.settings import ServerSettings
    from lesionbrush.server.storage.private import private_root

    settings = ServerSettings.from_environment()
    require_bindable(host, Perimeter.of(settings).access)
    configure(settings.log_format)
    if isinstance(studies, Path):
        private_root(studies)  # says at once when another server works there
    _tell_monai_label(studies, port)
    import_monai_label()
    encryption: dict[str, Any] = {}
    if tls is not None:
        encryption = {"ssl_certfile": str(tls.certificate), "ssl_keyfile": str(tls.key) if tls.key else None}
    uvicorn.run(
        "monailabel.app:app",
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(settings.grace_seconds) + _SPARE_SECONDS,
        **encryption,
    )


def _tell_monai_label(studies: Path | str, port: int) -> None:
    """What its own command would set. Its own sessions and training are not offered, and so not made."""
    from monailabel.config import settings

    settings.MONAI_LABEL_APP_DIR = str(APP)
    settings.MONAI_LABEL_STUDIES = str(studies.resolve() if isinstance(studies, Path) else studies)
    settings.MONAI_LABEL_APP_CONF = {}
    settings.MONAI_LABEL_SERVER_PORT = port
    for name in ("SESSIONS", "TASKS_TRAIN", "TASKS_SCORING", "TASKS_BATCH_INFER"):
        setattr(settings, f"MONAI_LABEL_{name}", False)


def import_monai_label() -> None:
    """Half of a start. MONAI takes what is in `NOT_NEEDED` for not installed; to all others it is there."""
    with no_collections(), not_installed(NOT_NEEDED):
        import monailabel.app  # noqa: F401
    gc.freeze()


@contextmanager
def not_installed(packages: Sequence[str]) -> Iterator[None]:
    """Importing one of these fails in the block, but for those that are imported already."""
    hidden = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: the documented way to say so
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)


def silence_dependencies() -> None:
    """For the stock command, which has imported mlflow by the time our code is loaded.

    mlflow sends nothing before something is recorded; from now on nothing is.
    """
    os.environ.update(QUIET)
    telemetry = sys.modules.get("mlflow.telemetry")
    if telemetry is not None:
        telemetry.set_telemetry_client()  # asks those variables, and drops the client there was


def stock_host(argv: Sequence[str]) -> str | None:
    """The address the stock command `python -m monailabel.main start_server` was told; None for any other."""
    program = Path(argv[0]).parts[-2:] if argv else ()
    if program not in (("monailabel", "main.py"), ("bin", "monailabel")) or "start_server" not in argv:
        return None
    parser = ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("-i", "--host", default=STOCK_HOST)
    return str(parser.parse_known_args(list(argv[1:]))[0].host)


def refuse_to_start(error: LesionBrushError) -> None:
    """Say why in the log; the caller lets the start fail."""
    logger.error("the server does not start: %s", error)
