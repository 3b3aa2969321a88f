"""News of a job for those who listen to it, from threads to the event loop.

Only the newest of each kind is kept: a slow listener misses steps in between, and never costs memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock


class Feed:
    """News are numbered from 1 over all kinds; a listener asks for those after the last it has seen."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._count = 0
        self._newest: dict[str, int] = {}
        self._bells: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}

    def publish(self, kind: str) -> None:
        """Called from any thread."""
        with self._lock:
            self._count += 1
            self._newest[kind] = self._count
            bells = list(self._bells.items())
        for bell, loop in bells:
            with suppress(RuntimeError):  # a loop that has ended has no listeners
                loop.call_soon_threadsafe(bell.set)

    def after(self, seen: int) -> list[tuple[int, str]]:
        """(number, kind) of the newest of each kind, if newer than `seen`, in order."""
        with self._lock:
            return sorted((number, kind) for kind, number in self._newest.items() if number > seen)

    @property
    def count(self) -> int:
        return self._count

    @property
    def listeners(self) -> int:
        return len(self._bells)

    @contextmanager
    def listening(self) -> Iterator[asyncio.Event]:
        """An event of the running loop that is set at each piece of news; the listener clears it."""
        bell, loop = asyncio.Event(), asyncio.get_running_loop()
        with self._lock:
            self._bells[bell] = loop
        try:
            yield bell
        finally:
            with self._lock:
                del self._bells[bell]
