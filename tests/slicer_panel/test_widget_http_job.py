"""Work in a thread, told to the main thread by a timer."""

from __future__ import annotations

import ast
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import panel_kit
import pytest
from LesionBrushLib.panel.http_job import Callbacks, HttpJob
from qt_kit import pythonqt


class Heard:
    """What a job told the main thread, in order."""

    def __init__(self) -> None:
        self.said: list[tuple[str, Any]] = []
        self.callbacks = Callbacks(
            self.hear("done"), self.hear("failed"), self.hear("progress"), self.hear("cancelled")
        )

    def hear(self, what: str) -> Callable[[Any], None]:
        def heard(value: Any) -> None:
            assert threading.current_thread() is threading.main_thread()
            self.said.append((what, value))

        return heard


def wait(job: HttpJob, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while job.running:
        assert time.monotonic() < deadline
        pythonqt.application().processEvents()
        time.sleep(0.002)


def test_news_come_in_order_and_before_the_result() -> None:
    heard = Heard()

    def work(cancelled: threading.Event, report: Callable[[Any], None]) -> str:
        assert threading.current_thread() is not threading.main_thread()
        for n in range(200):
            report(n)
        return "result"

    wait(HttpJob(work, heard.callbacks, tick_ms=1))
    assert heard.said == [("progress", n) for n in range(200)] + [("done", "result")]


def test_an_error_is_handed_over() -> None:
    heard = Heard()
    error = ValueError("no")

    def work(cancelled: threading.Event, report: Callable[[Any], None]) -> None:
        raise error

    wait(HttpJob(work, heard.callbacks, tick_ms=1))
    assert heard.said == [("failed", error)]


@pytest.mark.parametrize("ends", ["returns", "raises"])
def test_cancelled_is_cancelled_however_the_work_ends(ends: str) -> None:
    heard = Heard()

    def work(cancelled: threading.Event, report: Callable[[Any], None]) -> str:
        assert cancelled.wait(5)
        report("too late")
        if ends == "raises":
            raise RuntimeError
        return "too late"

    job = HttpJob(work, heard.callbacks, tick_ms=1)
    job.cancel()
    assert job.cancelling or not job.running
    wait(job)
    assert heard.said == [("cancelled", None)]
    assert job.cancelled


def test_an_abandoned_job_is_silent() -> None:
    heard, go_on, ended = Heard(), threading.Event(), threading.Event()

    def work(cancelled: threading.Event, report: Callable[[Any], None]) -> None:
        go_on.wait(5)
        report("news")
        ended.set()

    job = HttpJob(work, heard.callbacks, tick_ms=1)
    job.abandon()
    go_on.set()
    assert ended.wait(5)
    for _ in range(20):
        pythonqt.application().processEvents()
        time.sleep(0.002)
    assert heard.said == []
    assert not job.running


def test_the_application_stays_alive_meanwhile() -> None:
    """Ticks of another timer go on while the work keeps Python busy."""
    ticks: list[float] = []
    timer = pythonqt.qt_module().QTimer()
    timer.setInterval(10)
    timer.connect("timeout()", lambda: ticks.append(time.monotonic()))
    timer.start()

    def work(cancelled: threading.Event, report: Callable[[Any], None]) -> int:
        end, count = time.monotonic() + 0.3, 0
        while time.monotonic() < end:
            count += sum(range(1000))
        return count

    wait(HttpJob(work, Heard().callbacks))
    timer.stop()
    assert len(ticks) > 5


def test_what_runs_in_the_thread_imports_neither_qt_nor_mrml() -> None:
    text = (Path(panel_kit.MODULE) / "LesionBrushLib" / "panel" / "work.py").read_text(encoding="utf-8")
    names = {
        alias.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert not names & {"qt", "ctk", "slicer", "vtk"}
