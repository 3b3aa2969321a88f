"""Volumes from and to files. Only this file and `nifti`, `itk` and `dicom` below it know formats.

Nothing is reoriented: voxels stay in stored order, (I, J, K), and affines lead to RAS mm.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from lesionbrush.core.volume import Array, Volume
from lesionbrush.errors import DamagedFile, InvalidRequest, NotACT
from lesionbrush.files.dicom import read_dicom_series
from lesionbrush.files.dicom.headers import START_BYTES, is_dicom
from lesionbrush.files.durable import whole_files
from lesionbrush.files.geometry import require_perpendicular
from lesionbrush.files.itk import read_metaimage, read_nrrd, write_itk
from lesionbrush.files.nifti import read_nifti, write_nifti

__all__ = ["read_dicom_series", "read_volume", "write_volume"]

_UNREADABLE = (
    OSError, EOFError, ValueError, OverflowError, RuntimeError, zlib.error,
    HeaderDataError, ImageFileError, WrapStructError,
)  # fmt: skip
_FINEST_MM, _COARSEST_MM = 1e-4, 1e4


class _Format(NamedTuple):
    suffix: str
    read: Callable[[Path], Volume]
    write: Callable[[Volume, Path, str], None] | None


def read_volume(path: Path) -> Volume:
    """One scalar 3-D volume from a file, or from a folder that holds one DICOM series.

    array: stored voxels, with the scale factors of the file applied; integers stay integers.

    Raises DamagedFile (missing, truncated, misnamed, unknown suffix, two geometries), NotACT (2-D, 4-D,
    colour), UnsupportedSeries (axes at an angle), and for a folder what `read_dicom_series` raises.
    """
    volume = read_dicom_series(path) if path.is_dir() else _read_file(path)
    if (
        not np.isfinite(volume.affine).all()
        or not _is_spacing(volume.spacing_mm)
        or not volume.voxel_volume_mm3
    ):
        raise DamagedFile(f"{path.name} has no usable geometry: its spacing is {volume.spacing_mm} mm")
    require_perpendicular(path.name, volume)
    return volume


def _is_spacing(spacing_mm: tuple[float, float, float]) -> bool:
    """Wider than that no scanner looks, and finer neither: such numbers are damage."""
    return min(spacing_mm) >= _FINEST_MM and max(spacing_mm) <= _COARSEST_MM


def _read_file(path: Path) -> Volume:
    if not path.is_file():
        raise DamagedFile(f"{path.name}: there is no such file")
    with _naming(path):
        _require_no_single_slice(path)
        read = _format(path).read
        return read(path)


def write_volume(volume: Volume, path: Path, note: str = "", *, lasting: bool = True) -> None:
    """Write whole numbers (HU, or a uint8 mask) to .nii, .nii.gz, .nrrd or .mha, all or nothing.

    Geometry and pixel type are those of `volume.source` while its grid and range hold, else the affine and
    int16. `note` goes into NIfTI's descrip (its first 80 bytes) or the metadata key `lesionbrush_note`; by
    default it is the source's, so that what says it is synthetic says so in the next format as well.
    `lasting`: see `whole_files`; an answer that goes once it is sent need not be.

    Raises StorageFull (disk or quota), InvalidRequest (another suffix), TypeError (no whole numbers).
    Whatever fails, the file at `path` is then the one that was there before.
    """
    require_writable(path)
    stored = replace(volume, array=_as_stored(volume))
    with whole_files(path, needs=f"{stored.array.nbytes / 1e6:.1f} MB", lasting=lasting) as (draft,):
        write_stored(stored, draft, note)


def write_stored(volume: Volume, path: Path, note: str = "") -> None:
    """As `write_volume`, in the pixel type of the array, and not all or nothing."""
    write = require_writable(path)
    write(volume, path, note or volume.note)


def require_writable(path: Path) -> Callable[[Volume, Path, str], None]:
    """How a file of this name is written. InvalidRequest for one that is not."""
    target = _format(path, InvalidRequest)
    if target.write is None:
        raise InvalidRequest(f"{target.suffix} is a pair of files, this writes one: choose .nrrd or .mha")
    return target.write


def _require_no_single_slice(path: Path) -> None:
    """A slice, or a DICOM segmentation, picked instead of its folder, or of a volume."""
    with path.open("rb") as stream:
        if is_dicom(stream.read(START_BYTES)):
            raise DamagedFile(
                f"{path.name} is a single DICOM file: name the folder of its series; a segmentation or image "
                "of several frames has to be saved as NRRD or NIfTI first"
            )


def _format(path: Path, error: type[DamagedFile] | type[InvalidRequest] = DamagedFile) -> _Format:
    for candidate in _FORMATS:
        if path.name.lower().endswith(candidate.suffix):
            return candidate
    known = ", ".join(candidate.suffix for candidate in _FORMATS)
    raise error(f"{path.name}: unknown file type. Known are {known}, and a folder with one DICOM series")


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the file, and turn what readers raise into DamagedFile.

    Without its folder: that is often named after the patient.
    """
    try:
        yield
    except (NotACT, DamagedFile) as error:
        if str(error).startswith(path.name):
            raise
        raise type(error)(f"{path.name}: {error}") from error
    except _UNREADABLE as error:
        text = str(error).replace(str(path), path.name).replace(str(path.parent) + os.sep, "")
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("Reason:")]
        reason = re.sub(r".*\(0x\w+\): ", "", lines[-1]) if lines else type(error).__name__
        raise DamagedFile(f"{path.name} cannot be read, it is damaged or misnamed: {reason}") from error


def _as_stored(volume: Volume) -> Array:
    """The voxels in the source's pixel type when it is wide enough, else int16; an 8-bit mask stays one."""
    array = volume.array
    if array.dtype.kind not in "biu":
        raise TypeError(f"a written volume holds whole numbers, not {array.dtype}: round it first")
    if array.dtype.itemsize == 1:
        return array.view(np.uint8) if array.dtype == bool else array
    wanted = volume.source.dtype if volume.source and volume.source.dtype.kind in "iu" else np.dtype(np.int16)
    low, high = int(array.min()), int(array.max())
    for dtype in (wanted, np.dtype(np.int16)):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return array.astype(dtype, copy=False)
    return array


_FORMATS = (
    _Format(".nii.gz", read_nifti, write_nifti),
    _Format(".nii", read_nifti, write_nifti),
    _Format(".nrrd", read_nrrd, write_itk),
    _Format(".nhdr", read_nrrd, None),
    _Format(".mha", read_metaimage, write_itk),
    _Format(".mhd", read_metaimage, None),
)
