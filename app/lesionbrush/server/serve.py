"""Starting the server: MONAI Label's own, with our app, on this machine only unless told otherwise."""

from __future__ import annotations

import os
from pathlib import Path

APP = Path(__file__).resolve().parents[2]
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}  # read when mlflow is imported


def serve(studies: Path, host: str = "127.0.0.1", port: int = 8000, models: Path | None = None) -> None:
    """Serve a folder of CTs until interrupted, as `monailabel start_server` does.

    models: folder of installed models, by default this checkout's. Whoever reaches `host` can use the server.
    """
    os.environ.update(QUIET)
    if models is not None:
        os.environ["LESIONBRUSH_MODELS"] = str(models.resolve())
    from monailabel.main import Main

    command = [
        "start_server",
        "--app",
        str(APP),
        "--studies",
        str(studies),
        "--host",
        host,
        "--port",
        str(port),
    ]
    server = Main()
    server.action_start_server(server.args_parser().parse_args(command))
