"""What the files of a folder hold: told from their bytes, not from their names.

A name matters in one case: what holds nothing readable and is named as the slices are may have been one.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.uid import CTImageStorage, UID_dictionary

from lesionbrush.errors import DamagedFile, InvalidRequest
from lesionbrush.files.dicom import kinds, values
from lesionbrush.files.dicom.headers import (
    START_BYTES,
    SYNTHETIC_DATA,
    is_dicom,
    name_of,
    read_header,
    text_of,
)

MOST_FILES = 100_000
SUFFIXES = (".dcm", ".ima", ".dicom")
KEYWORDS: tuple[str | BaseTag, ...] = (
    *dict.fromkeys((*kinds.KEYWORDS, *values.KEYWORDS)), *values.OVERLAYS, "SOPInstanceUID", "PatientID",
    "PatientName", "PatientPosition", "SeriesNumber",
    "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SeriesDescription", "InstanceNumber",
    "NumberOfSeriesRelatedInstances", "KVP", "ConvolutionKernel", "LossyImageCompression", "PixelSpacing",
    "ImageOrientationPatient", "ImagePositionPatient", "SliceThickness", "SpacingBetweenSlices",
    "DirectoryRecordSequence", "ImageComments", SYNTHETIC_DATA,
)  # fmt: skip
EMPTY, MACOS, OTHER = "empty files", "files of macOS (._*, .DS_Store)", "other files"
DIRECTORY, OBJECT, SCOUT = "DICOMDIR", "DICOM objects without an image", "localizer images"
LINK, FOLDER_LINK = "links that lead nowhere", "links to folders"

_MACOS = (b"\x00\x05\x16\x07", b"\x00\x00\x00\x01Bud1")
"""How AppleDouble files (`._IM0001`) and `.DS_Store` begin."""
_DICOMDIR = "DICOMDIR"  # the one file that the standard names (PS3.10 8.6)


@dataclass
class Contents:
    """nothing: files without DICOM, broken links and folders, any of which may stand where a slice was.

    unused: how many there are of each kind that is no slice.
    """

    images: list[Dataset] = field(default_factory=list)
    scouts: list[Dataset] = field(default_factory=list)
    directories: list[Dataset] = field(default_factory=list)
    nothing: list[tuple[Path, str]] = field(default_factory=list)
    unused: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, folder: Path) -> Contents:
        """Of a folder and all below it; links to folders are not followed.

        Raises DamagedFile (what cannot be read, or may have been a slice), InvalidRequest (too many files).
        """
        found = cls()
        for count, path in enumerate(_paths(folder), 1):
            if count > MOST_FILES:
                raise InvalidRequest(
                    f"{folder.name} holds more than {MOST_FILES} files: name the folder of one series"
                )
            found._add(path)
        found._require_no_lost_slice()
        return found

    def _add(self, path: Path) -> None:
        if path.is_dir():
            self._add_folder(path)
        elif path.is_symlink() and not path.exists():
            self.nothing.append((path, "is a link that leads nowhere"))
            self.unused[LINK] += 1
        elif path.is_file():
            self._add_file(path)

    def _add_folder(self, path: Path) -> None:
        self.nothing.append((path, "is a folder"))
        if path.is_symlink():
            self.unused[FOLDER_LINK] += 1

    def _add_file(self, path: Path) -> None:
        try:
            with path.open("rb") as stream:
                start = stream.read(START_BYTES)
        except OSError as error:
            raise DamagedFile(f"{path.name} cannot be read: {error.strerror}") from error
        if is_dicom(start):
            self._add_dicom(path)
        elif start.startswith(_MACOS):
            self.unused[MACOS] += 1
        else:
            self.nothing.append((path, "holds no DICOM data" if start else "is empty"))
            self.unused[OTHER if start else EMPTY] += 1

    def _add_dicom(self, path: Path) -> None:
        try:
            header = read_header(path, KEYWORDS)
            if "Rows" not in header and "DirectoryRecordSequence" not in header:
                _require_no_half_slice(header)
        except DamagedFile:
            if path.name.upper() != _DICOMDIR:
                raise
            self.unused[f"damaged {DIRECTORY}"] += 1
            return
        if "DirectoryRecordSequence" in header:
            self.directories.append(header)
            self.unused[DIRECTORY] += 1
        elif "Rows" not in header:
            self.unused[OBJECT] += 1
        elif kinds.is_localizer(header):
            self.scouts.append(header)
            self.unused[SCOUT] += 1
        else:
            self.images.append(header)

    def _require_no_lost_slice(self) -> None:
        shapes = {shape_of(name_of(header)) for header in self.images}
        for path, what in self.nothing:
            is_named_dicom = path.suffix.lower() in SUFFIXES and not path.is_dir()
            if is_named_dicom or (shape_of(path.name) in shapes and not _is_full(path)):
                raise DamagedFile(
                    f"{path.name} is named like a DICOM file and is none: it {what}; copy it again, or "
                    "take it out of the folder"
                )


def shape_of(name: str) -> str:
    """`im#` for IM000016 as for IM000001: files of one shape are named alike."""
    return re.sub(r"\d+", "#", name).lower()


def _paths(folder: Path) -> Iterator[Path]:
    """Files and folders below a folder, in the order of their paths. Raises DamagedFile."""

    def refuse(error: OSError) -> None:
        raise DamagedFile(
            f"the folder {Path(error.filename).name} cannot be read: {error.strerror}"
        ) from error

    for here, folders, names in os.walk(folder, onerror=refuse):
        folders.sort()
        yield from (Path(here) / name for name in (*folders, *sorted(names)))


def _is_full(path: Path) -> bool:
    """A folder may be called as files are, as on a CD; an empty one may stand where a file was."""
    return path.is_dir() and any(path.iterdir())


def _require_no_half_slice(header: Dataset) -> None:
    """Raise DamagedFile for what has no image, and may have been a slice: it says so, or not what it is."""
    said = text_of(header.file_meta, "MediaStorageSOPClassUID") or text_of(header, "SOPClassUID")
    said = said or CTImageStorage
    if said == CTImageStorage or (said not in UID_dictionary and "SeriesInstanceUID" not in header):
        raise DamagedFile(
            f"{name_of(header)} is a CT slice that ends within its header; copy the series again"
        )
