"""Files and folders that are there whole or not at all, and outlive a power cut."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from lesionbrush.errors import InvalidRequest, StorageFull

_CAN_SYNC_FOLDERS = os.name != "nt"  # Windows has no such call
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)


def sync_file(path: Path) -> None:
    """What was written to a file is on the disk when this returns. Raises OSError."""
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """So are the names in a folder: those of files that are new, and those that a rename gave."""
    if not _CAN_SYNC_FOLDERS:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_all(path: Path) -> None:
    """A file, or a folder with all that is in it."""
    for inside in (path, *path.rglob("*")):
        (sync_folder if inside.is_dir() else sync_file)(inside)


@contextmanager
def whole_files(*paths: Path, needs: str = "", lasting: bool = True) -> Iterator[list[Path]]:
    """Drafts with the endings of `paths`, all of one folder: they get their names when the block ends well.

    When it does not, what was there before stays. needs: how much room, for the text.
    lasting: they outlive a power cut, for which the disk takes its time. Raises StorageFull.
    """
    folder = paths[0].parent
    missing = f"needs up to {needs}; nothing was written" if needs else "was not written"
    with naming_full_disk(f"the disk is full: {paths[0].name} {missing}"):
        # A folder of their own keeps half a file out of sight of whoever watches `folder` for images.
        with TemporaryDirectory(dir=folder, prefix=".lesionbrush-") as private:
            drafts = [Path(private) / f"{k}{_ending(path)}" for k, path in enumerate(paths)]
            yield drafts
            for draft in drafts if lasting else ():
                sync_file(draft)
            for draft, path in zip(drafts, paths, strict=True):
                os.replace(draft, path)
        if lasting:
            sync_folder(folder)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A draft that becomes the folder `out` when the block ends well, and is gone when it does not.

    Raises InvalidRequest when there is something at `out`, StorageFull.
    """
    if out.exists() or out.is_symlink():
        raise InvalidRequest(f"{out.name} exists already and is not overwritten: choose another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    with naming_full_disk(f"the disk is full: {out.name} was not written"):
        try:
            with TemporaryDirectory(dir=out.parent, prefix=".lesionbrush-") as private:
                draft = Path(private) / "draft"
                draft.mkdir()
                yield draft
                sync_all(draft)  # so that the rename never names files that a power cut empties
                draft.rename(out)
                sync_folder(out.parent)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
            raise InvalidRequest(
                f"{out.name} was made by somebody else meanwhile: choose another folder"
            ) from error


@contextmanager
def naming_full_disk(text: str) -> Iterator[None]:
    """StorageFull with this text in place of the operating system's "no space left"."""
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise StorageFull(text) from error


def is_disk_full(error: BaseException | None) -> bool:
    """Room or quota."""
    return isinstance(error, OSError) and error.errno in _DISK_FULL


def _ending(path: Path) -> str:
    return "".join(path.suffixes[-2:]).lower()
