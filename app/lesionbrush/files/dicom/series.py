"""Which images of a folder are the slices of its one CT series, and what there is to say of all others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset

from lesionbrush.errors import DamagedFile, NotACT, UnsupportedSeries
from lesionbrush.files.dicom.contents import Contents
from lesionbrush.files.dicom.headers import items_of, name_of, text_of, whole_of

ELSEWHERE, COPY = "images of other series in sub-folders", "copies of slices"
_ONE_OF_EACH = (
    "PatientID", "PatientName", "StudyInstanceUID", "SeriesNumber", "FrameOfReferenceUID", "PatientPosition",
    "KVP", "ConvolutionKernel",
)  # fmt: skip
"""What all slices of a CT share, as far as they say it."""
_WHOSE = ("PatientID", "PatientName")
"""Here, to say nothing in a part of the slices is to say something else."""
_MADE_UP_EACH = ("StudyInstanceUID", "FrameOfReferenceUID")
"""Some programs give every slice one of its own, which tells nothing."""


@dataclass(frozen=True, eq=False)
class FoundSeries:
    """headers: of the images of one series, in no order; unused: how many files of which kind are not used.

    others: localizers within the series; listed: SOP instance UIDs that a DICOMDIR names for it.
    """

    headers: list[Dataset]
    unused: Counter[str]
    others: list[Dataset] = field(default_factory=list)
    listed: frozenset[str] = frozenset()


def find_series(folder: Path) -> FoundSeries:
    """The images of the one series in a folder.

    Images in the folder itself decide which series it is; where there are none, those in its sub-folders.
    Raises UnsupportedSeries (several series or patients), DamagedFile (no image, and as `Contents.of`),
    NotACT (localizers alone), InvalidRequest (too many files to be a series).
    """
    found = Contents.of(folder)
    if not found.images:
        _refuse_without_images(folder, found)
    here = [header for header in found.images if Path(header.filename).parent == folder]
    uid = _require_one(here or found.images, folder)
    headers = [header for header in found.images if _uid(header) == uid]
    _require_one_patient(headers)
    found.unused[ELSEWHERE] += len(found.images) - len(headers)
    others = [header for header in found.scouts if _uid(header) == uid]
    return FoundSeries(headers, +found.unused, others, frozenset(_list_uids(found.directories, uid)))


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
    if len(numbers) < len(own):
        return ""
    if len(set(numbers)) < len(numbers):
        return "InstanceNumber is given to several slices: the folder may hold several stacks of images"
    said = [f"InstanceNumber begins at {numbers[0]}"] if numbers[0] > 1 else []
    taken = {*numbers, *(whole_of(header, "InstanceNumber") for header in found.others)}
    gaps = [number for number in range(numbers[0], numbers[-1]) if number not in taken]
    if gaps:
        shown = ", ".join(map(str, gaps[:5])) + (", ..." if len(gaps) > 5 else "")
        said.append(f"InstanceNumber leaves out {shown}")
    return f"{' and '.join(said)}: slices may be missing, at an end of this CT too" if said else ""


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


def _require_one_patient(headers: list[Dataset]) -> None:
    """One series UID may be given twice, or to nobody. The values are not repeated: they name a patient."""
    for keyword in _ONE_OF_EACH:
        said = [(_quote(header, keyword), header) for header in headers]
        if keyword not in _WHOSE:
            said = [(value, header) for value, header in said if value]
        if keyword in _MADE_UP_EACH and len({value for value, _ in said}) == len(headers) > 2:
            continue
        other = next((header for value, header in said if value != said[0][0]), None)
        if other is not None:
            raise UnsupportedSeries(
                f"{keyword} differs between slices, as {name_of(said[0][1])} and {name_of(other)}: put "
                "slices of one kind into a folder"
            )


def _quote(header: Dataset, keyword: str) -> str:
    """As it stands; `120` for 120.0 kV."""
    volts = whole_of(header, keyword) if keyword == "KVP" else None
    return text_of(header, keyword) if volts is None else str(volts)


def _refuse_without_images(folder: Path, found: Contents) -> None:
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


def _list_uids(directories: list[Dataset], uid: str) -> Iterator[str]:
    """SOP instance UIDs of the images that a DICOMDIR has below a series."""
    for directory in directories:
        within = ""
        for record in items_of(directory, "DirectoryRecordSequence"):
            kind = text_of(record, "DirectoryRecordType")
            if kind == "SERIES":
                within = _uid(record)
            elif kind == "IMAGE" and within == uid:
                yield text_of(record, "ReferencedSOPInstanceUIDInFile")
