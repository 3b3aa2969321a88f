"""A folder of DICOM slices as one volume. pydicom reads the headers, ITK's GDCM the pixels.

DICOM counts in LPS mm. The volume's axes are (column, row, slice), slices ascending along the slice normal
row x column, as ITK and Slicer stack them; the affine leads to RAS mm.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import CTImageStorage

from lesionbrush.errors import DamagedFile, NotACT, UnsupportedSeries
from lesionbrush.itkio import LPS_TO_RAS
from lesionbrush.volume import Array, SourceHeader, Volume

_SHEAR_MM = 0.1
_SPACING_MM = 0.05
_SPACING_FRACTION = 0.01
_UNREADABLE = (OSError, EOFError, ValueError, LookupError, NotImplementedError, BytesLengthException)
_INT16 = np.iinfo(np.int16)
_DICOM_SUFFIXES = (".dcm", ".ima", ".dicom")
_TAGS = [
    "SeriesInstanceUID", "SeriesNumber", "Modality", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel",
    "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "SliceThickness",
]  # fmt: skip


def read_dicom_series(folder: Path) -> Volume:
    """The one CT series in a folder (not its sub-folders), as int16 HU with each slice's own rescale applied.

    Files that are no DICOM images are passed over. Geometry: DICOM PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1.

    Raises UnsupportedSeries (several series, gantry tilt, missing or double slices, slices that differ,
    colour, multi-frame), NotACT (another modality, values beyond int16), DamagedFile (an unreadable slice,
    or none at all).
    """
    slices = sorted_slices(folder)
    affine = series_affine(slices)
    return Volume(_hounsfield(slices), affine, SourceHeader(np.dtype(np.int16), affine))


def sorted_slices(folder: Path) -> list[pydicom.Dataset]:
    """Headers of the one CT series in a folder, ascending along the slice normal. Pixels are not looked at.

    They hold the tags needed here and, as `filename`, where the rest is. Raises as `read_dicom_series` does.
    """
    headers = _image_headers(folder)
    _require_one_ct_series(headers)
    for keyword, count, tolerance in (
        ("Rows", 1, 0), ("Columns", 1, 0), ("PixelSpacing", 2, 1e-4), ("ImageOrientationPatient", 6, 1e-4),
    ):  # fmt: skip
        _require_alike(headers, keyword, count, tolerance)
    normal = _slice_axes(headers[0])[2]
    headers.sort(key=lambda header: float(_position(header) @ normal))
    return headers


def series_affine(slices: list[pydicom.Dataset]) -> Array:
    """4x4, voxel index (column, row, slice) -> RAS mm, of sorted slices. Raises UnsupportedSeries."""
    return _affine(slices, _slice_axes(slices[0]))


def _image_headers(folder: Path) -> list[pydicom.Dataset]:
    headers = [_header(path) for path in sorted(folder.iterdir()) if path.is_file()]
    images = [header for header in headers if header is not None and "Rows" in header]
    if not images:
        raise DamagedFile(f"{folder.name}: no DICOM image in this folder ({len(headers)} other files)")
    return images


def _header(path: Path) -> pydicom.Dataset | None:
    """The tags needed here, or None for a file that does not claim to be a DICOM image."""
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
        header.decode()  # pydicom parses values when they are first asked for; damage shall show here
    except InvalidDicomError as error:
        if path.suffix.lower() not in _DICOM_SUFFIXES:
            return None
        raise DamagedFile(f"{path.name} is named like a DICOM file and is none; copy it again") from error
    except _UNREADABLE as error:
        kind = type(error).__name__
        raise DamagedFile(f"{path.name} is a damaged DICOM file ({kind}); copy it again") from error
    sop_class = header.file_meta.get("MediaStorageSOPClassUID", CTImageStorage)
    if "Rows" not in header and sop_class == CTImageStorage:
        raise DamagedFile(f"{path.name} is a CT slice that ends within its header; copy the series again")
    return header


def _require_one_ct_series(headers: list[pydicom.Dataset]) -> None:
    series = Counter(str(header.get("SeriesInstanceUID")) for header in headers)
    if len(series) > 1:
        kinds = {str(header.get("SeriesInstanceUID")): header.get("Modality") for header in headers}
        listed = ", ".join(f"{count} {kinds[uid]} images" for uid, count in series.items())
        raise UnsupportedSeries(f"the folder holds {len(series)} series ({listed}): keep one in it")
    for header in headers:
        _require_ct_slice(header)


def _require_ct_slice(header: pydicom.Dataset) -> None:
    if header.get("Modality") != "CT":
        raise NotACT(f"the series has modality {header.get('Modality')}, a CT is needed")
    if (header.get("SamplesPerPixel") or 1) != 1:
        samples = header.SamplesPerPixel
        raise UnsupportedSeries(f"{_name(header)} is a colour image ({samples} samples per pixel)")
    if (header.get("NumberOfFrames") or 1) != 1:
        raise UnsupportedSeries(
            f"{_name(header)} holds {header.NumberOfFrames} frames in one file: convert it to NIfTI first"
        )


def _require_alike(headers: list[pydicom.Dataset], keyword: str, count: int, tolerance: float) -> None:
    values = np.array([_numbers(header, keyword, count) for header in headers])
    off = np.abs(values - values[0]).max(axis=1)
    if off.max() > tolerance:
        other = int(off.argmax())
        raise UnsupportedSeries(
            f"{keyword} differs between slices: {_text(values[0])} in {_name(headers[0])}, "
            f"{_text(values[other])} in {_name(headers[other])}; put slices of one kind into a folder"
        )


def _slice_axes(header: pydicom.Dataset) -> Array:
    """(3, 3) unit vectors in LPS, one per row: along a row, along a column, slice normal."""
    along_row, along_column = _numbers(header, "ImageOrientationPatient", 6).reshape(2, 3)
    axes = np.array([along_row, along_column, np.cross(along_row, along_column)])
    if not np.allclose(axes @ axes.T, np.eye(3), atol=1e-3):
        found = np.round(axes[:2], 4).tolist()
        raise UnsupportedSeries(f"ImageOrientationPatient is no pair of perpendicular unit vectors: {found}")
    return axes


def _affine(headers: list[pydicom.Dataset], axes: Array) -> Array:
    positions = np.array([_position(header) for header in headers])
    between_rows_mm, between_columns_mm = _numbers(headers[0], "PixelSpacing", 2)
    spacing_mm = [between_columns_mm, between_rows_mm, _slice_spacing_mm(headers, positions, axes[2])]
    if min(spacing_mm) <= 0:
        raise UnsupportedSeries(f"the voxel spacing is {_text(np.array(spacing_mm))} mm: it must be positive")
    affine = np.eye(4)
    affine[:3, :3] = axes.T * spacing_mm
    affine[:3, 3] = positions[0]
    return LPS_TO_RAS @ affine


def _slice_spacing_mm(headers: list[pydicom.Dataset], positions: Array, normal: Array) -> float:
    if len(headers) == 1:
        return float(_numbers(headers[0], "SliceThickness", 1)[0])
    along_mm = positions @ normal
    _require_single(along_mm)
    _require_upright(positions - positions[0], normal)
    _require_even(along_mm)
    return float((along_mm[-1] - along_mm[0]) / (len(along_mm) - 1))


def _require_single(along_mm: Array) -> None:
    double = along_mm[1:][np.diff(along_mm) < _SPACING_MM]
    if double.size:
        raise UnsupportedSeries(
            f"{double.size} slice positions are taken twice (at {_listed(double)} mm along the slice "
            "normal): the folder holds several phases or copies; keep one"
        )


def _require_upright(offsets: Array, normal: Array) -> None:
    """No gantry tilt: slices are stacked along their own normal."""
    along_mm = offsets @ normal
    sideways_mm = np.linalg.norm(offsets - np.outer(along_mm, normal), axis=1)
    if sideways_mm.max() > _SHEAR_MM:
        worst = int(sideways_mm.argmax())
        degrees = np.degrees(np.arctan2(sideways_mm[worst], along_mm[worst]))
        raise UnsupportedSeries(
            f"the slices are shifted sideways by up to {sideways_mm[worst]:.2f} mm, as with a gantry tilt of "
            f"{degrees:.1f} degrees: correct the tilt first (for example with dcm2niix)"
        )


def _require_even(along_mm: Array) -> None:
    steps_mm = np.diff(along_mm)
    usual_mm = float(np.median(steps_mm))
    limit_mm = max(_SPACING_MM, _SPACING_FRACTION * usual_mm)
    odd = np.flatnonzero(np.abs(steps_mm - usual_mm) > limit_mm)
    if odd.size:
        gaps = ", ".join(f"{along_mm[k]:.2f} to {along_mm[k + 1]:.2f}" for k in odd[:3])
        raise UnsupportedSeries(
            f"the slices are not evenly spaced: usually {usual_mm:.3g} mm apart, but not from {gaps} mm "
            f"along the slice normal ({odd.size} such steps); slices may be missing, copy the series again"
        )
    drift_mm = np.abs(along_mm - np.linspace(along_mm[0], along_mm[-1], len(along_mm))).max()
    if drift_mm > limit_mm:
        raise UnsupportedSeries(
            f"the slices are not evenly spaced: from {steps_mm.min():.3g} to {steps_mm.max():.3g} mm apart, "
            f"{drift_mm:.2f} mm off a regular grid"
        )


def _hounsfield(headers: list[pydicom.Dataset]) -> Array:
    hu = np.empty((headers[0].Columns, headers[0].Rows, len(headers)), np.int16, order="F")
    for k, header in enumerate(headers):
        hu[:, :, k] = _slice_hu(Path(header.filename), hu.shape[:2])
    return hu


def _slice_hu(path: Path, shape: tuple[int, ...]) -> Array:
    try:
        image = sitk.ReadImage(str(path), sitk.sitkFloat32, "GDCMImageIO")  # applies this slice's rescale
    except RuntimeError as error:
        raise DamagedFile(f"{path.name}: its pixels cannot be read, the file is damaged") from error
    hu = np.rint(sitk.GetArrayFromImage(image)[0].T)
    if hu.shape != shape:
        raise DamagedFile(f"{path.name} holds {hu.shape} pixels, its header says {shape}")
    if hu.min() < _INT16.min or hu.max() > _INT16.max:
        raise NotACT(f"{path.name} holds values from {hu.min():g} to {hu.max():g}, beyond 16-bit HU")
    return hu


def _position(header: pydicom.Dataset) -> Array:
    return _numbers(header, "ImagePositionPatient", 3)


def _numbers(header: pydicom.Dataset, keyword: str, count: int) -> Array:
    try:
        values = np.array(header.get(keyword), np.float64).ravel()
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.size != count or not np.isfinite(values).all():
        raise UnsupportedSeries(f"{_name(header)} has no usable {keyword} ({count} numbers are needed)")
    return values


def _name(header: pydicom.Dataset) -> str:
    return Path(header.filename).name


def _text(values: Array) -> str:
    return " x ".join(f"{value:g}" for value in values)


def _listed(positions_mm: Array) -> str:
    shown = ", ".join(f"{position:.2f}" for position in positions_mm[:3])
    return shown + (", ..." if len(positions_mm) > 3 else "")
