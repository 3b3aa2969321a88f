"""Puts it all in place when the server starts, whoever starts it."""

from __future__ import annotations

import sys
from pathlib import Path

from fastapi import FastAPI

from lesionbrush.errors import LesionBrushError
from lesionbrush.server.collector import settle
from lesionbrush.server.doors.gate import install
from lesionbrush.server.doors.perimeter import Perimeter, require_bindable
from lesionbrush.server.operation.health import Operation, add_operation
from lesionbrush.server.operation.logs import configure
from lesionbrush.server.operation.serve import refuse_to_start, silence_dependencies, stock_host
from lesionbrush.server.settings import ServerSettings
from lesionbrush.server.synthesis.inference import Service
from lesionbrush.server.synthesis.rehearsal import rehearse_soon

SWITCH_S = 0.001
"""How long a thread that computes may keep Python's lock from the event loop; Python's own is 5 ms."""


def prepare() -> None:
    """Before anything else: nothing leaves the machine, the log is discreet, the address is allowed.

    Raises InvalidRequest, in time: the web server opens its port after the app has started.
    """
    from monailabel.config import settings as stock

    silence_dependencies()
    if not stock.MONAI_LABEL_APP_DIR:  # nobody serves: a test or a tool made the app
        return
    try:
        settings = ServerSettings.from_environment()
        configure(settings.log_format)
        host = stock_host(sys.argv)
        access = Perimeter.of(settings).access
        if host is not None:
            require_bindable(host, access)
    except LesionBrushError as error:
        refuse_to_start(error)
        raise


def open_doors(front: FastAPI, service: Service, studies: Path) -> Operation:
    """The gate before everything, health and metrics behind it, and a clean end."""
    settings = ServerSettings.from_environment()
    if service.vault is not None:  # uploads land there from the first byte on, and are gone after a crash
        service.vault.references.private.use_for_temporary_files()
    operation = Operation(service, studies, settings)
    add_operation(front, operation)
    install(front, Perimeter.of(settings), operation.note_visit)
    operation.close_on_signals()
    if settings.warm_up:
        rehearse_soon(service)
    sys.setswitchinterval(SWITCH_S)
    settle()
    return operation
