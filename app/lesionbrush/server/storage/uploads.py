"""Files that come in: their types, their size, and where they land. No name from outside becomes a path."""

from __future__ import annotations

import lzma
import os
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO
from uuid import uuid4
from zipfile import BadZipFile, ZipFile, ZipInfo

from fastapi import UploadFile

from lesionbrush.errors import DamagedFile, InvalidRequest, LesionBrushError
from lesionbrush.files.dicom import find_slices
from lesionbrush.files.dicom.contents import SUFFIXES as DICOM_SUFFIXES
from lesionbrush.files.dicom.contents import shape_of
from lesionbrush.files.dicom.headers import START_BYTES, is_dicom
from lesionbrush.files.durable import sync_file, sync_folder
from lesionbrush.server.doors.limits import SizeLimits, check_volume
from lesionbrush.server.errors import AlreadyStored, TooLarge, naming_full_disk
from lesionbrush.server.storage.durable import PUBLISHING, write_json
from lesionbrush.server.storage.references import ABOUT

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")
SERIES = ".zip"
MAX_SLICES = 20_000
BELOW = "below"

_CHUNK_BYTES = 1 << 20
_BROKEN_ZIP = (  # all that zipfile was seen to raise for damaged archives; RuntimeError also for a password
    BadZipFile, OSError, EOFError, ValueError, LookupError, RuntimeError, zlib.error, lzma.LZMAError,
)  # fmt: skip


def suffix_of(name: str, allowed: Sequence[str] = SUFFIXES) -> str:
    """The file type a name ends with. InvalidRequest for any other."""
    for suffix in allowed:
        if name.lower().endswith(suffix):
            return suffix
    raise InvalidRequest(f"{PurePosixPath(name).name!r}: unknown file type; send one of {', '.join(allowed)}")


def receive_volume(upload: UploadFile, folder: Path, name: str = "mask") -> Path:
    """A volume as the file `name` in `folder`. Raises InvalidRequest, StorageFull, and as `check_volume`."""
    file = copy_stream(upload.file, folder / f"{name}{suffix_of(upload.filename or '')}")
    check_volume(file)
    return file


def receive_reference(upload: UploadFile, folder: Path) -> Path:
    """The uploaded volume, or the folder of an unpacked DICOM series. Raises as `receive_volume` does."""
    suffix = suffix_of(upload.filename or "", (*SUFFIXES, SERIES))
    file = copy_stream(upload.file, folder / f"reference{suffix}")
    if suffix != SERIES:
        check_volume(file)
        return file
    came = unpack(file, folder / "reference")
    with came.naming():
        check_volume(came.folder)
        find_slices(came.folder)  # what tags tell is told before the work, and by the names of the archive
    write_json(folder / ABOUT, {"remarks": came.remarks})
    return came.folder


def copy_stream(stream: IO[bytes], path: Path) -> Path:
    """Raises StorageFull."""
    with naming_full_disk(), path.open("xb") as file:
        shutil.copyfileobj(stream, file, _CHUNK_BYTES)
    return path


def store(stream: IO[bytes], path: Path, *, checked: bool = False) -> None:
    """As `copy_stream`, but for keeps: `path` holds all of it or is not there.

    checked: `check_volume` has looked at these bytes already.
    Raises StorageFull, AlreadyStored, and what `check_volume` raises.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".lesionbrush-{uuid4().hex}.part")
    try:
        with naming_full_disk():
            sync_file(copy_stream(stream, draft))
        if not checked:
            check_volume(draft, name=path.name)
        with PUBLISHING:  # under this lock, what was free is free
            require_unused(path)
            os.replace(draft, path)
            sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def require_unused(path: Path) -> None:
    """AlreadyStored when a volume has this name in its folder, in whatever format: they would share an id."""
    suffix = suffix_of(path.name)
    stem = path.name[: -len(suffix)]
    if any(path.with_name(stem + other).exists() for other in SUFFIXES):
        raise AlreadyStored(f"{stem!r} is stored already, and is not overwritten: choose another id")


@dataclass(frozen=True)
class Unpacked:
    """A series that came as an archive. names: what it called its files; remarks: what was not kept."""

    folder: Path
    names: dict[str, str]
    remarks: tuple[str, ...]

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Errors about a file call it what the archive called it."""
        try:
            yield
        except LesionBrushError as error:
            words = re.split(r"(?<![\w.])(\d{5}(?:\.\w+)?)\b", str(error))
            raise type(error)("".join(self.names.get(word, word) for word in words)) from error


def unpack(archive: Path, folder: Path) -> Unpacked:
    """The DICOM files of a .zip, numbered, in one new folder; the archive goes.

    The names in the archive never become a path, so no entry can land elsewhere.
    Raises DamagedFile (also for an entry without content that is named as the slices are), TooLarge (before
    anything is unpacked), StorageFull.
    """
    folder.mkdir()
    names: dict[str, str] = {}
    nothing: list[str] = []
    try:
        with ZipFile(archive) as zipped:
            for number, entry in enumerate(_slices(zipped)):
                name = PurePosixPath(entry.filename).name
                with zipped.open(entry) as source:
                    start, suffix = source.read(START_BYTES), _keep_suffix(entry)
                    if is_dicom(start) or suffix:  # all else is passed over, and not even written
                        source.seek(0)
                        kept = copy_stream(source, _place(folder, entry) / f"{number:05d}{suffix}")
                        names[kept.name] = name
                    else:
                        nothing.append(name)
            left_out = len(nothing) + len(_list_hidden(zipped))
    except _BROKEN_ZIP as error:
        raise DamagedFile("the .zip is damaged or has a password: pack the series again") from error
    if not names:
        raise DamagedFile(f"there is no DICOM image in this .zip ({left_out} other or hidden files)")
    _require_no_lost_slice(nothing, names.values())
    archive.unlink()
    remark = f"{left_out} files of the .zip are no DICOM, or hidden, and were not used"
    return Unpacked(folder, names, (remark,) if left_out else ())


def _place(folder: Path, entry: ZipInfo) -> Path:
    """The folder, or its sub-folder for what our client found in sub-folders, which may be other series.

    Archives that others made are flat.
    """
    if not entry.filename.startswith(f"{BELOW}/"):
        return folder
    below = folder / BELOW
    below.mkdir(exist_ok=True)
    return below


def _require_no_lost_slice(nothing: Sequence[str], slices: Iterable[str]) -> None:
    """A file that is no DICOM and is named as the slices are may have been one.

    Names that are numbers alone say nothing: our own client sends such, and has looked itself.
    """
    shapes = {shape_of(name) for name in slices}
    for name in nothing:
        if shape_of(name) in shapes and not name.isdecimal():
            raise DamagedFile(
                f"{name} is named like the slices and holds no DICOM data: copy it again, or leave it out"
            )


def _list_hidden(zipped: ZipFile) -> list[ZipInfo]:
    files = [entry for entry in zipped.infolist() if not entry.is_dir()]
    return [entry for entry in files if PurePosixPath(entry.filename).name.startswith((".", "__MACOSX"))]


def _slices(zipped: ZipFile) -> list[ZipInfo]:
    hidden = {entry.filename for entry in _list_hidden(zipped)}
    entries = [e for e in zipped.infolist() if not e.is_dir() and e.filename not in hidden]
    total = sum(entry.file_size for entry in entries)
    most_bytes = SizeLimits.current().unpacked_bytes
    if len(entries) > MAX_SLICES or total > most_bytes:
        raise TooLarge(
            f"the .zip holds {len(entries)} files of {total / 1e9:.1f} GB in all; this server takes up to "
            f"{MAX_SLICES} files and {most_bytes / 1e9:.1f} GB"
        )
    return entries


def _keep_suffix(entry: ZipInfo) -> str:
    suffix = PurePosixPath(entry.filename).suffix.lower()
    return suffix if suffix in DICOM_SUFFIXES else ""
