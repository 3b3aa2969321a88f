"""What a person sees while something takes its time."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import TextIO

from tqdm import tqdm

WIDTH = 52
TICK_S = 1.0
QUIET_TICK_S = 10.0


@dataclass
class Phases:
    """Prints what is being done and for how long, one line per phase; keeps the seconds.

    A terminal sees the seconds run; a log gets a line when a phase takes long.
    """

    out: TextIO = field(default_factory=lambda: sys.stdout)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, text: str) -> Iterator[None]:
        began, done = time.perf_counter(), Event()
        ticker = Thread(target=self._tick, args=(text, began, done), daemon=True)
        ticker.start()
        try:
            yield
        finally:
            done.set()
            ticker.join()
            self.seconds[text] = time.perf_counter() - began
            self._show(text, self.seconds[text])
            print(file=self.out, flush=True)

    @contextmanager
    def steps(self, text: str) -> Iterator[StepBar]:
        """As `phase`, for work that counts its steps."""
        began = time.perf_counter()
        with StepBar() as bar:
            yield bar
        self.seconds[text] = time.perf_counter() - began
        self._show(text, self.seconds[text])
        print(file=self.out, flush=True)

    def _tick(self, text: str, began: float, done: Event) -> None:
        live = self.out.isatty()
        if live:
            self._show(text, 0)
        while not done.wait(TICK_S if live else QUIET_TICK_S):
            self._show(text, time.perf_counter() - began)
            if not live:
                print(" so far", file=self.out, flush=True)

    def _show(self, text: str, seconds: float) -> None:
        start = "\r" if self.out.isatty() else ""
        print(f"{start}  {text:<{WIDTH}}{seconds:6.1f} s", end="", file=self.out, flush=True)


class StepBar:
    """A progress bar, with the time left, for `on_step`; in a log, a line now and then."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._bar = tqdm(desc="sampling", unit="step", leave=False, disable=not self._live)
        self._began = self._told = time.perf_counter()

    def __call__(self, done: int, total: int) -> None:
        if self._live:
            self._bar.total, self._bar.n = total, done  # set, not added: a batch that did not fit starts over
            self._bar.refresh()
        elif done and time.perf_counter() - self._told >= QUIET_TICK_S:
            self._told = time.perf_counter()
            left_s = (self._told - self._began) / done * (total - done)
            print(f"sampling: {done} of {total} steps, {left_s:.0f} s left", file=sys.stderr, flush=True)

    def __enter__(self) -> StepBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
