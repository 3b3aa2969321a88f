"""Stored CTs, decoded once: the second mask painted on a CT does not read it again."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from lesionbrush.io import read_volume
from lesionbrush.server.doors.limits import check_volume
from lesionbrush.volume import Volume, require_ct

LIMIT_BYTES = 2_000_000_000


class _Entry(NamedTuple):
    stamp: tuple[int, int]
    volume: Volume


def read_ct(path: Path) -> Volume:
    """A CT whose voxels nobody can change. Raises as `check_volume`, `read_volume` and `require_ct` do."""
    check_volume(path)
    volume = require_ct(read_volume(path))
    volume.array.setflags(write=False)
    return volume


class ReferenceCache:
    """The CTs used last, as many as fit into `limit_bytes`; a file that changed is read again."""

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self._entries: OrderedDict[Path, _Entry] = OrderedDict()
        self._lock = Lock()

    def get(self, path: Path) -> Volume:
        """Raises what `read_ct` raises. One file is read at a time, so that no CT is in memory twice."""
        with self._lock:
            stamp = _stamp(path)
            entry = self._entries.pop(path, None)
            if entry is None or entry.stamp != stamp:
                entry = _Entry(stamp, read_ct(path))
            self._entries[path] = entry
            self._shrink()
            return entry.volume

    def keep(self, path: Path, volume: Volume) -> None:
        """Take over what `read_ct` made of a file elsewhere."""
        with self._lock:
            self._entries[path] = _Entry(_stamp(path), volume)
            self._entries.move_to_end(path)
            self._shrink()

    def _shrink(self) -> None:
        while sum(entry.volume.array.nbytes for entry in self._entries.values()) > self.limit_bytes:
            self._entries.popitem(last=False)


def _stamp(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_mtime_ns, about.st_size
