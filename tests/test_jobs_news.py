"""What a listener hears of a job, and when."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator

import numpy as np
import pytest
from jobs_fixtures import events
from jobs_kit import Steps, board, closed_gate, submit
from lesionbrush.server.http import stream
from lesionbrush.server.jobs.board import Jobs
from lesionbrush.server.jobs.job import JobRecord
from lesionbrush.server.jobs.previews import middle_slice_png
from PIL import Image

FOREVER_S = 3600.0


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    """Its listeners are told next to nothing between the first news and the end."""
    monkeypatch.setattr(stream, "LEAST_INTERVAL_S", FOREVER_S)
    with board() as made:
        yield made


def heard(jobs: Jobs, record: JobRecord, work: Steps) -> list[str]:
    """States and previews, where the work goes on once the first was told."""

    async def listen() -> str:
        text = ""
        async for news in stream.news(jobs, record, 0):
            text += news
            work.gate.set()
        return text

    text = asyncio.run(asyncio.wait_for(listen(), 20))
    return [data.get("state", kind) for _, kind, data in events(text)]


def test_the_end_is_told_at_once_and_steps_before_it_are_not(jobs: Jobs) -> None:
    work = closed_gate(steps=5)
    record = submit(jobs, work)
    assert work.started.wait(20)
    assert heard(jobs, record, work) == ["running", "preview", "done"]


def test_a_job_that_ended_before_is_told_once(jobs: Jobs) -> None:
    work = Steps()
    record = submit(jobs, work)
    assert jobs.wait(record, 20)
    assert heard(jobs, record, work)[-1:] == ["done"]


@pytest.mark.parametrize(("around", "grey"), [(-850, 85), (110, 172)])
def test_a_preview_is_in_the_window_of_its_tissue(around: int, grey: int) -> None:
    hu = np.full((8, 32, 32), around, np.int16)
    hu[2:6, 12:20, 12:20] = 60
    with Image.open(io.BytesIO(middle_slice_png(hu))) as picture:
        assert picture.getpixel((2, 2)) == grey
