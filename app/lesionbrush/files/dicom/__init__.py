"""A folder of DICOM slices as one volume.

`series` says which files are the slices, `values` what their stored values mean, `grid` where they lie;
`pixels` unpacks them. pydicom reads tags and plain pixels, ITK's GDCM the compressed ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from lesionbrush.core.provenance import MARK_GENERATED, as_note
from lesionbrush.core.volume import Array, SourceHeader, Volume
from lesionbrush.errors import DamagedFile
from lesionbrush.files.dicom.grid import (
    group_by_place,
    refuse_doubles,
    series_affine,
    sort_slices,
    step_remark,
)
from lesionbrush.files.dicom.headers import SYNTHETIC_DATA, text_of
from lesionbrush.files.dicom.kinds import is_lossy, require_hu
from lesionbrush.files.dicom.pixels import slice_hu
from lesionbrush.files.dicom.series import COPY, FoundSeries, find_series, numbering_remarks, unused_remarks
from lesionbrush.files.dicom.values import AIR_HU, read_stored_values

_WITH_NUMBERS = ("RescaleSlope", "RescaleIntercept", "PixelSpacing", "ImagePositionPatient")


@dataclass(frozen=True, eq=False)
class Slices:
    """headers: of the slices of a series, ascending along the slice normal; remarks: on its files."""

    headers: list[Dataset]
    remarks: tuple[str, ...]


def read_dicom_series(folder: Path) -> Volume:
    """The one CT series in a folder, (column, row, slice) int16 HU with each slice's own rescale applied.

    `source.remarks` says which files were not used, and where slices may be missing.

    Raises UnsupportedSeries (several series, gantry tilt, missing slices, several images at one place, slices
    that differ, colour, multi-frame), NotACT (another modality or unit, HU that the file does not say, values
    beyond int16), DamagedFile (an unreadable slice, or none at all).
    """
    slices = find_slices(folder)
    affine = series_affine(slices.headers)
    array, padded = _hounsfield(slices.headers)
    remarks = slices.remarks
    if padded:
        remarks += (f"{padded} padding pixels lie beyond 16-bit HU and were read as {AIR_HU} HU",)
    note = _note(slices.headers[0])
    return Volume(array, affine, SourceHeader(np.dtype(np.int16), affine, remarks=remarks, note=note))


def _note(header: Dataset) -> str:
    """How a series says that it is synthetic, without what follows of the original's description."""
    described = as_note(text_of(header, "SeriesDescription")).partition(": ")[0]
    said = [described, as_note(text_of(header, "ImageComments"))]
    if text_of(header, SYNTHETIC_DATA).upper() == "YES":
        said.append("SYNTHETIC, as Synthetic Data (0008,001C) says")
    return max(said, key=lambda text: (text.startswith(MARK_GENERATED), text != ""))


def read_slices(folder: Path) -> list[Dataset]:
    """Headers of the one CT series in a folder, ascending along the slice normal.

    They hold the tags needed here and, as `filename`, where the rest is. Raises as `read_dicom_series` does.
    """
    return find_slices(folder).headers


def find_slices(folder: Path) -> Slices:
    """The slices of the one CT series in a folder, copies left out, and what there is to say of its files.

    Raises as `read_dicom_series` does. Pixels are looked at only where two images lie at one place.
    """
    found = find_series(folder)
    for header in found.headers:
        require_hu(header)
        read_stored_values(header)
    groups = group_by_place(sort_slices(found.headers))
    refuse_doubles([group for group in groups if len(group) > 1 and not _are_copies(group)])
    headers = [group[0] for group in groups]
    found.unused[COPY] += len(found.headers) - len(headers)
    return Slices(headers, tuple(_remarks(found, headers)))


def _remarks(found: FoundSeries, headers: list[Dataset]) -> Iterator[str]:
    yield from unused_remarks(+found.unused, len(headers))
    yield from numbering_remarks(found, headers)
    yield from filter(None, [step_remark(headers)])
    lossy = sum(is_lossy(header) for header in headers)
    if lossy:
        yield f"{lossy} slices were compressed with loss: their HU are those of the compression"
    rounded = [header for header in headers if not read_stored_values(header).gives_whole_hu]
    if rounded:
        slope, intercept = (text_of(rounded[0], f"Rescale{name}") for name in ("Slope", "Intercept"))
        yield f"HU were rounded to whole numbers (RescaleSlope {slope}, RescaleIntercept {intercept})"
    for keyword in _WITH_NUMBERS:
        said = next((text for text in (text_of(header, keyword) for header in headers) if "," in text), None)
        if said is not None:
            yield f"{keyword} {said} has decimal commas, which were read as points"


def _are_copies(group: list[Dataset]) -> bool:
    """Whether images at one place are the same in every HU; without pixels, the same files."""
    try:
        first, *others = (slice_hu(header)[0] for header in group)
    except DamagedFile:
        return len({Path(header.filename).read_bytes() for header in group}) == 1
    return all(np.array_equal(first, other) for other in others)


def _hounsfield(headers: list[Dataset]) -> tuple[Array, int]:
    meaning = read_stored_values(headers[0])
    shape = (meaning.columns, meaning.rows, len(headers))
    hu = np.empty(shape, np.int16, order="F")
    beyond = 0
    for k, header in enumerate(headers):
        hu[:, :, k], padded = slice_hu(header)
        beyond += padded
    return hu, beyond
