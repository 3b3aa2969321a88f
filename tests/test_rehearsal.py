"""The first request finds its model ready; what goes wrong before it is no trouble."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest
from jobs_kit import Steps, board, closed_gate, submit, until
from lesionbrush.server.jobs.board import Jobs
from lesionbrush.server.operation import startup
from lesionbrush.server.synthesis import rehearsal
from lesionbrush.server.synthesis.inference import Service
from server_kit import MODEL

pytest_plugins = "server_fixtures"


@pytest.fixture
def service(models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.setenv("LESIONBRUSH_DEVICE", "cpu")
    monkeypatch.setattr(rehearsal, "DEFAULT_MODEL", MODEL)
    return Service(models_dir)


def test_a_model_is_loaded_and_has_run(service: Service) -> None:
    rehearsal.rehearse(service, "cpu")
    assert service.models.names("cpu") == [MODEL]
    assert service.models.warm(MODEL, "cpu").model.evaluate.engines


def test_it_comes_by_itself(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "AFTER_S", 0.0)
    rehearsal.rehearse_soon(service)
    until(lambda: service.models.names("cpu") == [MODEL])
    service.jobs.close(finish_running=True)


@pytest.mark.parametrize("name", ["absent", "Not A Name"])
def test_a_model_that_is_not_there_is_no_trouble(
    service: Service, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rehearsal, "DEFAULT_MODEL", name)
    with caplog.at_level(logging.INFO):
        rehearsal.rehearse(service, "cpu")
    assert "was not made ready on cpu: UnknownModel" in caplog.text
    assert service.models.names("cpu") == []


@pytest.fixture
def jobs():
    with board() as made:
        yield made


def test_workers_rehearse_before_there_is_a_job(jobs: Jobs) -> None:
    told, came = [], threading.Event()
    jobs.before_first = lambda device: (told.append(device), came.set())
    jobs.start()
    assert came.wait(20)
    assert jobs.wait(submit(jobs, Steps()), 20)
    assert told == ["cpu"]


def test_a_job_that_waits_comes_first(service: Service) -> None:
    busy, waiting = closed_gate(), Steps()
    submit(service.jobs, busy)
    assert busy.started.wait(20)
    second = submit(service.jobs, waiting)
    rehearsal.rehearse(service, "cpu")
    assert service.models.names("cpu") == []
    busy.gate.set()
    assert service.jobs.wait(second, 20)


def test_a_closed_board_starts_nothing(jobs: Jobs) -> None:
    jobs.close(finish_running=True)
    jobs.start()
    assert jobs._workers == []


@pytest.mark.parametrize(("value", "asked"), [(None, 1), ("1", 1), ("0", 0)])
def test_an_admin_may_say_no(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None, asked: int
) -> None:
    if value is not None:
        monkeypatch.setenv("LESIONBRUSH_WARM_UP", value)
    calls: list[Service] = []
    monkeypatch.setattr(startup, "rehearse_soon", calls.append)
    for name in ("install", "add_operation", "settle"):
        monkeypatch.setattr(startup, name, lambda *_: None)
    monkeypatch.setattr(startup.Operation, "close_on_signals", lambda self: None)
    monkeypatch.setattr(startup.sys, "setswitchinterval", lambda seconds: None)
    startup.open_doors(None, service, tmp_path)
    assert len(calls) == asked
