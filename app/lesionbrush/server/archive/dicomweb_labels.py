"""A lesion back from its archive: the DICOM SEG of a CT series becomes the label file on the CT's grid."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from lesionbrush.files.dicom import read_slices
from lesionbrush.files.dicom_export.seg import read_seg
from lesionbrush.files.io import read_volume, write_volume
from lesionbrush.server.archive.dicomweb import Archive, save
from lesionbrush.server.doors.limits import SizeLimits
from lesionbrush.server.errors import NotInArchive, TooLarge


def newest_seg(archive: Archive, study: str, series: str, folder: Path) -> Path | None:
    """The SEG of a study that was made last for this CT series, as a file in `folder`.

    None where there is none. Raises TooLarge, DamagedFile, and what `Archive` raises.
    """
    found = [path for path in _receive(archive, study, folder) if _refers_to(path, series)]
    return max(found, key=_read_moment, default=None)


def write_label(seg: Path, ct: Path, slices: Path, label: Path) -> None:
    """The segments of a SEG as a volume file: 0, and the number of each segment.

    ct: the volume file of the series; slices: folder with the headers of its slices. Raises DamagedFile where
    segments overlap or are no masks, and what reading and writing volumes raises.
    """
    named = ["SeriesInstanceUID", "SOPInstanceUID"]
    files = [one.filename for one in read_slices(slices)]
    headers: list[Dataset] = [pydicom.dcmread(file, specific_tags=named) for file in files]
    write_volume(read_seg(seg, read_volume(ct), headers), label)


def _receive(archive: Archive, study: str, folder: Path) -> Iterator[Path]:
    size, most_bytes = 0, SizeLimits.current().unpacked_bytes
    for series in archive.find_seg(study):
        try:
            for instance in archive.retrieve(study, series):
                path = folder / f"{len(list(folder.iterdir())):05d}.dcm"
                save(instance, path)
                size += path.stat().st_size
                if size > most_bytes:
                    raise TooLarge(f"the study's segmentations are larger than {most_bytes / 1e9:.1f} GB")
                yield path
        except NotInArchive:  # it went since it was listed
            continue


def _refers_to(path: Path, series: str) -> bool:
    header = pydicom.dcmread(path, specific_tags=["ReferencedSeriesSequence"])
    return any(
        item.get("SeriesInstanceUID") == series for item in header.get("ReferencedSeriesSequence") or ()
    )


def _read_moment(path: Path) -> tuple[str, str, str]:
    """Date, time and UID, to order by."""
    keywords = ["ContentDate", "ContentTime", "SOPInstanceUID"]
    header = pydicom.dcmread(path, specific_tags=keywords)
    date, time, uid = (str(header.get(keyword) or "") for keyword in keywords)
    return date, time, uid
