"""The server's own folder inside the studies folder: `<studies>/.lesionbrush/`, for nobody else to read.

references/  uploaded CTs that are kept for a while        accepts/  cases on their way into the studies
results/     of jobs; of no use once the server has gone   tmp/      all other files that are not for keeps
lock         held by the one server that works here        aside/    damaged files, for a person to look at
sessions/    of MONAI Label's clients: which uploaded CT each of them is about
cohorts/     cases made like a result, for keeps; each with what it was made of
"""

from __future__ import annotations

import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from uuid import uuid4

from filelock import FileLock, Timeout

from lesionbrush.errors import InvalidRequest
from lesionbrush.server.errors import StudiesInUse
from lesionbrush.server.storage.retention import Sweeper

NAME = ".lesionbrush"
SWEEP_S = 60.0

_FOLDERS = ("references", "sessions", "results", "accepts", "tmp", "aside", "cohorts")
_EMPTIED = ("results", "tmp")
_OURS_ONLY = 0o700

logger = logging.getLogger(__name__)


class PrivateRoot:
    """Open for as long as this process works on the studies. Raises StudiesInUse, InvalidRequest, OSError."""

    def __init__(self, studies: Path) -> None:
        self.path = studies.resolve() / NAME
        _make_private(self.path)
        self._sweepers: list[Sweeper] = []
        self._lock = FileLock(self.path / "lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise StudiesInUse(
                f"another LesionBrush server already works on the studies folder {studies.name!r}: stop it, "
                "or give this one another folder"
            ) from error
        self._prepare()

    def _prepare(self) -> None:
        for name in _EMPTIED:
            _remove(self.path / name)
        for name in _FOLDERS:
            _make_private(self.path / name)

    @property
    def references(self) -> Path:
        return self.path / "references"

    @property
    def sessions(self) -> Path:
        return self.path / "sessions"

    @property
    def results(self) -> Path:
        return self.path / "results"

    @property
    def accepts(self) -> Path:
        return self.path / "accepts"

    @property
    def cohorts(self) -> Path:
        return self.path / "cohorts"

    @property
    def tmp(self) -> Path:
        return self.path / "tmp"

    @property
    def aside(self) -> Path:
        return self.path / "aside"

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """A new empty folder that goes afterwards, whatever happens."""
        folder = self.tmp / f"lesionbrush-{uuid4().hex}"
        folder.mkdir(_OURS_ONLY)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def use_for_temporary_files(self) -> None:
        """From now on everybody's temporary files in this process land here, the framework's uploads too."""
        for name in ("TMPDIR", "TEMP", "TMP"):
            os.environ[name] = str(self.tmp)
        tempfile.tempdir = str(self.tmp)

    def sweep_regularly(self, sweep: Callable[[], object], interval_s: float = SWEEP_S) -> None:
        """Call this now and then until `close`, in a thread of its own."""
        self._sweepers.append(Sweeper(sweep, interval_s))

    def close(self) -> None:
        while self._sweepers:
            self._sweepers.pop().close()
        self._lock.release()


_open: dict[Path, PrivateRoot] = {}
_opening = Lock()


def private_root(studies: Path) -> PrivateRoot:
    """The private folder of a studies folder: one per process and folder. Raises as PrivateRoot does.

    MONAI Label makes the app anew when it likes; that must find its own lock, and not be refused by it.
    """
    studies.mkdir(parents=True, exist_ok=True)
    key = studies.resolve()
    with _opening:
        known = _open.get(key)
        if known is None or not known.tmp.is_dir():
            if known is not None:
                known.close()
            known = _open[key] = PrivateRoot(studies)
        return known


def close_private_root(studies: Path) -> None:
    """Let go of the studies folder before the process ends; for tests and tools."""
    with _opening:
        known = _open.pop(studies.resolve(), None)
    if known is not None:
        known.close()


def _make_private(folder: Path) -> None:
    """A real folder of ours that nobody else can enter."""
    with suppress(FileExistsError):
        folder.mkdir(_OURS_ONLY)
    about = folder.lstat()
    if not stat.S_ISDIR(about.st_mode):
        raise InvalidRequest(
            f"{folder.name!r} in the studies folder is not a folder: remove it and start again"
        )
    if os.name == "nt":  # its permissions are inherited from the studies folder
        return
    if about.st_uid != os.geteuid():
        raise InvalidRequest(
            f"{folder.name!r} in the studies folder belongs to another user: remove it and start again"
        )
    if stat.S_IMODE(about.st_mode) != _OURS_ONLY:
        folder.chmod(_OURS_ONLY)


def _remove(path: Path) -> None:
    """Leftovers of a server that has died. A link is removed, not followed."""
    if path.is_symlink() or path.is_file():
        path.unlink()
        return
    if path.is_dir():
        logger.info("removing %d leftovers in %s", sum(1 for _ in path.iterdir()), path.name)
        shutil.rmtree(path)
