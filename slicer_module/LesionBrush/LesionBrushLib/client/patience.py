"""Waiting for a server without losing the user: cancel within a tenth of a second, and lost connections."""

import threading
import time
from dataclasses import dataclass
from typing import Any, Callable, Optional, TypeVar

from .errors import Cancelled, ServerError, ServerUnreachable
from .wire import OnProgress

T = TypeVar("T")
IsCancelled = Callable[[], bool]
LOOK_S = 0.05
"""How often `cancelled` is asked."""


@dataclass(frozen=True)
class Patience:
    """silent_s: how long a server may take for one answer; lost_s: how long a lost connection is tried again,
    after waits of first_wait_s, twice that, ... up to longest_wait_s; vanished_s: when a server may cancel a
    job that nobody asks about any more, None for never."""

    silent_s: float = 30.0
    lost_s: float = 60.0
    first_wait_s: float = 0.25
    longest_wait_s: float = 5.0
    vanished_s: Optional[float] = 600.0


class Backoff:
    """When to try again, and when to stop trying. `heard()`: the server is there."""

    def __init__(self, patience: Patience, cancelled: Optional[IsCancelled]) -> None:
        self.patience, self.cancelled = patience, cancelled
        self.heard()

    def heard(self) -> None:
        self._lost_at: Optional[float] = None
        self._wait_s = self.patience.first_wait_s

    def pause(self, error: Exception) -> None:
        """Wait a while. Raises the error when it is no use, ServerUnreachable when all patience is gone."""
        if not is_lost(error):
            raise error
        now = time.monotonic()
        self._lost_at = now if self._lost_at is None else self._lost_at
        lost_s = now - self._lost_at
        if lost_s + self._wait_s > self.patience.lost_s:
            raise ServerUnreachable(
                f"the connection was lost, and {lost_s:.0f} s of trying did not bring it back. {error}"
            ) from error
        pause(self._wait_s, self.cancelled)
        self._wait_s = min(2 * self._wait_s, self.patience.longest_wait_s)


def is_lost(error: Exception) -> bool:
    """Whether the same request may well succeed in a while."""
    if isinstance(error, ServerError):
        return error.is_passing
    return isinstance(error, ServerUnreachable) and not error.lasting


def patiently(work: Callable[[], T], patience: Patience, cancelled: Optional[IsCancelled] = None) -> T:
    """`retrying`, and `interruptible` each time."""
    return retrying(lambda: interruptible(work, cancelled), patience, cancelled)


def retrying(work: Callable[[], T], patience: Patience, cancelled: Optional[IsCancelled] = None) -> T:
    """What `work` returns, which may be done more than once: until the connection holds, or patience ends."""
    backoff = Backoff(patience, cancelled)
    while True:
        try:
            return work()
        except (ServerUnreachable, ServerError) as error:
            backoff.pause(error)


def stop_if(cancelled: Optional[IsCancelled]) -> None:
    if cancelled is not None and cancelled():
        raise Cancelled


def pause(seconds: float, cancelled: Optional[IsCancelled]) -> None:
    """Sleep. Raises Cancelled."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        stop_if(cancelled)
        time.sleep(min(left, LOOK_S))


def interruptible(work: Callable[[], T], cancelled: Optional[IsCancelled] = None) -> T:
    """What `work` returns, waited for in this thread while another one does it. Raises Cancelled at once.

    Work left behind ends by itself, unheard, when its time-out is over.
    """
    return watched(lambda _: work(), None, cancelled)


def watched(
    work: Callable[[OnProgress], T],
    on_progress: Optional[OnProgress],
    cancelled: Optional[IsCancelled] = None,
) -> T:
    """As `interruptible`, for work that reports (bytes done, bytes in all) and stops where that raises.

    on_progress and cancelled are called in this thread, the former not for every report.
    """
    job = _Work(work)
    try:
        while not job.done.wait(LOOK_S):
            stop_if(cancelled)
            job.pass_on(on_progress)
        job.pass_on(on_progress)
    except BaseException:
        job.unwanted.set()
        raise
    if job.error is not None:
        raise job.error
    result: T = job.result
    return result


class _Work:
    def __init__(self, work: Callable[[OnProgress], Any]) -> None:
        self.done, self.unwanted = threading.Event(), threading.Event()
        self.result: Any = None
        self.error: Optional[BaseException] = None
        self._news: Optional[tuple[int, int]] = None
        self._told: Optional[tuple[int, int]] = None
        threading.Thread(target=self._run, args=(work,), daemon=True, name="LesionBrush HTTP").start()

    def _run(self, work: Callable[[OnProgress], Any]) -> None:
        try:
            self.result = work(self._report)
        except BaseException as error:  # noqa: BLE001, it is raised again in the thread that waits
            self.error = error
        finally:
            self.done.set()

    def _report(self, done: int, total: int) -> None:
        self._news = (done, total)
        if self.unwanted.is_set():
            raise Cancelled

    def pass_on(self, on_progress: Optional[OnProgress]) -> None:
        news = self._news
        if on_progress is not None and news is not None and news != self._told:
            self._told = news
            on_progress(*news)
