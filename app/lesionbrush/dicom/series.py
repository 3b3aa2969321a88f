"""Which files of a folder are the slices of its one CT series: told from what they hold, not by their names.

What is not used is counted, and said. A name matters in one case: a file that holds nothing readable and is
named as the slices are may have been one of them.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, UID_dictionary

from lesionbrush.dicom.headers import (
    START_BYTES,
    is_dicom,
    items_of,
    name_of,
    read_header,
    text_of,
    whole_of,
)
from lesionbrush.dicom.values import KEYWORDS, is_localizer
from lesionbrush.errors import DamagedFile, InvalidRequest, NotACT, UnsupportedSeries

MOST_FILES = 100_000
SUFFIXES = (".dcm", ".ima", ".dicom")
_TAGS = (
    *KEYWORDS, "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "InstanceNumber",
    "NumberOfSeriesRelatedInstances", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient",
    "SliceThickness", "SpacingBetweenSlices", "DirectoryRecordSequence",
)  # fmt: skip
_MACOS = (b"\x00\x05\x16\x07", b"\x00\x00\x00\x01Bud1")
"""How AppleDouble files (`._IM0001`) and `.DS_Store` begin."""
EMPTY, MACOS, OTHER = "empty files", "files of macOS (._*, .DS_Store)", "other files"
DIRECTORY, OBJECT, SCOUT = "DICOMDIR", "DICOM objects without an image", "localizer images"
ELSEWHERE, COPY = "images of other series in sub-folders", "copies of slices"


@dataclass(frozen=True, eq=False)
class FoundSeries:
    """headers: of the images of one series, in no order; unused: how many files of which kind are not used.

    others: localizers within the series; listed: SOP instance UIDs that a DICOMDIR names for it.
    """

    headers: list[Dataset]
    unused: Counter[str]
    others: list[Dataset] = field(default_factory=list)
    listed: frozenset[str] = frozenset()


@dataclass
class _Sorted:
    """The files of a folder by what they hold."""

    images: list[Dataset] = field(default_factory=list)
    scouts: list[Dataset] = field(default_factory=list)
    directories: list[Dataset] = field(default_factory=list)
    nothing: list[Path] = field(default_factory=list)
    unused: Counter[str] = field(default_factory=Counter)

    def add(self, path: Path) -> None:
        with path.open("rb") as stream:
            start = stream.read(START_BYTES)
        if is_dicom(start):
            self._add_dicom(read_header(path, _TAGS))
        elif start.startswith(_MACOS):
            self.unused[MACOS] += 1
        else:
            self.nothing.append(path)
            self.unused[OTHER if start else EMPTY] += 1

    def _add_dicom(self, header: Dataset) -> None:
        if "DirectoryRecordSequence" in header:
            self.directories.append(header)
            self.unused[DIRECTORY] += 1
        elif "Rows" not in header:
            _require_no_half_slice(header)
            self.unused[OBJECT] += 1
        elif is_localizer(header):
            self.scouts.append(header)
            self.unused[SCOUT] += 1
        else:
            self.images.append(header)


def find_series(folder: Path) -> FoundSeries:
    """The images of the one series in a folder.

    Images in the folder itself decide which series it is; where there are none, those in its sub-folders.
    Raises UnsupportedSeries (several series), DamagedFile (a file that may have been a slice, no image),
    NotACT (localizers alone), InvalidRequest (too many files to be a series).
    """
    found = _Sorted()
    for path in _files(folder):
        found.add(path)
    _require_no_lost_slice(found)
    if not found.images:
        _refuse_without_images(folder, found)
    here = [header for header in found.images if Path(header.filename).parent == folder]
    uid = _require_one(here or found.images, folder)
    headers = [header for header in found.images if _uid(header) == uid]
    found.unused[ELSEWHERE] += len(found.images) - len(headers)
    others = [header for header in found.scouts if _uid(header) == uid]
    return FoundSeries(headers, +found.unused, others, frozenset(_listed(found.directories, uid)))


def unused_remarks(unused: Counter[str], used: int) -> tuple[str, ...]:
    """What was not used of a folder, in one sentence, if anything."""
    if not unused:
        return ()
    listed = ", ".join(f"{kind}: {count}" for kind, count in sorted(unused.items()))
    return (f"{used} files of its folder were used, {unused.total()} were not ({listed})",)


def numbering_remarks(found: FoundSeries, slices: list[Dataset]) -> tuple[str, ...]:
    """Slices that may be missing at an end, where their positions show nothing.

    slices: those used. Told by InstanceNumber, NumberOfSeriesRelatedInstances and a DICOMDIR.
    """
    return tuple(filter(None, (_gaps(found, slices), _fewer_than_known(found), _fewer_than_listed(found))))


def _gaps(found: FoundSeries, slices: list[Dataset]) -> str:
    own = [whole_of(header, "InstanceNumber") for header in slices]
    numbers = sorted(number for number in own if number is not None)
    if len(set(numbers)) < len(own):
        return ""
    said = [f"InstanceNumber begins at {numbers[0]}"] if numbers[0] > 1 else []
    taken = {*numbers, *(whole_of(header, "InstanceNumber") for header in found.others)}
    gaps = [number for number in range(numbers[0], numbers[-1]) if number not in taken]
    steps = {after - before for before, after in pairwise(numbers)}
    if gaps and len(steps) > 1:  # not say 1, 3, 5, 7
        shown = ", ".join(map(str, gaps[:5])) + (", ..." if len(gaps) > 5 else "")
        said.append(f"InstanceNumber leaves out {shown}")
    return f"{' and '.join(said)}: slices may be missing at an end of this CT" if said else ""


def _fewer_than_known(found: FoundSeries) -> str:
    here = len(found.headers) + len(found.others)
    known = max(
        (whole_of(header, "NumberOfSeriesRelatedInstances") or 0 for header in found.headers), default=0
    )
    return f"the series has {known} images by its own tags, {here} are here" if known > here else ""


def _fewer_than_listed(found: FoundSeries) -> str:
    here = {text_of(header, "SOPInstanceUID") for header in (*found.headers, *found.others)}
    gone = len(found.listed - here)
    return f"the DICOMDIR lists {gone} images of this series that are not here" if gone else ""


def _files(folder: Path) -> Iterator[Path]:
    """Every file below a folder, in the order of their paths. Links to folders are not followed."""
    count = 0
    for here, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(here) / name
            if path.is_file():
                yield path
                count += 1
        if count > MOST_FILES:
            raise InvalidRequest(
                f"{folder.name} holds more than {MOST_FILES} files: name the folder of one series"
            )


def _require_no_half_slice(header: Dataset) -> None:
    """Raise DamagedFile for what has no image, and may have been a slice: it says so, or not what it is."""
    said = text_of(header.file_meta, "MediaStorageSOPClassUID") or text_of(header, "SOPClassUID")
    said = said or CTImageStorage
    if said == CTImageStorage or (said not in UID_dictionary and "SeriesInstanceUID" not in header):
        raise DamagedFile(
            f"{name_of(header)} is a CT slice that ends within its header; copy the series again"
        )


def _require_no_lost_slice(found: _Sorted) -> None:
    """Raise DamagedFile for a file without content that is named as slices are."""
    shapes = {shape_of(name_of(header)) for header in found.images}
    for path in found.nothing:
        if path.suffix.lower() in SUFFIXES or shape_of(path.name) in shapes:
            what = "is empty" if path.stat().st_size == 0 else "holds no DICOM data"
            raise DamagedFile(
                f"{path.name} is named like a DICOM file and is none: it {what}; copy it again, or take it "
                "out of the folder"
            )


def shape_of(name: str) -> str:
    """`IM#` for IM000016 as for IM000001: files of one shape are named alike."""
    return re.sub(r"\d+", "#", name).lower()


def _refuse_without_images(folder: Path, found: _Sorted) -> None:
    if found.scouts:
        raise NotACT(
            f"{folder.name} holds {len(found.scouts)} localizer images (scout views) and no slices of a CT"
        )
    raise DamagedFile(f"{folder.name}: no DICOM image in this folder ({found.unused.total()} other files)")


def _require_one(headers: Iterable[Dataset], folder: Path) -> str:
    """The UID of the only series. Raises UnsupportedSeries, saying where the others are."""
    series: dict[str, list[Dataset]] = {}
    for header in headers:
        series.setdefault(_uid(header), []).append(header)
    if len(series) == 1:
        return next(iter(series))
    kinds = [(len(images), images[0]) for images in series.values()]
    listed = ", ".join(f"{count} {text_of(first, 'Modality') or 'unknown'} images" for count, first in kinds)
    places = [Path(first.filename).parent.relative_to(folder).as_posix() for _, first in kinds]
    text = f"the folder holds {len(series)} series ({listed}): keep one in it"
    if any(place != "." for place in places):
        described = [
            f"{place} ({_description(first)})" for place, (_, first) in zip(places, kinds, strict=True)
        ]
        more = "; ..." if len(described) > 8 else ""
        text += f", or name the folder of one: {'; '.join(described[:8])}{more}"
    raise UnsupportedSeries(text)


def _uid(header: Dataset) -> str:
    return text_of(header, "SeriesInstanceUID")


def _description(header: Dataset) -> str:
    return text_of(header, "SeriesDescription") or "no description"


def _listed(directories: list[Dataset], uid: str) -> Iterator[str]:
    """SOP instance UIDs of the images that a DICOMDIR has below a series."""
    for directory in directories:
        within = ""
        for record in items_of(directory, "DirectoryRecordSequence"):
            kind = text_of(record, "DirectoryRecordType")
            if kind == "SERIES":
                within = _uid(record)
            elif kind == "IMAGE" and within == uid:
                yield text_of(record, "ReferencedSOPInstanceUIDInFile")
