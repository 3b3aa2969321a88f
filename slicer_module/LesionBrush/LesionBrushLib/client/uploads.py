"""What is sent: files as they are, or arrays as NIfTI in memory.

No name of a file leaves this computer; an answer that speaks of a file calls it what it is called here.
"""

import gzip
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Callable, Union
from zipfile import ZIP_STORED, ZipFile

import numpy as np

from .boxes import exact_int16
from .errors import ServerError, WrongInput
from .nifti import write_nifti
from .wire import CHUNK_BYTES, FilePart

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")
SERIES = "zip"
BELOW = "below/"
MOST_FILES = 20_000
FORMATS = (*(suffix[1:] for suffix in SUFFIXES), SERIES)

_DICOM_SUFFIXES = (".dcm", ".ima", ".dicom")
_DICOM_START_BYTES = 132


@dataclass(frozen=True)
class Upload:
    """A volume to send. source: a file, a folder with one DICOM series, or the bytes of a file;
    format: nii, nii.gz, nrrd, mha or zip (a DICOM series). Raises ValueError for another format."""

    source: Union[Path, bytes]
    format: str

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ValueError(f"{self.format}: unknown file type; use one of {', '.join(FORMATS)}")

    @classmethod
    def of(cls, path: Path) -> "Upload":
        """A file, its format from its name, or a folder with one DICOM series."""
        if path.is_dir():
            return cls(path, SERIES)
        return cls(path, split(path)[1][1:])

    def part(self, name: str) -> FilePart:
        """For a form. The server learns what kind of file it is, not how it is called here."""
        return FilePart(f"{name}.{self.format}", self.source)

    @contextmanager
    def packed(self) -> Iterator["Upload"]:
        """The same, as one file: a folder becomes an archive that goes afterwards.

        Raises WrongInput for a file of the folder that may have been a slice and holds nothing. A ServerError
        on the way names the files as they are called here.
        """
        if isinstance(self.source, bytes) or not self.source.is_dir():
            yield self
            return
        names = names_in_archive(self.source)
        with TemporaryDirectory(prefix="lesionbrush-") as folder:
            try:
                yield Upload(zipped_series(names, Path(folder)), SERIES)
            except ServerError as error:
                error.say(_with_own_names(error.message, names))
                raise

    def sha256(self, check: Callable[[], None] = lambda: None) -> str:
        """Of the bytes that are sent. check: called now and then; may raise."""
        digest = hashlib.sha256()
        if isinstance(self.source, bytes):
            digest.update(self.source)
            return digest.hexdigest()
        with self.source.open("rb") as stream:
            for chunk in iter(lambda: stream.read(CHUNK_BYTES), b""):
                check()
                digest.update(chunk)
        return digest.hexdigest()


def split(path: Path) -> "tuple[str, str]":
    """`ct.nii.gz` -> (`ct`, `.nii.gz`)."""
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)], suffix
    raise ValueError(f"{path.name}: unknown file type; use one of {', '.join(SUFFIXES)}")


def names_in_archive(series: Path) -> "dict[str, Path]":
    """Every file below a folder by what it is sent as: a number, below `BELOW` where it is in a sub-folder.

    Raises WrongInput for too many files, and for one that is no DICOM and is named as those that are.
    """
    files = sorted(file for file in series.rglob("*") if _is_file(file))
    if len(files) > MOST_FILES:
        raise WrongInput(f"{series.name} holds {len(files)} files: choose the folder of one series")
    _require_no_lost_slice(files)
    below = {file: "" if file.parent == series else BELOW for file in files}
    return {f"{below[file]}{number:05d}{_sent_suffix(file)}": file for number, file in enumerate(files)}


def zipped_series(names: "dict[str, Path]", folder: Path) -> Path:
    """The files of a DICOM series in one archive, without their names; the same files, the same bytes."""
    archive = folder / f"reference.{SERIES}"
    with ZipFile(archive, "w", ZIP_STORED) as zipped:
        for name, file in names.items():
            zipped.write(file, name)
    return archive


def _sent_suffix(file: Path) -> str:
    suffix = file.suffix.lower()
    return suffix if suffix in _DICOM_SUFFIXES else ""


def _is_file(path: Path) -> bool:
    """Raises WrongInput for what is no file, and may stand where one was."""
    if path.is_symlink() and not path.is_file():
        what = "links to a folder" if path.is_dir() else "is a link that leads nowhere"
        raise WrongInput(f"{path.name} {what}: copy what it leads to into the folder, or take it away")
    return path.is_file()


def _require_no_lost_slice(files: "list[Path]") -> None:
    """It may have been one. The server sees numbers instead of names, and cannot tell."""
    nothing = [file for file in files if not _has_dicom_start(file)]
    shapes = {_shape(file) for file in set(files) - set(nothing)}
    for file in nothing:
        if _shape(file) in shapes:
            what = "holds no DICOM data" if file.stat().st_size else "is empty"
            raise WrongInput(
                f"{file.name} is named like the slices and {what}: copy it again, or take it away"
            )


def _has_dicom_start(file: Path) -> bool:
    """With a preamble, or without: then the first element is of group 0002 or 0008."""
    with file.open("rb") as stream:
        start = stream.read(_DICOM_START_BYTES)
    if start[128:132] == b"DICM":
        return True
    little, big = start[:2] in (b"\x02\0", b"\x08\0"), start[:2] in (b"\0\x02", b"\0\x08")
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    return ((little or big) and explicit) or (little and start[6:8] == b"\0\0")


def _shape(file: Path) -> str:
    """`im#` for IM000016 as for IM000001."""
    return re.sub(r"\d+", "#", file.name).lower()


def _with_own_names(text: str, names: "dict[str, Path]") -> str:
    own = {sent.rpartition("/")[2]: file.name for sent, file in names.items()}
    return "".join(own.get(word, word) for word in re.split(r"(?<![\w.])(\d{5}(?:\.\w+)?)\b", text))


def ct_upload(array: Any, affine: Any, compress: bool = False) -> Upload:
    """A CT from memory. array: (i, j, k) HU, whole numbers; affine: 4x4, voxel index -> RAS mm.

    compress: for slow networks; takes some seconds. Raises ValueError for what are no HU.
    """
    if array.ndim != 3:
        raise ValueError(f"an array of {array.ndim} axes is no volume: choose a CT")
    return _packed(write_nifti(exact_int16(array), affine), compress)


def mask_upload(mask: Any, affine: Any) -> Upload:
    """A mask from memory, where it is not 0, cut to its bounding box. ValueError when it is 0 everywhere."""
    painted = mask != 0
    ends = []
    for axis in range(3):
        lines = np.flatnonzero(painted.any(axis=tuple({0, 1, 2} - {axis})))
        if not lines.size:
            raise ValueError("the mask is empty: paint a lesion first")
        ends.append((int(lines[0]), int(lines[-1]) + 1))
    moved = np.array(affine, np.float64)
    moved[:3, 3] += moved[:3, :3] @ [start for start, _ in ends]
    box = painted[tuple(slice(start, stop) for start, stop in ends)]
    return _packed(write_nifti(box.astype(np.uint8), moved), compress=True)


def labels_upload(labels: Any, affine: Any) -> Upload:
    """A label volume from memory. labels: (i, j, k) uint8 or int16."""
    return _packed(write_nifti(labels, affine), compress=True)


def _packed(nifti: bytes, compress: bool) -> Upload:
    """The same bytes each time."""
    return Upload(gzip.compress(nifti, 1, mtime=0), "nii.gz") if compress else Upload(nifti, "nii")
