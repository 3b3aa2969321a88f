"""Work that does what a test says, and boards to put it on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lesionbrush.server.jobs.board import Jobs
from lesionbrush.server.jobs.job import JobLimits, JobRecord, Outcome, Ticket, Watch

MODEL = "fake"


class Steps:
    """Takes `steps` steps, at each of which it waits for its gate to be open. act: what else a step does."""

    def __init__(self, steps: int = 4, act: Callable[[int], None] = lambda step: None) -> None:
        self.steps, self.act = steps, act
        self.gate = threading.Event()
        self.gate.set()
        self.started, self.device = threading.Event(), ""
        self.forgotten = 0
        self.ballast: Any = None

    def run(self, device: str, watch: Watch) -> Outcome:
        self.device = device
        self.started.set()
        for step in range(1, self.steps + 1):
            assert self.gate.wait(20)
            self.act(step)
            watch.on_preview(b"picture %d" % step)
            watch.on_step(step, self.steps)
        return Outcome(1, ("told",))

    def forget(self) -> None:
        self.forgotten += 1
        self.ballast = None


def closed_gate(steps: int = 4) -> Steps:
    """Work that starts, and waits before its first step until `gate` is set."""
    work = Steps(steps)
    work.gate.clear()
    return work


def submit(jobs: Jobs, work: Steps, client: str = "anna", **ticket: Any) -> JobRecord:
    return jobs.submit(Ticket(MODEL, client, lambda ident: work, work.steps, **ticket))


@contextmanager
def board(*devices: str, **limits: Any) -> Iterator[Jobs]:
    """Closed afterwards; its workers end by themselves."""
    jobs = Jobs(devices or ("cpu",), JobLimits(**limits))
    try:
        yield jobs
    finally:
        jobs.close(finish_running=False, timeout_s=0)


def until(true: Callable[[], bool], within_s: float = 10.0) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)
