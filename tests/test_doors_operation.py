"""Health, metrics and the end of a server, on the real service with work that is none."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from doors_kit import HERE, LOCAL, TOKEN, bearer, code_of, settings, stub
from fastapi import FastAPI
from fastapi.testclient import TestClient
from lesionbrush.core.registry import WEIGHTS
from lesionbrush.errors import Cancelled
from lesionbrush.server.doors.gate import Gate
from lesionbrush.server.doors.perimeter import Perimeter
from lesionbrush.server.jobs.job import JobLimits, JobRecord, Outcome, State, Ticket, Watch
from lesionbrush.server.operation import health as module
from lesionbrush.server.operation.health import Operation, add_operation
from lesionbrush.server.settings import ServerSettings
from lesionbrush.server.synthesis.inference import Service
from server_kit import make_model


class Steps:
    """Work that goes on until it is let go or told to end."""

    def __init__(self) -> None:
        self.began, self.let_go, self.ended = threading.Event(), threading.Event(), threading.Event()

    def run(self, device: str, watch: Watch) -> Outcome:
        self.began.set()
        try:
            while not self.let_go.wait(0.01):
                watch.check()
        finally:
            self.ended.set()
        return Outcome(1)

    def forget(self) -> None: ...


class Running:
    """A service with one kind of work, and the operation of it."""

    def __init__(self, folder: Path, **given: object) -> None:
        make_model(folder / "models")
        limits = JobLimits(queue_length=2)
        self.service = Service(folder / "models", folder / "studies", limits)
        self.settings = ServerSettings(**given)
        self.operation = Operation(self.service, folder / "studies", self.settings)
        self.works: list[Steps] = []

    def submit(self) -> JobRecord:
        work = Steps()
        self.works.append(work)
        return self.service.jobs.submit(Ticket("tiny", "me", lambda _: work, 1))

    def client(self) -> TestClient:
        front = FastAPI()
        add_operation(front, self.operation)
        gate = Gate(stub("stock"), front, Perimeter.of(settings(token=TOKEN)), self.operation.note_visit)
        return TestClient(gate, LOCAL, client=HERE)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    (tmp_path / "studies").mkdir()
    made = Running(tmp_path, grace_seconds=0.3)
    yield made
    for work in made.works:
        work.let_go.set()
    made.service.jobs.close(finish_running=False, timeout_s=5)


def test_alive_and_ready(running: Running) -> None:
    client = running.client()
    assert client.get("/health/live").json() == {"alive": True}
    answer = client.get("/health/ready")
    assert (answer.status_code, answer.json()) == (200, {"ready": True, "wrong": []})


def test_not_ready_without_sound_weights(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MODELS_CHECKED_EVERY_S", 0)
    weights = running.service.models.root / "tiny" / WEIGHTS
    whole = weights.read_bytes()
    for damage in (weights.unlink, lambda: weights.write_bytes(whole[:-1] + b"?")):
        damage()
        answer = running.client().get("/health/ready")
        assert (answer.status_code, answer.json()["wrong"]) == (503, ["models"])
    weights.write_bytes(whole)
    assert running.operation.ready().ready


def test_not_ready_on_a_full_disk_or_without_it(running: Running) -> None:
    running.operation.settings = ServerSettings(free_gb=1e9)
    assert running.operation.ready().wrong == ["disk"]
    running.operation.studies = running.operation.studies / "gone"
    assert running.operation.free_bytes() == 0


def test_not_ready_while_nobody_else_may_wait(running: Running) -> None:
    for _ in range(len(running.service.jobs.devices) + 2):
        running.submit()
        assert running.works[0].began.wait(5)
    assert running.operation.ready().wrong == ["queue"]


def test_metrics(running: Running) -> None:
    client, job = running.client(), running.submit()
    assert running.works[0].began.wait(5)
    running.service.meter.count_work({"sample": 1.5})
    client.get("/info/", headers=bearer())
    client.get("/DOE_JANE", headers=bearer())
    assert code_of(client.get("/metrics")) == (401, "unauthorized")
    first = client.get("/metrics", headers=bearer())
    assert first.headers["content-type"].startswith("text/plain; version=")
    running.works[0].let_go.set()
    assert running.service.jobs.wait(job, 5)
    text = client.get("/metrics", headers=bearer()).text
    assert 'lesionbrush_jobs_now{state="running"} 1.0' in first.text
    assert 'lesionbrush_jobs_total{state="done"} 1.0' in text
    assert 'lesionbrush_phase_seconds_sum{phase="sample"} 1.5' in text
    assert 'lesionbrush_requests_total{method="GET",route="/info/",status="200"} 1.0' in text
    assert 'lesionbrush_requests_total{method="GET",route="not offered",status="404"} 1.0' in text
    assert 'lesionbrush_requests_total{method="GET",route="/metrics",status="401"} 1.0' in text
    assert re.search(r'lesionbrush_stored_bytes\{what="(references|results)"\} 0\.0', text)
    assert re.search(r"lesionbrush_disk_free_bytes\{\S+\} [1-9]", text)
    assert "DOE" not in text


def test_two_servers_in_one_process_do_not_mix(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "studies").mkdir(parents=True)
    one, other = Running(tmp_path / "a"), Running(tmp_path / "b")
    one.client().get("/nothing")
    assert "not offered" in one.client().get("/metrics", headers=bearer()).text
    assert "not offered" not in other.client().get("/metrics", headers=bearer()).text


class TestTheEnd:
    def test_a_running_job_may_finish(self, running: Running) -> None:
        running.operation.settings = ServerSettings(grace_seconds=20)
        job, waiting = running.submit(), [running.submit() for _ in running.service.jobs.devices]
        assert running.works[0].began.wait(5)
        closing = threading.Thread(target=running.operation.close)
        closing.start()
        assert waiting[-1].over.wait(5)
        assert waiting[-1].state is State.CANCELLED
        assert running.operation.ready().wrong == ["closing"]
        assert job.state is State.RUNNING
        for work in running.works:
            work.let_go.set()
        closing.join(5)
        assert (job.state, closing.is_alive()) == (State.DONE, False)

    def test_not_for_ever(self, running: Running) -> None:
        job = running.submit()
        assert running.works[0].began.wait(5)
        began = time.monotonic()
        running.operation.close()
        assert time.monotonic() - began < 5
        assert running.works[0].ended.is_set()
        assert (job.state, job.problem.code) == (State.CANCELLED, Cancelled.code)

    def test_or_is_cancelled_at_once(self, running: Running) -> None:
        running.operation.settings = ServerSettings(shutdown="cancel", grace_seconds=60)
        job = running.submit()
        assert running.works[0].began.wait(5)
        running.operation.close()
        assert job.state is State.CANCELLED

    def test_only_once(self, running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
        calls: list[bool] = []
        with monkeypatch.context() as patch:
            patch.setattr(
                running.service.jobs, "close", lambda **given: calls.append(given["finish_running"])
            )
            for _ in range(2):
                running.operation.close()
        assert calls == [True]
