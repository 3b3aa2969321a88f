"""One thread per device: takes a job, does it, survives whatever it does."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import time
from typing import TYPE_CHECKING
from uuid import uuid4

from lesionbrush.errors import Cancelled, LesionBrushError
from lesionbrush.server.jobs.errors import OutOfMemory, TimedOut
from lesionbrush.server.jobs.job import JobRecord, Problem, State

if TYPE_CHECKING:
    from lesionbrush.server.jobs.board import Jobs

logger = logging.getLogger(__name__)


TOO_SMALL = "the server's memory is too small for this: ask for fewer variants at once"


class JobWatch:
    """Tells the board what a job does, and raises in it when it is to end. See `job.Watch`."""

    def __init__(self, board: Jobs, record: JobRecord) -> None:
        self.board, self.record = board, record
        self.deadline = time.monotonic() + board.limits.job_seconds

    def check(self) -> None:
        self.board.look_for_client(self.record)
        if self.record.cancelled_why is not None:
            raise Cancelled(self.record.cancelled_why)
        if time.monotonic() > self.deadline:
            raise TimedOut(
                f"the job took longer than the {self.board.limits.job_seconds:g} s this server gives one: "
                f"ask for fewer steps or variants"
            )

    def on_step(self, done: int, total: int) -> None:
        self.board.count(self.record, done, total)
        self.check()

    def on_preview(self, png: bytes) -> None:
        self.board.show(self.record, png)


class Worker(threading.Thread):
    """Works for one device, which is so used by one job at a time."""

    def __init__(self, board: Jobs, device: str) -> None:
        super().__init__(name=f"lesionbrush-{device}", daemon=True)
        self.board, self.device = board, device
        self.current: JobRecord | None = None

    def run(self) -> None:
        self.board.before_first(self.device)
        while (record := self.board.take()) is not None:
            self.current = record
            self._do(record)
            del record  # not kept while waiting for the next
            self.current = None

    def _do(self, record: JobRecord) -> None:
        watch = JobWatch(self.board, record)
        try:
            watch.check()
            outcome = record.work.run(self.device, watch)
        except Cancelled as error:
            self.board.finish(record, State.CANCELLED, failure=_bare(error))
        except LesionBrushError as error:
            self.board.finish(record, State.FAILED, failure=_bare(error))
        except MemoryError:
            self.board.finish(record, State.FAILED, failure=OutOfMemory(TOO_SMALL))
        except BaseException as error:  # noqa: BLE001, a job may do anything; the worker goes on
            self.board.finish(record, State.FAILED, problem=incident(record, error))
        else:
            self.board.finish(record, State.DONE, outcome=outcome)
            return
        self._free()

    def _free(self) -> None:
        """What a job that ended early held goes now, and not at some later time."""
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and self.device.startswith("cuda"):
            torch.cuda.empty_cache()


def _bare(error: LesionBrushError) -> LesionBrushError:
    """Without its traceback, which holds the arrays of the functions it came through."""
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)


def incident(record: JobRecord, error: BaseException | str) -> Problem:
    """A defect of ours: the client gets a number, the log has it with the lines of code."""
    number, raised = uuid4().hex[:8], error if isinstance(error, BaseException) else None
    what = error if raised is None else type(raised).__name__
    logger.error("incident %s: %s in %s", number, what, record.what, exc_info=raised)
    text = f"the server failed on this request and lives on; its log says why, under incident {number}"
    return Problem(code="internal_error", message=text)
