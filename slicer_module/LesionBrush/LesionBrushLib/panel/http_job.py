"""Long work beside the application: a thread that does it, and a timer that tells the panel about it.

The work knows neither Qt nor MRML: it gets what it needs before, and hands over plain results. Slicer's
event loop very probably keeps Python's lock between two slots, so each tick waits a little, which lets the
thread run.
"""

import queue
import threading
from dataclasses import dataclass
from typing import Any, Callable, Optional

import qt

TICK_MS = 50
YIELD_S = 0.01
MESSAGES_PER_TICK = 50

Report = Callable[[Any], None]
Work = Callable[[threading.Event, Report], Any]


def _nothing(_: Any) -> None:
    pass


@dataclass(frozen=True)
class Callbacks:
    """What the main thread does about a job; each is called with one value, `cancelled` with None."""

    done: Callable[[Any], None]
    failed: Callable[[Exception], None]
    progress: Callable[[Any], None] = _nothing
    cancelled: Callable[[None], None] = _nothing


class HttpJob:
    """Starts at once. work(cancelled, report): looks at `cancelled` between two parts and may report news.

    Exactly one of done, failed and cancelled is called, in the main thread, and nothing after it. A result
    that arrives after `cancel` counts as cancelled.
    """

    def __init__(self, work: Work, callbacks: Callbacks, tick_ms: int = TICK_MS) -> None:
        self._callbacks = callbacks
        self._cancelled, self._finished = threading.Event(), threading.Event()
        self._news: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._result: Any = None
        self._error: Optional[Exception] = None
        self._over = False
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True, name="LesionBrush")
        self._timer = qt.QTimer()
        self._timer.setInterval(tick_ms)
        self._timer.connect("timeout()", self._tick)
        self._thread.start()
        self._timer.start()

    @property
    def running(self) -> bool:
        return not self._over

    @property
    def cancelled(self) -> bool:
        """It is over, and ended by `cancel`."""
        return self._cancelled.is_set() and self._over

    @property
    def cancelling(self) -> bool:
        """Cancel was asked for, and the work has not noticed yet."""
        return self._cancelled.is_set() and not self._over

    def cancel(self) -> None:
        """Ask the work to stop; `cancelled` is called once it has."""
        self._cancelled.set()

    def abandon(self) -> None:
        """Cancel, and call nobody any more: for a panel that goes away."""
        self._cancelled.set()
        self._end()

    def _run(self, work: Work) -> None:
        try:
            self._result = work(self._cancelled, self._news.put)
        except Exception as error:  # noqa: BLE001, it is shown by the main thread, whatever it is
            self._error = error
        finally:
            self._finished.set()

    def _tick(self) -> None:
        if self._over:
            return
        finished = self._finished.wait(YIELD_S)
        self._pass_on_news()
        if not finished or self._over:  # a callback may have abandoned the job
            return
        self._pass_on_news(everything=True)
        self._end()
        if self._cancelled.is_set():
            self._callbacks.cancelled(None)
        elif self._error is not None:
            self._callbacks.failed(self._error)
        else:
            self._callbacks.done(self._result)

    def _pass_on_news(self, everything: bool = False) -> None:
        left = self._news.qsize() if everything else MESSAGES_PER_TICK
        while left > 0 and not self._over and not self._cancelled.is_set():
            try:
                self._callbacks.progress(self._news.get_nowait())
            except queue.Empty:
                return
            left -= 1

    def _end(self) -> None:
        self._over = True
        self._timer.stop()
