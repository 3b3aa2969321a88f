"""All jobs of a server: takes them, queues them, hands them to the workers, and keeps what became of them.

A restart forgets all jobs: what waits is in memory alone. An id begins with a mark of the run it is of, so
that a client that asks for a job of an earlier run is told what happened, and submits again; the same seed
gives the same voxels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from secrets import token_hex
from threading import Condition

from lesionbrush.errors import LesionBrushError
from lesionbrush.server.jobs.errors import IdempotencyConflict, QueueFull, UnknownJob
from lesionbrush.server.jobs.estimates import Pace
from lesionbrush.server.jobs.job import JobLimits, JobRecord, JobStatus, Load, Outcome, Problem, State, Ticket
from lesionbrush.server.jobs.queue import FairQueue
from lesionbrush.server.jobs.worker import Worker, incident

SWEEP_S = 5.0
LEAST_BETWEEN_SWEEPS_S = 0.5
CLOSING = "cancelled: the server is shutting down; submit again once it is back"


class Jobs:
    """Safe to be called from any thread; nothing here waits but `wait` and the workers.

    devices: one worker each ("cuda:0", "cpu"); they start with the first job, or before it.
    before_first: called by each worker with its device before its first job.
    on_over: is told of each job that ends, or whose result goes, under the lock.
    """

    def __init__(self, devices: Sequence[str], limits: JobLimits | None = None) -> None:
        self.limits = limits = limits or JobLimits()
        self.devices = tuple(devices)
        self._run = token_hex(4)
        self._records: dict[str, JobRecord] = {}
        self._keys: dict[tuple[str, str], JobRecord] = {}
        self._queue: FairQueue[JobRecord] = FairQueue(limits.queue_length, limits.per_client)
        self._running: set[JobRecord] = set()
        self._pace = Pace()
        self._workers: list[Worker] = []
        self._litter: list[JobRecord] = []
        self._swept = 0.0
        self._changed = Condition()
        self._closed = False
        self.before_first: Callable[[str], None] = lambda device: None
        self.on_over: Callable[[JobRecord], None] = lambda record: None

    def start(self) -> None:
        """Now, and not with the first job."""
        with self._hold():
            if not self._closed:
                self._start_workers()

    # --- for those who ask ---

    def submit(self, ticket: Ticket) -> JobRecord:
        """The new job, or the one that came with the same key. Raises QueueFull, IdempotencyConflict."""
        with self._hold():
            earlier = self._earlier(ticket)
        if earlier is not None:
            return earlier
        ident = f"{self._run}{token_hex(8)}"
        record = JobRecord(ident, ticket, ticket.work(ident), steps=ticket.steps)
        try:
            with self._hold():
                earlier = self._earlier(ticket) or self._put(record)
        except LesionBrushError:
            record.forget()
            raise
        if earlier is not record:
            record.forget()
        return earlier

    def get(self, ident: str) -> JobRecord:
        """Raises UnknownJob. Counts as a sign of life of its client."""
        with self._hold():
            record = self._records.get(ident)
            if record is None:
                raise UnknownJob.of(ident, self._run)
            self.heard(record)
            return record

    def heard(self, record: JobRecord) -> None:
        """A sign of life of its client."""
        record.seen = time.monotonic()

    def status(self, record: JobRecord) -> JobStatus:
        with self._hold():
            waiting = self._queue.in_order() if record.state is State.QUEUED else []
            position = waiting.index(record) if record in waiting else None
            return record.status(position, self._until_done(record))

    def cancel(self, record: JobRecord, why: str = "cancelled by its client") -> None:
        """At once while it waits, at its next step while it runs; one that is over stays as it is."""
        with self._hold():
            self._cancel(record, why)

    def forget(self, record: JobRecord) -> None:
        """Remove a job that is over, with its result."""
        with self._hold():
            if record.state.over:
                self._drop(record)

    def wait(self, record: JobRecord, timeout_s: float | None = None) -> bool:
        """Block until it is over; False when that took longer."""
        return record.over.wait(timeout_s)

    def accept(self, record: JobRecord, variant: int, image: str) -> None:
        with self._hold():
            record.accepted[variant] = image
            record.feed.publish("status")

    def discard(self, record: JobRecord, variant: int) -> None:
        with self._hold():
            record.discarded.add(variant)
            record.feed.publish("status")

    def load(self) -> Load:
        with self._changed:
            return Load(len(self._queue), len(self._running), self._closed)

    def close(self, *, finish_running: bool, timeout_s: float = 30.0) -> None:
        """Take no more work. What waits is cancelled; what runs is cancelled too, or may finish."""
        with self._hold():
            self._closed = True
            for record in self._queue.in_order():
                self._cancel(record, CLOSING)
            running = list(self._running)
            for record in running if not finish_running else ():
                self._cancel(record, CLOSING)
            self._changed.notify_all()
        deadline = time.monotonic() + timeout_s
        for record in running:
            record.over.wait(max(0.0, deadline - time.monotonic()))

    # --- for workers ---

    def take(self) -> JobRecord | None:
        """The next job, as soon as there is one; None once the board is closed."""
        while True:
            with self._hold():
                if self._closed:
                    return None
                record = self._queue.take()
                if record is not None:
                    record.state, record.began = State.RUNNING, time.monotonic()
                    self._running.add(record)
                    record.feed.publish("status")
                    self._tell_waiting()
                    return record
                self._changed.wait(SWEEP_S)

    def count(self, record: JobRecord, done: int, total: int) -> None:
        with self._hold():
            record.count(done, total)
            record.feed.publish("status")

    def show(self, record: JobRecord, png: bytes) -> None:
        with self._hold():
            record.preview = (record.step, png)
            record.feed.publish("preview")

    def look_for_client(self, record: JobRecord) -> None:
        """Cancel a job whose client has vanished, if it is wanted so."""
        with self._hold():
            self._abandon(record)

    def finish(
        self,
        record: JobRecord,
        state: State,
        *,
        outcome: Outcome | None = None,
        failure: LesionBrushError | None = None,
        problem: Problem | None = None,
    ) -> None:
        """failure: what the caller can mend; problem: what is said of anything else."""
        if failure is not None:
            problem = Problem(code=failure.code, message=str(failure))
        with self._hold():
            self._running.discard(record)
            record.failure = failure
            if outcome is not None:
                record.variants, record.remarks = outcome.variants, list(outcome.remarks)
                self._pace.learn(record)
            self._end(record, state, problem)

    @contextmanager
    def _hold(self) -> Iterator[None]:
        """Under the lock; what jobs leave is removed after it, as no one should wait for the disk."""
        with self._changed:
            self._sweep()
            yield
            litter, self._litter = self._litter, []
        for record in litter:
            record.forget()

    # --- the rest is under the lock ---

    def _put(self, record: JobRecord) -> JobRecord:
        if self._closed:
            raise QueueFull("the server is shutting down: submit again once it is back", 5)
        ticket = record.ticket
        self._queue.put(ticket.client, record, self._pace.first_free(self._running))
        self._records[record.id] = record
        if ticket.key is not None:
            self._keys[ticket.client, ticket.key] = record
        record.estimated_s = self._until_done(record)
        record.feed.publish("status")
        self._start_workers()
        self._changed.notify()
        return record

    def _cancel(self, record: JobRecord, why: str) -> None:
        if record.state is State.QUEUED and self._queue.remove(record.ticket.client, record):
            self._end(record, State.CANCELLED, Problem(code="cancelled", message=why))
            self._tell_waiting()
        elif record.state is State.RUNNING:
            record.cancelled_why = why

    def _abandon(self, record: JobRecord) -> None:
        """Cancel a job whose client has vanished, if it is wanted so."""
        limit_s = record.ticket.abandon_after_s
        if limit_s is None or record.feed.listeners:
            return
        if time.monotonic() - record.seen > limit_s:
            self._cancel(record, f"cancelled: nobody asked for it for {limit_s:g} s")

    def _end(self, record: JobRecord, state: State, problem: Problem | None) -> None:
        record.state, record.problem, record.ended = state, problem, time.monotonic()
        if state is not State.DONE:
            self._litter.append(record)
            record.preview = None
        record.feed.publish("status")
        record.over.set()
        self.on_over(record)
        self._changed.notify_all()

    def _drop(self, record: JobRecord) -> None:
        self._litter.append(record)
        self._records.pop(record.id, None)
        key = (record.ticket.client, record.ticket.key or "")
        if self._keys.get(key) is record:
            del self._keys[key]

    def _earlier(self, ticket: Ticket) -> JobRecord | None:
        """The job that came with this key. One that failed or was cancelled may be tried again."""
        if ticket.key is None:
            return None
        record = self._keys.get((ticket.client, ticket.key))
        if record is None or record.state in (State.FAILED, State.CANCELLED, State.EXPIRED):
            return None
        if record.ticket.content != ticket.content:
            raise IdempotencyConflict(
                f"the key of this request came with another content before, for job {record.id}: "
                "use a new key for a new request"
            )
        return record

    def _sweep(self) -> None:
        """Let results go that were kept long enough, cancel what nobody waits for, forget the oldest."""
        now, keep_s = time.monotonic(), self.limits.result_seconds
        if now - self._swept < LEAST_BETWEEN_SWEEPS_S:
            return
        self._swept = now
        if self._workers and not self._closed:
            self._start_workers()
        for record in self._queue.in_order():
            self._abandon(record)
        for record in list(self._records.values()):
            age_s = now - record.ended if record.state.over else 0.0
            if record.state is State.DONE and age_s > keep_s:
                self._end(record, State.EXPIRED, None)
                record.ended = now
            elif age_s > keep_s:
                self._drop(record)
        over = [record for record in self._records.values() if record.state.over]
        for record in over[: max(0, len(self._records) - self.limits.records)]:
            self._drop(record)

    def _tell_waiting(self) -> None:
        """Their places have changed."""
        for record in self._queue.in_order():
            record.feed.publish("status")

    def _until_done(self, record: JobRecord) -> float | None:
        if record.state is not State.QUEUED:
            return self._pace.remaining(record) if record.state is State.RUNNING else None
        waiting = self._queue.in_order()
        before = waiting[: waiting.index(record)] if record in waiting else waiting
        return self._pace.until_done(record, [*self._running, *before], len(self.devices))

    def _start_workers(self) -> None:
        """One per device; one that has died is replaced, and the job it had is over."""
        for number, device in enumerate(self.devices):
            worker = self._workers[number] if number < len(self._workers) else None
            if worker is not None and worker.is_alive():
                continue
            if worker is not None and worker.current in self._running:
                self._running.discard(worker.current)
                self._end(worker.current, State.FAILED, incident(worker.current, "its worker died"))
            self._workers[number : number + 1] = [Worker(self, device)]
            self._workers[number].start()
