"""For those who run the server: is it alive, is it ready, what does it do, and how it goes to sleep."""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import GaugeMetricFamily
from pydantic import BaseModel

import lesionbrush
from lesionbrush.core.registry import list_models, verify_weights
from lesionbrush.errors import LesionBrushError, WeightsError
from lesionbrush.server.doors.gate import Visit
from lesionbrush.server.operation.logs import log_visit
from lesionbrush.server.settings import ServerSettings
from lesionbrush.server.synthesis.inference import Service

logger = logging.getLogger(__name__)

MODELS_CHECKED_EVERY_S = 60.0


class Live(BaseModel):
    alive: bool = True


class Ready(BaseModel):
    """wrong: of "models", "disk", "queue", "closing"; nothing more is told, as everybody may ask."""

    ready: bool
    wrong: list[str]


class Operation:
    """What is known of the running server. studies: where its disk space is needed."""

    def __init__(self, service: Service, studies: Path, settings: ServerSettings) -> None:
        self.service, self.settings = service, settings
        self.studies = studies if service.vault is None else service.vault.studies
        self.closing = threading.Event()
        self._models: tuple[float, bool] | None = None
        self._lock = threading.Lock()
        service.jobs.on_over = lambda record: service.meter.job_over(record.state.value)
        service.meter.registry.register(self)

    def ready(self) -> Ready:
        """May read weights: not for the event loop."""
        load = self.service.jobs.load()
        checks = {
            "models": self._models_are_sound(),
            "disk": self.free_bytes() >= self.settings.free_gb * 1e9,
            "queue": load.queued < self.service.jobs.limits.queue_length,
            "closing": not (load.closed or self.closing.is_set()),
        }
        wrong = [name for name, good in checks.items() if not good]
        return Ready(ready=not wrong, wrong=wrong)

    def free_bytes(self) -> int:
        try:
            return shutil.disk_usage(self.studies).free
        except OSError:  # the disk is gone
            return 0

    def _models_are_sound(self) -> bool:
        """At least one model has the weights its card names; asked of the disk now and then."""
        with self._lock:
            now = time.monotonic()
            if self._models is None or now - self._models[0] > MODELS_CHECKED_EVERY_S:
                self._models = now, _any_sound(self.service.models.root)
            return self._models[1]

    def note_visit(self, visit: Visit) -> None:
        log_visit(visit)
        self.service.meter.count_visit(visit)

    def collect(self) -> Iterator[Any]:
        """Gauges, at the moment they are asked for (prometheus-client calls this)."""
        load, vault = self.service.jobs.load(), self.service.vault
        yield _gauge(
            "lesionbrush_jobs_now",
            "Jobs there are",
            "state",
            {"queued": load.queued, "running": load.running},
        )
        stored = {} if vault is None else {
            "references": vault.references.shelf.bytes, "results": vault.results.shelf.bytes,
        }  # fmt: skip
        yield _gauge("lesionbrush_stored_bytes", "Bytes kept between requests", "what", stored)
        yield _gauge(
            "lesionbrush_disk_free_bytes",
            "Room on the disk of the studies",
            "what",
            {"studies": self.free_bytes()},
        )
        yield _gauge(
            "lesionbrush_queue_places",
            "Jobs that may wait",
            "what",
            {"all": self.service.jobs.limits.queue_length},
        )
        yield _gauge("lesionbrush_info", "Version", "version", {lesionbrush.__version__: 1})

    # --- the end ---

    def close(self) -> None:
        """Take no more jobs; let running ones finish, or cancel them, as it is set. Once."""
        if self.closing.is_set():
            return
        self.closing.set()
        finish = self.settings.shutdown == "finish"
        grace_s = self.settings.grace_seconds
        logger.info(
            "shutting down: running jobs %s", f"may take {grace_s:g} s" if finish else "are cancelled"
        )
        self.service.jobs.close(finish_running=finish, timeout_s=grace_s if finish else 5.0)
        if finish and self.service.jobs.load().running:
            logger.warning("jobs still running after %g s are cancelled", grace_s)
            self.service.jobs.close(finish_running=False, timeout_s=5.0)

    def close_on_signals(self) -> None:
        """Begin to close as soon as a signal comes: whoever listens to a job keeps its connection, for which
        the web server would wait. For the event loop's thread; elsewhere nothing is done."""
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
            number = getattr(signal, name, None)
            before = None if number is None else signal.getsignal(number)
            if number is None or not callable(before):
                continue

            def handle(sent: int, frame: FrameType | None, before: Any = before) -> None:
                loop.call_soon_threadsafe(self._close_aside)
                before(sent, frame)

            signal.signal(number, handle)

    def _close_aside(self) -> None:
        threading.Thread(target=self.close, name="lesionbrush-closing", daemon=True).start()


def _gauge(name: str, text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _any_sound(root: Path | None) -> bool:
    try:
        models = list_models(root)
    except (LesionBrushError, OSError):
        return False
    for model in models:
        try:
            verify_weights(model)
        except WeightsError:
            continue
        return True
    return False


router = APIRouter()


def add_operation(front: FastAPI, operation: Operation) -> None:
    front.state.operation = operation
    front.include_router(router)


def _operation(request: Request) -> Operation:
    operation: Operation = request.app.state.operation
    return operation


@router.get("/health/live")
async def live() -> Live:
    """The process answers."""
    return Live()


@router.get("/health/ready")
async def ready(request: Request) -> JSONResponse:
    """503 while the server cannot do its work, with the reasons."""
    said = await run_in_threadpool(_operation(request).ready)
    return JSONResponse(said.model_dump(), 200 if said.ready else 503)


@router.get("/metrics")
async def metrics(request: Request) -> PlainTextResponse:
    """For Prometheus."""
    text = await run_in_threadpool(generate_latest, _operation(request).service.meter.registry)
    return PlainTextResponse(text, media_type=CONTENT_TYPE_LATEST)
