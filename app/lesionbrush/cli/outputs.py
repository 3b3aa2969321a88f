"""What a command is about to write, looked at before it reads or samples anything. Nothing is made here."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from LesionBrushLib.client import SUFFIXES
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lesionbrush.core.volume import Volume
from lesionbrush.errors import InvalidRequest, StorageFull
from lesionbrush.files.records import place_for_record, record_of, sidecar_path

VOLUME, PICTURE, SHAPES = SUFFIXES, (".png",), (".npz",)
DRAWN_BY = ("Software", "LesionBrush")
"""The text in a PNG by which a picture of ours is known, which may be drawn anew."""
LONGEST_NAME_BYTES = 220
"""File systems take 255, and the name of a record in the making has some more than that of its volume."""


@dataclass(frozen=True)
class Output:
    """A file to be written.

    endings: of its name, in any case, () for any; recorded: with its provenance, and an older result is
    replaced where nothing but one is there; new: nothing may be there. A picture replaces pictures of ours.
    """

    path: Path
    endings: tuple[str, ...] = ()
    recorded: bool = False
    new: bool = False

    @property
    def files(self) -> list[Path]:
        return [self.path, place_for_record(self.path)] if self.recorded else [self.path]


def pictures(*paths: Path | None) -> list[Output]:
    """PNGs, as far as they are asked for."""
    return [Output(path, PICTURE) for path in paths if path is not None]


def reports(*paths: Path | None) -> list[Output]:
    """Files of any name, as far as they are asked for."""
    return [Output(path) for path in paths if path is not None]


def check_outputs(outputs: Sequence[Output], inputs: Iterable[Path | str | None] = ()) -> None:
    """Raise InvalidRequest for what could not be written, or would replace an input or another output."""
    for output in outputs:
        _require_ending(output)
    files = [file for output in outputs for file in output.files]
    _require_apart(files, list(_list_kept(inputs)))
    for file in files:
        _require_file_place(file)
    for output in outputs:
        _require_replaceable(output)


def require_same_origin(results: Iterable[Path], reference: Volume | None) -> None:
    """Raise InvalidRequest for an older result that was not made from this CT (None: generated).

    To be asked once `check_outputs` has passed. DamagedFile for a record that cannot be read.
    """
    for path in filter(Path.exists, results):
        record = record_of(path)
        origin = None if reference is None else reference.voxel_sha256
        if record is not None and record.reference_sha256 != origin:
            made = "an edit of a CT" if origin is None else "made from another CT"
            raise InvalidRequest(
                f"{path.name} is there already, {made}, and is not overwritten: choose another name"
            )


def check_folder(folder: Path, *, new: bool = False) -> None:
    """Raise InvalidRequest unless files can be put into a folder that is there, or else can be made.

    new: it must not be there yet.
    """
    if new and os.path.lexists(folder):
        raise InvalidRequest(f"{folder.name} exists already and is not overwritten: choose another folder")
    _require_writable_folder(folder, folder.name)


def require_room(paths: Sequence[Path], bytes_each: int) -> None:
    """Raise StorageFull unless the disks have room for these files. bytes_each: before compression."""
    disks: dict[int, list[Path]] = defaultdict(list)
    for path in paths:
        place = _nearest(path)
        disks[place.stat().st_dev].append(place)
    for places in disks.values():
        need, free = bytes_each * len(places), shutil.disk_usage(places[0]).free
        if need > free:
            files = "the result needs" if len(places) == 1 else f"the {len(places)} results need"
            raise StorageFull(
                f"{files} up to {need / 1e6:.1f} MB, and {free / 1e6:.1f} MB are free there: make room, or "
                "choose a folder on another disk"
            )


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a PNG that says whose it is."""
    about = PngInfo()
    about.add_text(*DRAWN_BY)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, pnginfo=about, optimize=True)


def write_report(text: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")


def _require_ending(output: Output) -> None:
    name, endings = output.path.name, output.endings
    if not endings or name.lower().endswith(endings):
        return
    if endings == PICTURE:
        raise InvalidRequest(f"{name}: the picture is a PNG; give it a name that ends with .png")
    if endings == SHAPES:
        raise InvalidRequest(f"{name}: shapes are kept in a file that ends with .npz")
    raise InvalidRequest(f"{name}: unknown file type; use one of {', '.join(endings)}")


def _list_kept(inputs: Iterable[Path | str | None]) -> Iterator[Path]:
    """The inputs that are files, and the records beside those that are synthetic themselves."""
    for path in inputs:
        if not isinstance(path, Path):
            continue
        yield path
        if sidecar_path(path).exists():
            yield sidecar_path(path)


def _require_apart(files: Sequence[Path], kept: Sequence[Path]) -> None:
    """Two names of one file, by a link or another spelling, are one file."""
    inputs, seen = {_identity(path) for path in kept}, set()
    for file in files:
        identity = _identity(file)
        if identity in inputs:
            raise InvalidRequest(f"{file.name} is an input of this command; write the result to another file")
        if identity in seen:
            raise InvalidRequest(f"{file.name} would be written twice: give every result its own name")
        seen.add(identity)


def _identity(path: Path) -> object:
    try:
        about = path.stat()
    except OSError:
        return path.resolve()
    return about.st_dev, about.st_ino


def _require_file_place(file: Path) -> None:
    name = file.name
    if len(os.fsencode(name)) > LONGEST_NAME_BYTES:
        raise InvalidRequest(f"{name[:40]}... is too long a name: {LONGEST_NAME_BYTES} bytes are most")
    if file.is_dir():
        raise InvalidRequest(f"{name} is a folder: give the name of a file in it")
    if file.exists() and not file.is_file():
        raise InvalidRequest(f"{name} is no ordinary file: choose another name")
    if file.exists() and not os.access(file, os.W_OK):
        raise InvalidRequest(f"{name} is there and is write-protected: choose another name")
    _require_writable_folder(file.parent, name)


def _require_replaceable(output: Output) -> None:
    name = output.path.name
    if not output.path.exists():
        return
    if output.new:
        raise InvalidRequest(f"{name} is there already and is not overwritten: choose another name")
    if output.recorded and not sidecar_path(output.path).exists():
        raise InvalidRequest(
            f"{name} is there already, without the record of a result, and is not overwritten: choose "
            "another name"
        )
    if output.endings == PICTURE and not _is_ours(output.path):
        raise InvalidRequest(
            f"{name} is there already, does not say that LesionBrush drew it, and is not overwritten: choose "
            "another name"
        )


def _is_ours(picture: Path) -> bool:
    key, value = DRAWN_BY
    try:
        with Image.open(picture) as opened:
            return bool(opened.info.get(key) == value)
    except (OSError, Image.DecompressionBombError):
        return False


def _require_writable_folder(folder: Path, what: str) -> None:
    place = _nearest(folder)
    if not place.is_dir():
        raise InvalidRequest(f"{what} cannot be written: {place.name} is no folder; choose another one")
    if not os.access(place, os.W_OK | os.X_OK):
        raise InvalidRequest(
            f"{what} cannot be written: you may not write into the folder {place.name!r}, or its disk is "
            "read-only; choose another one"
        )


def _nearest(path: Path) -> Path:
    """The path, or the first folder above it that is there; a link that leads nowhere is there."""
    path = path.absolute()
    return next(place for place in (path, *path.parents) if os.path.lexists(place))
