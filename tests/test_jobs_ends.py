"""How results and boards come to their end, and what is expected before it."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from jobs_kit import Steps, board, closed_gate, submit, until
from lesionbrush.server.jobs import board as board_module
from lesionbrush.server.jobs.errors import QueueFull, UnknownJob
from lesionbrush.server.jobs.job import State

WAIT_S = 20


@pytest.fixture(autouse=True)
def sweeps_at_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_module, "LEAST_BETWEEN_SWEEPS_S", 0.0)
    monkeypatch.setattr(board_module, "SWEEP_S", 0.05)


def test_results_expire_and_are_forgotten_later() -> None:
    with board(result_seconds=0.2) as jobs:
        work = Steps(1)
        record = submit(jobs, work)
        assert jobs.wait(record, WAIT_S)
        assert jobs.get(record.id).state is State.DONE
        until(lambda: record.state is State.EXPIRED)
        assert jobs.get(record.id) is record
        until(lambda: work.forgotten > 0)
        until(lambda: record.id not in jobs._records)
        with pytest.raises(UnknownJob):
            jobs.get(record.id)


def test_only_so_many_jobs_are_remembered() -> None:
    with board(records=3) as jobs:
        works = [Steps(1) for _ in range(6)]
        for work in works:
            assert jobs.wait(submit(jobs, work), WAIT_S)
        jobs.wait(submit(jobs, Steps(1)), WAIT_S)
        assert len(jobs._records) <= 4
        assert [work.forgotten for work in works] == [1, 1, 1, 0, 0, 0] or works[3].forgotten


def test_closing_lets_running_jobs_finish() -> None:
    with board() as jobs:
        running, waiting = closed_gate(), Steps()
        first, second = submit(jobs, running), submit(jobs, waiting)
        assert running.started.wait(WAIT_S)
        with ThreadPoolExecutor(1) as pool:
            closing = pool.submit(jobs.close, finish_running=True, timeout_s=WAIT_S)
            until(lambda: jobs.load().closed)
            assert second.state is State.CANCELLED
            assert "shutting down" in str(second.problem)
            assert not closing.done()
            running.gate.set()
            closing.result(WAIT_S)
        assert first.state is State.DONE
        with pytest.raises(QueueFull, match="shutting down"):
            submit(jobs, Steps())
        assert [worker.join(WAIT_S) for worker in jobs._workers] == [None]


def test_closing_cancels_running_jobs_when_asked() -> None:
    with board() as jobs:
        running = Steps(1000, lambda step: time.sleep(0.005))
        record = submit(jobs, running)
        assert running.started.wait(WAIT_S)
        jobs.close(finish_running=False, timeout_s=WAIT_S)
        assert record.state is State.CANCELLED


def test_seconds_are_known_once_a_job_was_done() -> None:
    with board() as jobs:
        first = submit(jobs, Steps(4, lambda step: time.sleep(0.02)))
        assert jobs.status(first).estimated_seconds is None
        assert jobs.wait(first, WAIT_S)
        running = closed_gate(steps=8)
        second = submit(jobs, running)
        third = submit(jobs, Steps(4))
        expected, later = jobs.status(second).estimated_seconds, jobs.status(third).estimated_seconds
        assert expected is not None
        assert later is not None
        assert 0.1 < expected < 2
        assert later > expected
        assert running.started.wait(WAIT_S)
        left = jobs.status(second).seconds_left
        assert left is not None
        assert left <= expected
        running.gate.set()
        assert jobs.wait(third, WAIT_S)
        assert jobs.status(third).seconds_left is None


def test_what_cannot_be_removed_is_logged_and_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    class Stuck(Steps):
        def forget(self) -> None:
            raise OSError("/a/path")

    with board() as jobs, caplog.at_level(logging.WARNING):
        record = submit(jobs, Stuck(1))
        assert jobs.wait(record, WAIT_S)
        jobs.forget(record)
        assert "could not remove" in caplog.text
        assert "/a/path" not in caplog.text
        assert jobs.wait(submit(jobs, Steps(1)), WAIT_S)


def test_fifty_clients_at_once_each_get_their_own() -> None:
    with board("a", "b") as jobs:

        def one(seed: int) -> bool:
            got: list[int] = []
            record = submit(jobs, Steps(3, lambda step: got.append(seed)), f"client-{seed}")
            assert jobs.wait(record, WAIT_S)
            return got == [seed] * 3 and record.state is State.DONE

        with ThreadPoolExecutor(50) as pool:
            assert all(pool.map(one, range(50)))
        assert (jobs.load().queued, jobs.load().running) == (0, 0)
