"""Stored CTs, decoded once: the second mask painted on a CT does not read it again."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from lesionbrush.core.volume import Volume, require_ct
from lesionbrush.files.io import read_volume
from lesionbrush.server.doors.limits import check_volume

LIMIT_BYTES = 2_000_000_000
ABOUT = "about.json"
"""Beside a CT that was uploaded, or fetched from an archive: what is known of it."""


class _CachedVolume(NamedTuple):
    stamp: tuple[int, int]
    volume: Volume


def read_ct(path: Path) -> Volume:
    """A CT whose voxels nobody can change, with what was noted of its files when it came (`ABOUT`).

    Raises as `check_volume`, `read_volume` and `require_ct` do.
    """
    check_volume(path)
    return read_checked_ct(path)


def read_checked_ct(path: Path) -> Volume:
    """The same of what `check_volume` has looked at: a packed file is unpacked by each of the two."""
    volume = with_remarks(require_ct(read_volume(path)), _read_remarks(path.parent / ABOUT))
    volume.array.setflags(write=False)
    return volume


def with_remarks(volume: Volume, more: tuple[str, ...]) -> Volume:
    """The same volume, read from a file, with more to tell the user of it."""
    if not more or volume.source is None:
        return volume
    return replace(volume, source=replace(volume.source, remarks=volume.source.remarks + more))


def _read_remarks(about: Path) -> tuple[str, ...]:
    try:
        return tuple(map(str, json.loads(about.read_text(encoding="utf-8"))["remarks"]))
    except (OSError, ValueError, KeyError, TypeError):
        return ()


class ReferenceCache:
    """The CTs used last, as many as fit into `limit_bytes`; a file that changed is read again."""

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self._entries: OrderedDict[Path, _CachedVolume] = OrderedDict()
        self._lock = Lock()

    def get(self, path: Path) -> Volume:
        """Raises what `read_ct` raises. One file is read at a time, so that no CT is in memory twice."""
        with self._lock:
            stamp = _stamp(path)
            entry = self._entries.pop(path, None)
            if entry is None or entry.stamp != stamp:
                entry = _CachedVolume(stamp, read_ct(path))
            self._entries[path] = entry
            self._shrink()
            return entry.volume

    def keep(self, path: Path, volume: Volume) -> None:
        """Take over what `read_ct` made of a file elsewhere."""
        with self._lock:
            self._entries[path] = _CachedVolume(_stamp(path), volume)
            self._entries.move_to_end(path)
            self._shrink()

    def _shrink(self) -> None:
        while sum(entry.volume.array.nbytes for entry in self._entries.values()) > self.limit_bytes:
            self._entries.popitem(last=False)


def _stamp(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_mtime_ns, about.st_size
