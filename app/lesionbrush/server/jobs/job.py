"""One job: what it is, how far it is, and what is said about it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from enum import Enum
from threading import Event
from typing import Any, Protocol

from pydantic import BaseModel, Field

from lesionbrush.errors import LesionBrushError
from lesionbrush.server.jobs.events import Feed

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class JobLimits:
    """What one server lets happen. result_seconds: how long a result is kept; records: how many jobs."""

    queue_length: int = 100
    per_client: int = 50
    job_seconds: float = 900.0
    result_seconds: float = 3600.0
    records: int = 5000


@dataclass(frozen=True)
class Load:
    """Jobs that wait and that run; closed: no more are taken."""

    queued: int
    running: int
    closed: bool


class State(str, Enum):
    """queued -> running -> done, failed or cancelled; done -> expired when its result has had its time."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def over(self) -> bool:
        return self not in (State.QUEUED, State.RUNNING)


class Problem(BaseModel):
    """code: a stable name; message: to be shown as it is."""

    code: str
    message: str


class JobStatus(BaseModel):
    """A job as its client sees it."""

    id: str
    model: str
    state: State
    position: int | None = Field(description="jobs before this one while it waits, else null")
    step: int = Field(description="denoising steps done, over all variants and lesions")
    steps: int
    seconds_left: float | None = Field(description="until the result, null while nobody can tell")
    estimated_seconds: float | None = Field(description="what was expected when it was submitted")
    variants: int = Field(description="results there are; they are numbered from 1")
    discarded: list[int]
    accepted: dict[int, str] = Field(description="variant -> id of the image it became")
    error: Problem | None
    remarks: list[str]
    created: datetime


class Watch(Protocol):
    """How work tells of itself, and learns that it is to end."""

    def check(self) -> None:
        """Raises Cancelled or TimedOut when the work is to end. To be called between its parts."""

    def on_step(self, done: int, total: int) -> None:
        """As `check`, and counts."""

    def on_preview(self, png: bytes) -> None: ...


@dataclass(frozen=True)
class Outcome:
    """variants: number of results that can be asked for; remarks: what the user should know."""

    variants: int
    remarks: tuple[str, ...] = ()


class Work(Protocol):
    """What a job does, and what is to happen to it afterwards."""

    def run(self, device: str, watch: Watch) -> Outcome:
        """Called once, in a worker's thread. Raises LesionBrushError for what the caller can mend."""

    def forget(self) -> None:
        """Remove all there is of it; called once it failed, was cancelled, has expired or is forgotten."""


@dataclass(frozen=True)
class Ticket:
    """What a job is submitted with.

    what: as the log names it; steps: expected; abandon_after_s: cancel when nobody asked for that long.
    key, content: idempotency key of the client, and a digest of all that it sent with it.
    """

    model: str
    client: str
    work: Callable[[str], Work]
    steps: int = 0
    what: str = ""
    abandon_after_s: float | None = None
    key: str | None = None
    content: str = ""


@dataclass(eq=False)
class JobRecord:
    """A job as the server keeps it. Changed by the board alone, under its lock."""

    id: str
    ticket: Ticket
    work: Work
    estimated_s: float | None = None
    created: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    state: State = State.QUEUED
    step: int = 0
    steps: int = 0
    began: float = 0.0
    first_step: tuple[float, int] | None = None
    ended: float = 0.0
    seen: float = field(default_factory=time.monotonic)
    cancelled_why: str | None = None
    failure: LesionBrushError | None = None
    problem: Problem | None = None
    variants: int = 0
    discarded: set[int] = field(default_factory=set)
    accepted: dict[int, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    preview: tuple[int, bytes] | None = None
    feed: Feed = field(default_factory=Feed)
    over: Event = field(default_factory=Event)

    @property
    def what(self) -> str:
        return self.ticket.what or f"job {self.id}"

    def forget(self) -> None:
        """Remove what it left; what cannot be removed now goes at the next start."""
        try:
            self.work.forget()
        except OSError as error:
            logger.warning("could not remove what %s left: %s", self.what, type(error).__name__)

    def count(self, done: int, total: int) -> None:
        """A step is done; the first of them is where the rate is measured from."""
        self.step, self.steps = done, total
        if self.first_step is None or done <= self.first_step[1]:
            self.first_step = (time.monotonic(), done)

    def seconds_left_by_rate(self) -> float | None:
        """From the steps so far; None before two of them."""
        if self.first_step is None or self.step <= self.first_step[1]:
            return None
        since, at = self.first_step
        return (time.monotonic() - since) / (self.step - at) * (self.steps - self.step)

    def status(self, position: int | None, seconds_left: float | None) -> JobStatus:
        facts: dict[str, Any] = {name: getattr(self, name) for name in _SAME}
        return JobStatus(
            **facts,
            model=self.ticket.model,
            position=position,
            seconds_left=_round(seconds_left),
            estimated_seconds=_round(self.estimated_s),
            discarded=sorted(self.discarded),
            error=self.problem,
        )


_SAME = ("id", "state", "step", "steps", "variants", "accepted", "remarks", "created")


def _round(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)
