"""Synthetic DICOM CT series, written slice by slice with pydicom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
Edit = Callable[[int, Dataset], None]


@dataclass(frozen=True)
class Series:
    """What to write. hu: (I, J, K); positions and orientation in LPS mm, as DICOM has them.

    slope: one for the series or one per slice; names: file names in slice order; edit(k, header) changes
    a slice before it is written.
    """

    hu: np.ndarray
    spacing_mm: tuple[float, float, float] = (0.7, 0.8, 2.5)
    orientation: tuple[float, ...] = AXIAL
    first_mm: tuple[float, float, float] = (-120.0, -95.0, 40.0)
    slope: float | Sequence[float] = 1.0
    intercept: float = -1024.0
    signed: bool = False
    names: Sequence[str] = ()
    edit: Edit = lambda k, header: None
    uid: str = field(default_factory=generate_uid)

    def normal(self) -> np.ndarray:
        return np.cross(self.orientation[:3], self.orientation[3:])

    def position_mm(self, k: int) -> list[float]:
        return (np.array(self.first_mm) + k * self.spacing_mm[2] * self.normal()).tolist()

    def world_mm(self, i: int, j: int, k: int) -> np.ndarray:
        """LPS mm of a voxel: DICOM PS3.3 equation C.7.6.2.1-1, column index i, row index j."""
        along_row, along_column = np.array(self.orientation).reshape(2, 3)
        in_plane = along_row * self.spacing_mm[0] * i + along_column * self.spacing_mm[1] * j
        return self.position_mm(k) + in_plane


def write_series(folder: Path, series: Series) -> list[Path]:
    """Write one file per slice; returns them in slice order."""
    folder.mkdir(parents=True, exist_ok=True)
    depth = series.hu.shape[2]
    slopes = np.broadcast_to(series.slope, depth)
    names = series.names or [f"slice{k:03d}.dcm" for k in range(depth)]
    paths = [folder / name for name in names]
    for k, path in enumerate(paths):
        header = _slice(series, k, float(slopes[k]))
        series.edit(k, header)
        header.save_as(path, write_like_original=False)
    return paths


def _slice(series: Series, k: int, slope: float) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    header.is_little_endian, header.is_implicit_VR = True, False
    header.SOPClassUID, header.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    header.Modality, header.SeriesInstanceUID, header.SeriesNumber = "CT", series.uid, 3
    header.InstanceNumber = k + 1
    header.ImagePositionPatient = series.position_mm(k)
    header.ImageOrientationPatient = list(series.orientation)
    header.PixelSpacing = [series.spacing_mm[1], series.spacing_mm[0]]
    header.SliceThickness = series.spacing_mm[2]
    _add_pixels(header, series, k, slope)
    return header


def _add_pixels(header: Dataset, series: Series, k: int, slope: float) -> None:
    stored = np.rint((series.hu[:, :, k].T - series.intercept) / slope)
    header.Rows, header.Columns = stored.shape
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 16, 15
    header.PixelRepresentation = int(series.signed)
    header.RescaleSlope, header.RescaleIntercept, header.RescaleType = slope, series.intercept, "HU"
    header.PixelData = stored.astype("<i2" if series.signed else "<u2").tobytes()


def write_numbers(header: Dataset, **values: str) -> None:
    """As they are, whether pydicom likes them or not."""
    for keyword, text in values.items():
        del header[keyword]
        element = DataElement(keyword, "LO", text)
        element.VR = "DS"
        header.add(element)
