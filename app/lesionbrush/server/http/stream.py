"""News of a job as server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial

from anyio import move_on_after

from lesionbrush.server.http import wire
from lesionbrush.server.jobs.board import Jobs
from lesionbrush.server.jobs.job import JobRecord, JobStatus

ALIVE_S = 10.0
LEAST_INTERVAL_S = 0.1


async def news(jobs: Jobs, record: JobRecord, last_seen: int) -> AsyncIterator[str]:
    """Events numbered above `last_seen`, until the one that says that the job is over.

    A listener that comes late, or is slow, gets the newest status and the newest preview, never old ones. One
    that has seen the end already gets it once more. Between others there is a pause; the end is told at once.
    """
    seen = last_seen if 0 <= last_seen <= record.feed.count else 0
    try:
        with record.feed.listening() as bell:
            while True:
                happened = record.feed.after(seen)  # before the status, or the end comes twice
                status = jobs.status(record)
                for number, text in _newer(record, status, happened):
                    seen = number
                    yield text
                if status.state.over:
                    return
                with move_on_after(LEAST_INTERVAL_S):
                    await _until(lambda: record.state.over, bell)
                with move_on_after(ALIVE_S) as waiting:
                    await _until(partial(record.feed.after, seen), bell)
                if waiting.cancelled_caught:
                    yield wire.ALIVE
    finally:
        jobs.heard(record)


async def _until(true: Callable[[], object], bell: asyncio.Event) -> None:
    """Asked again at each piece of news."""
    while not true():
        await bell.wait()
        bell.clear()


def _newer(
    record: JobRecord, status: JobStatus, happened: list[tuple[int, str]]
) -> Iterator[tuple[int, str]]:
    """Events for what happened; of a job that is over, its status last and always."""
    over, preview = status.state.over, record.preview
    for number, kind in happened:
        if kind == "preview" and preview is not None:
            yield number, wire.preview_event(number, *preview)
        elif kind == "status" and not over:
            yield number, wire.status_event(number, status)
    if over:
        yield record.feed.count, wire.status_event(record.feed.count, status)


def last_event_id(header: str | None) -> int:
    """0 for none, and for what is no number of ours."""
    return int(header) if header and header.isdecimal() and len(header) < 18 else 0
