"""A synthetic CT as a DICOM series of its own, beside the series it is made from.

Every slice is signed 16 bit with slope 1 and intercept 0, whatever the original had: each int16 HU has one
code, and no reader's arithmetic can round it. docs/dicom.md lists what is written into which tag, and why.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import format_number_as_ds

from lesionbrush.core.provenance import Provenance
from lesionbrush.core.volume import Array, Volume, require_ct
from lesionbrush.errors import DamagedFile, GeometryMismatch
from lesionbrush.files.dicom import series_affine
from lesionbrush.files.dicom.headers import UNREADABLE
from lesionbrush.files.dicom_export.attributes import EMPTY_IF_UNKNOWN, IDENTIFIED, ORIGINAL, TECHNICAL, keep
from lesionbrush.files.dicom_export.labels import (
    describe_image,
    name_copied_study,
    name_fresh_study,
    reference_original,
    text,
)
from lesionbrush.files.geometry import LPS_TO_RAS

_GRID_VOXELS = 0.01
_SHEAR = 1e-4
_NAMESPACE = uuid.UUID("6f5ab0f4-6a63-5c0b-9d7e-2f3b7d1f10c7")
_LARGEST_SERIES_NUMBER = 10_000_000
_PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")


@dataclass(frozen=True)
class Uids:
    """Where new UIDs come from.

    Without a key they are random (UUIDs), so that two exports of one CT are two series. With a key the same
    case gets the same UIDs each time: an archive then sees a repeated push as the one it already has.
    """

    key: str | None = None

    def new(self, *role: object) -> UID:
        """One UID. role: what it is for; without a key it does not matter."""
        if self.key is None:
            return generate_uid(prefix=None)
        return UID(f"2.25.{uuid.uuid5(_NAMESPACE, '|'.join(map(str, (self.key, *role)))).int}")


@dataclass(frozen=True)
class DicomOptions:
    """deidentify: a new study without person, place, day, and without a way back to the original series."""

    deidentify: bool = False
    uids: Uids = Uids()


@dataclass(frozen=True, eq=False)
class CtSeries:
    """headers: one per slice, without pixels; volume: int16 HU in the order a reader of the series gets."""

    headers: list[Dataset]
    volume: Volume

    @property
    def study_uid(self) -> str:
        return str(self.headers[0].StudyInstanceUID)

    @property
    def series_uid(self) -> str:
        return str(self.headers[0].SeriesInstanceUID)

    def write(self, folder: Path) -> list[Path]:
        """One file per slice, in order, into a folder that exists. Raises OSError."""
        paths = [folder / f"{k + 1:05d}.dcm" for k in range(len(self.headers))]
        for k, (header, path) in enumerate(zip(self.headers, paths, strict=True)):
            file = as_file(header)
            stored = np.ascontiguousarray(self.volume.array[:, :, k].T, "<i2")
            file.add_new("PixelData", "OW", stored.tobytes())
            file.save_as(path, write_like_original=False)
        return paths


@dataclass(frozen=True, eq=False)
class SyntheticSeries(CtSeries):
    """With the record of how it was made."""

    provenance: Provenance


def derive_series(
    synthetic: Volume,
    provenance: Provenance,
    slices: Sequence[Dataset] | None = None,
    options: DicomOptions | None = None,
) -> SyntheticSeries:
    """The series of a synthetic CT. slices: the original's (`read_slices`); None: it was no DICOM.

    Without slices, or de-identified, it starts a study of its own. A volume with left-handed axes, which
    DICOM cannot have, gets its slices in the opposite order; each voxel stays where it is in the patient.

    Raises GeometryMismatch (another grid than the slices, axes at an angle), NotACT, DamagedFile.
    """
    options = options or DicomOptions()
    volume = make_right_handed(require_ct(synthetic))
    if slices is not None:
        volume = _on_series_grid(volume, slices)
    originals = _plain(volume) if slices is None else read_originals(slices)
    fresh = slices is None or options.deidentify
    headers = [keep(o, TECHNICAL if options.deidentify else IDENTIFIED) for o in originals]
    _place(headers, volume)
    _join_study(headers, options.uids)
    if fresh:
        name_fresh_study(headers, provenance, options.deidentify)
    _name_series(headers, provenance, None if fresh else originals[0])
    series_uid = options.uids.new("series")
    for k, (header, original) in enumerate(zip(headers, originals, strict=True)):
        describe_image(header, original, provenance, anonymous=options.deidentify)
        header.SeriesInstanceUID, header.SOPInstanceUID = series_uid, options.uids.new("slice", k)
        _set_pixel_format(header, volume)
        _complete(header)
        if not fresh:
            reference_original(header, original)
    return SyntheticSeries(headers, volume, provenance)


def copy_series(ct: Volume, mark: str = "", uids: Uids | None = None) -> CtSeries:
    """A CT as it is, in a study of its own that says nothing of its patient.

    mark: `Provenance.mark` of one that was synthetic before; without it nothing says that it is.
    Raises GeometryMismatch (axes at an angle), NotACT.
    """
    uids, volume = uids or Uids(), make_right_handed(require_ct(ct))
    headers = _plain(volume)
    _join_study(headers, uids)
    name_copied_study(headers, mark)
    series_uid = uids.new("series")
    for k, header in enumerate(headers):
        header.SeriesNumber, header.InstanceNumber = 1, k + 1
        header.SeriesInstanceUID, header.SOPInstanceUID = series_uid, uids.new("slice", k)
        _set_pixel_format(header, volume)
        _complete(header)
    return CtSeries(headers, volume)


def make_right_handed(volume: Volume) -> Volume:
    """The same voxels in the same places, slices reversed where the axes would not suit DICOM."""
    if np.linalg.det(LPS_TO_RAS[:3, :3] @ volume.affine[:3, :3]) > 0:
        return volume
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, 2] * (volume.shape[2] - 1)
    affine[:3, 2] *= -1
    return Volume(volume.array[:, :, ::-1], affine)


def as_file(dataset: Dataset) -> FileDataset:
    """The dataset with what it takes to save it: explicit VR, little endian."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset("", Dataset(dataset), preamble=b"\0" * 128, file_meta=meta)
    file.is_little_endian, file.is_implicit_VR = True, False
    return file


def _on_series_grid(volume: Volume, slices: Sequence[Dataset]) -> Volume:
    """The volume with the geometry the slices state. Raises GeometryMismatch."""
    shape = (slices[0].Columns, slices[0].Rows, len(slices))
    grid = Volume(np.broadcast_to(np.int16(0), shape), series_affine([*slices]))
    grid.require_same_grid(volume, "synthetic CT", _GRID_VOXELS)
    return replace(volume, affine=grid.affine)


def read_originals(slices: Sequence[Dataset]) -> list[Dataset]:
    """What the files of the slices say, as far as it is valid and ever asked for. Raises DamagedFile."""
    originals = [_read_original(Path(header.filename)) for header in slices]
    known = Counter(original.get("SOPInstanceUID") for original in originals)
    for original in originals:
        if known[original.get("SOPInstanceUID")] > 1:
            original.pop("SOPInstanceUID", None)  # of two slices, it does not say which
    return originals


def _read_original(path: Path) -> Dataset:
    try:
        whole = pydicom.dcmread(path, stop_before_pixels=True, force=True)
    except UNREADABLE as error:
        kind = type(error).__name__
        raise DamagedFile(f"{path.name} is a damaged DICOM file ({kind}); copy it again") from error
    if "Rows" not in whole:  # it had them when the series was read
        raise DamagedFile(f"{path.name} ends within its header; copy the series again")
    return keep(whole, ORIGINAL)


def _place(headers: list[Dataset], volume: Volume) -> None:
    """Where the slices are, in the original's words, or where those are invalid, as they were understood."""
    if all(keyword in header for header in headers for keyword in _PLACE):
        return
    for header, plain in zip(headers, _plain(volume), strict=True):
        for keyword in _PLACE:
            header.setdefault(keyword, plain[keyword])


def _plain(volume: Volume) -> list[Dataset]:
    """What a CT that was no DICOM says about its slices: where they are."""
    affine = LPS_TO_RAS @ volume.affine
    axes = affine[:3, :3] / volume.spacing_mm
    if not np.allclose(axes.T @ axes, np.eye(3), atol=_SHEAR):
        raise GeometryMismatch("the axes of this CT are not perpendicular: a DICOM series cannot hold it")
    along_i_mm, along_j_mm, along_k_mm = volume.spacing_mm
    headers = []
    for k in range(volume.shape[2]):
        header = Dataset()
        header.ImagePositionPatient = _decimals(affine[:3, 3] + k * affine[:3, 2])
        header.ImageOrientationPatient = _decimals(axes[:, :2].T.ravel())
        header.PixelSpacing = _decimals(np.array([along_j_mm, along_i_mm]))
        header.SliceThickness = _decimals(np.array([along_k_mm]))[0]
        headers.append(header)
    return headers


def _decimals(values: Array) -> list[str]:
    """Numbers as DICOM's decimal strings of 16 characters."""
    return [format_number_as_ds(float(value) + 0.0) for value in values]


def _join_study(headers: list[Dataset], uids: Uids) -> None:
    """One study, one frame of reference: the original's where it is kept and known, else new ones."""
    study = _find_value(headers, "StudyInstanceUID") or uids.new("study")
    frame = _find_value(headers, "FrameOfReferenceUID") or uids.new("frame of reference")
    for header in headers:
        header.StudyInstanceUID, header.FrameOfReferenceUID = study, frame


def _find_value(headers: list[Dataset], keyword: str) -> str | None:
    return next((header[keyword].value for header in headers if keyword in header), None)


def _name_series(headers: list[Dataset], provenance: Provenance, original: Dataset | None) -> None:
    """Number and description. original: None in a fresh study, which keeps nothing of the old name."""
    number, name = 1, f"{provenance.mark} {provenance.model}"
    if original is not None:
        number = 100 * min(abs(original.get("SeriesNumber", 0)), _LARGEST_SERIES_NUMBER) + 1
        name = f"{name}: {original.get('SeriesDescription', '')}".removesuffix(": ")
    numbers = [header.get("InstanceNumber") for header in headers]
    numbered = None not in numbers and len(set(numbers)) == len(numbers)
    for k, header in enumerate(headers):
        header.SeriesNumber, header.SeriesDescription = number, text(name, 64)
        if not numbered:
            header.InstanceNumber = k + 1


def _set_pixel_format(header: Dataset, volume: Volume) -> None:
    header.SOPClassUID, header.Modality = CTImageStorage, "CT"
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.Columns, header.Rows = volume.shape[:2]
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 1
    header.RescaleIntercept, header.RescaleSlope, header.RescaleType = "0", "1", "HU"


def _complete(header: Dataset) -> None:
    """With what the standard wants there, though it be empty."""
    sides = () if "BodyPartExamined" in header else ("Laterality",)  # an unknown part may be one of a pair
    for keyword in (*EMPTY_IF_UNKNOWN, *sides):
        if keyword not in header:
            setattr(header, keyword, None)
