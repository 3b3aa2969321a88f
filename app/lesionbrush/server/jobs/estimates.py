"""How long jobs take here, learned from those that are done."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence

from lesionbrush.server.jobs.job import JobRecord

WEIGHT = 0.3
"""Of the newest job in the running mean."""

GUESS_S = 5


class Pace:
    """Seconds per step of each model. Nothing is known before the first job of a model is done."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def learn(self, record: JobRecord) -> None:
        """From a job that is just done; one without results does more than its steps."""
        if record.steps and record.variants:
            new, model = (time.monotonic() - record.began) / record.steps, record.ticket.model
            self._seconds[model] = (1 - WEIGHT) * self._seconds.get(model, new) + WEIGHT * new

    def whole(self, record: JobRecord) -> float | None:
        """Seconds of a job from its start to its end."""
        pace = self._seconds.get(record.ticket.model)
        return None if pace is None else pace * record.steps

    def remaining(self, record: JobRecord) -> float | None:
        """Seconds until a running job is done, or all of one that waits."""
        by_rate = record.seconds_left_by_rate()
        if by_rate is not None:
            return by_rate
        whole = self.whole(record)
        if whole is None or not record.began:
            return whole
        return max(0.0, whole - (time.monotonic() - record.began))

    def until_done(self, record: JobRecord, before: Sequence[JobRecord], devices: int) -> float | None:
        """Seconds until a waiting job is done, when all `before` share the devices."""
        times = [self.remaining(job) for job in before]
        known = [seconds for seconds in times if seconds is not None]
        own = self.whole(record)
        return None if own is None or len(known) < len(times) else own + sum(known) / devices

    def first_free(self, running: Iterable[JobRecord]) -> int:
        """Whole seconds until one of the running jobs is done, and so one place free; a guess if unknown."""
        times = [self.remaining(record) for record in running]
        known = [seconds for seconds in times if seconds is not None]
        return max(1, math.ceil(min(known))) if known else GUESS_S
