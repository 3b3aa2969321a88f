"""The board and its workers, with work that does what the test says."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from jobs_kit import Steps, board, closed_gate, submit, until
from lesionbrush.errors import EmptyMask
from lesionbrush.server.jobs import board as board_module
from lesionbrush.server.jobs.board import Jobs
from lesionbrush.server.jobs.errors import IdempotencyConflict, QueueFull, UnknownJob
from lesionbrush.server.jobs.job import State

WAIT_S = 20


@pytest.fixture(autouse=True)
def sweeps_at_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_module, "LEAST_BETWEEN_SWEEPS_S", 0.0)
    monkeypatch.setattr(board_module, "SWEEP_S", 0.05)


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    with board() as made:
        yield made


def test_a_job_from_start_to_end(jobs: Jobs) -> None:
    work = closed_gate(steps=3)
    record = submit(jobs, work)
    assert work.started.wait(WAIT_S)
    status = jobs.status(record)
    assert (status.state, status.position, status.step, status.steps) == (State.RUNNING, None, 0, 3)
    work.gate.set()
    assert jobs.wait(record, WAIT_S)
    status = jobs.status(jobs.get(record.id))
    assert (status.state, status.step, status.variants, status.remarks) == (State.DONE, 3, 1, ["told"])
    assert status.error is None
    assert work.device == "cpu"
    assert work.forgotten == 0
    jobs.forget(record)
    assert work.forgotten == 1
    with pytest.raises(UnknownJob, match="was deleted"):
        jobs.get(record.id)


def test_a_job_of_an_earlier_run_of_the_server(jobs: Jobs) -> None:
    with board() as before:
        ident = submit(before, Steps()).id
    with pytest.raises(UnknownJob, match="started again since"):
        jobs.get(ident)


def test_clients_take_turns(jobs: Jobs) -> None:
    first = closed_gate()
    submit(jobs, first)
    assert first.started.wait(WAIT_S)
    done: list[str] = []

    def job(name: str) -> Steps:
        return Steps(1, lambda step: done.append(name))

    many = [submit(jobs, job(f"anna {n}"), "anna") for n in range(3)]
    few = [submit(jobs, job(f"ben {n}"), "ben") for n in range(2)]
    assert [jobs.status(record).position for record in (*many, *few)] == [0, 2, 4, 1, 3]
    first.gate.set()
    assert all(jobs.wait(record, WAIT_S) for record in (*many, *few))
    assert done == ["anna 0", "ben 0", "anna 1", "ben 1", "anna 2"]


def test_a_full_queue_says_so_and_keeps_nothing() -> None:
    with board(queue_length=3, per_client=2) as jobs:
        running = closed_gate()
        submit(jobs, running)
        assert running.started.wait(WAIT_S)
        for _ in range(2):
            submit(jobs, Steps())
        refused = Steps()
        with pytest.raises(QueueFull, match="2 of your jobs") as own:
            submit(jobs, refused)
        submit(jobs, Steps(), "ben")
        with pytest.raises(QueueFull, match="3 jobs are waiting"):
            submit(jobs, refused, "carl")
        assert own.value.retry_s >= 1
        assert refused.forgotten == 2
        assert jobs.load().queued == 3


def test_one_worker_per_device_and_one_job_on_each() -> None:
    with board("a", "b") as jobs:
        works = [closed_gate() for _ in range(3)]
        records = [submit(jobs, work) for work in works]
        assert all(work.started.wait(WAIT_S) for work in works[:2])
        assert {work.device for work in works[:2]} == {"a", "b"}
        assert not works[2].started.is_set()
        assert jobs.load().running == 2
        works[1].gate.set()
        assert works[2].started.wait(WAIT_S)
        assert works[2].device == works[1].device
        for work in works:
            work.gate.set()
        assert all(jobs.wait(record, WAIT_S) for record in records)


def test_cancelling_what_waits_and_what_runs(jobs: Jobs) -> None:
    running, waiting = closed_gate(), Steps()
    first, second = submit(jobs, running), submit(jobs, waiting)
    assert running.started.wait(WAIT_S)
    jobs.cancel(second)
    assert jobs.status(second).state is State.CANCELLED
    assert waiting.forgotten == 1
    jobs.cancel(first)
    assert jobs.status(first).state is State.RUNNING
    running.gate.set()
    assert jobs.wait(first, WAIT_S)
    status = jobs.status(first)
    assert (status.state, status.step, status.variants) == (State.CANCELLED, 1, 0)
    assert status.error is not None
    assert status.error.code == "cancelled"
    until(lambda: running.forgotten == 1)
    assert not waiting.started.is_set()


def test_a_cancelled_job_gives_its_memory_back(jobs: Jobs) -> None:
    kept: list[weakref.ref[np.ndarray]] = []

    class Holding(Steps):
        def run(self, device, watch):  # type: ignore[no-untyped-def]
            array = np.zeros(10)
            kept.append(weakref.ref(array))
            outcome = super().run(device, watch)
            assert array.any()
            return outcome

    work = Holding()
    work.gate.clear()
    record = submit(jobs, work)
    assert work.started.wait(WAIT_S)
    jobs.cancel(record)
    work.gate.set()
    assert jobs.wait(record, WAIT_S)
    until(lambda: gc.collect() >= 0 and kept[0]() is None)


def test_a_job_that_takes_too_long_is_ended() -> None:
    with board(job_seconds=0.05) as jobs:
        work = Steps(1000, lambda step: threading.Event().wait(0.01))
        record = submit(jobs, work)
        assert jobs.wait(record, WAIT_S)
        status = jobs.status(record)
        assert status.state is State.FAILED
        assert status.error is not None
        assert status.error.code == "timed_out"
        assert "0.05 s" in status.error.message
        assert status.step < 100
        after = Steps(1)
        assert jobs.wait(submit(jobs, after), WAIT_S)  # the device is free again


@pytest.mark.parametrize("kind", [KeyError, SystemExit, KeyboardInterrupt, GeneratorExit, RecursionError])
def test_whatever_a_job_raises_the_worker_goes_on(
    jobs: Jobs, kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def crash(step: int) -> None:
        raise kind("secret")

    record = submit(jobs, Steps(1, crash))
    with caplog.at_level(logging.ERROR):
        assert jobs.wait(record, WAIT_S)
    error = jobs.status(record).error
    assert error is not None
    assert error.code == "internal_error"
    incident = error.message.split()[-1]
    assert f"incident {incident}: {kind.__name__} in job {record.id}" in caplog.text
    assert "secret" not in error.message
    after = submit(jobs, Steps(1))
    assert jobs.wait(after, WAIT_S)
    assert after.state is State.DONE


def test_a_worker_that_died_is_replaced(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*_: object, **__: object) -> None:
        raise SystemExit

    work = closed_gate()
    record = submit(jobs, work)
    assert work.started.wait(WAIT_S)
    (worker,) = jobs._workers
    with monkeypatch.context() as patched:
        patched.setattr(jobs, "finish", dies)
        work.gate.set()
        worker.join(WAIT_S)
    assert not worker.is_alive()
    after = submit(jobs, Steps(1))
    assert jobs.wait(after, WAIT_S)
    assert after.state is State.DONE
    assert jobs.wait(record, WAIT_S)
    assert record.problem is not None
    assert record.problem.code == "internal_error"


def test_what_the_caller_can_mend_is_said_as_it_is(jobs: Jobs) -> None:
    def empty(step: int) -> None:
        raise EmptyMask("the mask has no voxel")

    record = submit(jobs, Steps(1, empty))
    assert jobs.wait(record, WAIT_S)
    status = jobs.status(record)
    assert status.error is not None
    assert (status.state, status.error.code) == (State.FAILED, "empty_mask")
    assert record.failure is not None
    assert record.failure.__traceback__ is None


def test_no_memory_is_said(jobs: Jobs) -> None:
    def greedy(step: int) -> None:
        raise MemoryError

    record = submit(jobs, Steps(1, greedy))
    assert jobs.wait(record, WAIT_S)
    assert record.problem is not None
    assert record.problem.code == "out_of_memory"


def test_the_same_key_is_the_same_job(jobs: Jobs) -> None:
    same = {"key": "k", "content": "c"}
    works = [Steps(), Steps(), Steps(), Steps()]
    record = submit(jobs, works[0], **same)
    assert submit(jobs, works[1], **same) is record
    assert submit(jobs, works[2], "ben", **same) is not record
    with pytest.raises(IdempotencyConflict, match=f"for job {record.id}"):
        submit(jobs, works[3], key="k", content="other")
    assert jobs.wait(record, WAIT_S)
    assert submit(jobs, Steps(), **same) is record
    assert not works[1].started.is_set()


def test_one_key_from_many_threads_is_one_job(jobs: Jobs) -> None:
    with ThreadPoolExecutor(16) as pool:
        records = list(pool.map(lambda _: submit(jobs, Steps(), key="k", content="c"), range(64)))
    assert len({record.id for record in records}) == 1


def test_a_failed_job_can_be_tried_again_with_its_key(jobs: Jobs) -> None:
    def crash(step: int) -> None:
        raise KeyError

    record = submit(jobs, Steps(1, crash), key="k", content="c")
    assert jobs.wait(record, WAIT_S)
    again = submit(jobs, Steps(1), key="k", content="c")
    assert again is not record
    assert jobs.wait(again, WAIT_S)
    assert again.state is State.DONE


def test_a_vanished_client_gives_its_place_up(jobs: Jobs) -> None:
    running = closed_gate()
    first = submit(jobs, running)
    assert running.started.wait(WAIT_S)
    waiting = Steps()
    second = submit(jobs, waiting, abandon_after_s=0.05)
    patient = submit(jobs, Steps(1))
    until(lambda: jobs.status(second).state is State.CANCELLED)
    assert "nobody asked" in str(second.problem)
    assert patient.state is State.QUEUED
    running.gate.set()
    assert jobs.wait(first, WAIT_S)
    vanishing = Steps(1000, lambda step: threading.Event().wait(0.01))
    third = submit(jobs, vanishing, abandon_after_s=0.05)
    assert jobs.wait(third, WAIT_S)
    assert third.state is State.CANCELLED
