"""Folders that are kept for a while: bounded in bytes and in time, the least recently used go first.

An entry that somebody holds is never dropped; it counts, so a full shelf may have to refuse.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, RLock, Thread

from lesionbrush.errors import StorageFull
from lesionbrush.server.storage.durable import discard, move

Clock = Callable[[], float]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bounds:
    """limit_bytes: of all entries together; max_age_s: since an entry was used last."""

    limit_bytes: int
    max_age_s: float


@dataclass
class _Entry:
    bytes: int
    used_s: float
    holders: int = field(default=0)


class Shelf:
    """The folders inside one folder, by name. Names are checked by the caller. Safe to use from any thread.

    trash: a folder on the same disk; clock: seconds since 1970. When an entry was used last is the time stamp
    of its folder, so it survives a restart.
    """

    def __init__(self, folder: Path, trash: Path, bounds: Bounds, clock: Clock = time.time) -> None:
        self.folder, self.trash, self.bounds, self.clock = folder, trash, bounds, clock
        self._lock = RLock()
        self._promised_bytes = 0
        self._entries: dict[str, _Entry] = {}
        for path in folder.iterdir():
            self._entries[path.name] = _Entry(size_of(path), path.stat().st_mtime)

    def __contains__(self, name: str) -> bool:
        with self._lock:
            return name in self._entries

    @property
    def bytes(self) -> int:
        with self._lock:
            return sum(entry.bytes for entry in self._entries.values())

    def names(self) -> list[str]:
        """The least recently used first."""
        with self._lock:
            return sorted(self._entries, key=lambda name: self._entries[name].used_s)

    def use(self, name: str) -> Path | None:
        """The folder of an entry, which is now the most recently used; None when it is not there."""
        with self._lock:
            entry = self._entries.get(name)
            if entry is None:
                return None
            entry.used_s = self.clock()
            path = self.folder / name
            try:
                os.utime(path, (entry.used_s, entry.used_s))
            except FileNotFoundError:  # somebody tidied up by hand
                del self._entries[name]
                return None
            return path

    def make(self, name: str) -> Path:
        """The folder of an entry, new and empty when it was not there."""
        with self._lock:
            known = self.use(name)
            if known is not None:
                return known
            path = self.folder / name
            path.mkdir(0o700)
            self._entries[name] = _Entry(0, self.clock())
            return path

    def publish(self, draft: Path, name: str) -> Path:
        """A finished folder becomes an entry in one step; where there is one already, the draft goes."""
        with self._lock:
            known = self.use(name)
            if known is not None:
                discard(draft, self.trash)
                return known
            path = self.folder / name
            move(draft, path)
            self._entries[name] = _Entry(size_of(path), self.clock())
            return self.use(name) or path

    @contextmanager
    def holding(self, name: str) -> Iterator[Path | None]:
        """As `use`; the entry stays while this is open."""
        path = self.hold(name)
        try:
            yield path
        finally:
            if path is not None:
                self.release(name)

    def hold(self, name: str) -> Path | None:
        """As `use`; the entry stays until `release` is called as often."""
        with self._lock:
            path = self.use(name)
            if path is not None:
                self._entries[name].holders += 1
            return path

    def release(self, name: str) -> None:
        with self._lock:
            entry = self._entries.get(name)
            if entry is not None and entry.holders:
                entry.holders -= 1
                entry.bytes = size_of(self.folder / name)
                self.use(name)
            self._shrink_to(self.bounds.limit_bytes - self._promised_bytes)

    def drop(self, name: str) -> None:
        """Remove an entry, held or not, for its owner; one that is not there is fine."""
        with self._lock:
            self._entries.pop(name, None)
            discard(self.folder / name, self.trash)

    @contextmanager
    def room_for(self, size_bytes: int) -> Iterator[None]:
        """Room for a new entry: old ones go, and what is promised counts while this is open.

        Raises StorageFull when what is in use leaves too little.
        """
        with self._lock:
            self._shrink_to(self.bounds.limit_bytes - self._promised_bytes - size_bytes)
            if self.bytes + self._promised_bytes + size_bytes > self.bounds.limit_bytes:
                raise StorageFull(
                    f"the server keeps up to {_mb(self.bounds.limit_bytes)} of these, and the other "
                    f"{_mb(self.bytes + self._promised_bytes)} are in use: try again later"
                )
            self._promised_bytes += size_bytes
        try:
            yield
        finally:
            with self._lock:
                self._promised_bytes -= size_bytes

    def sweep(self) -> list[str]:
        """Measure the entries; drop the too old, and the oldest of the too many. Returns their names."""
        with self._lock:
            for name, entry in self._entries.items():
                entry.bytes = size_of(self.folder / name)
            oldest_s = self.clock() - self.bounds.max_age_s
            expired = [name for name in self._free() if self._entries[name].used_s < oldest_s]
            for name in expired:
                self.drop(name)
            dropped = expired + self._shrink_to(self.bounds.limit_bytes - self._promised_bytes)
        if dropped:
            logger.info("dropped %d entries of %s, past their time or room", len(dropped), self.folder.name)
        return dropped

    def _free(self) -> list[str]:
        return [name for name in self.names() if not self._entries[name].holders]

    def _shrink_to(self, limit_bytes: int) -> list[str]:
        dropped = []
        for name in self._free():
            if self.bytes <= limit_bytes:
                break
            self.drop(name)
            dropped.append(name)
        return dropped


class Sweeper:
    """Calls `sweep` now and then, in a thread of its own that ends with the process or with `close`."""

    def __init__(self, sweep: Callable[[], object], interval_s: float = 60.0) -> None:
        self._sweep, self._interval_s, self._closed = sweep, interval_s, Event()
        self._thread = Thread(target=self._run, name="lesionbrush-sweeper", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closed.wait(self._interval_s):
            try:
                self._sweep()
            except OSError as error:  # a disk that fails now may work again at the next turn
                logger.warning("sweeping failed: %s", error.strerror)

    def close(self) -> None:
        self._closed.set()
        self._thread.join()


def size_of(path: Path) -> int:
    """Bytes of a file or of all files in a folder. What vanishes meanwhile counts nothing."""
    try:
        if path.is_dir():
            return sum(size_of(child) for child in path.iterdir())
        return path.lstat().st_size
    except OSError:
        return 0


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.0f} MB"
