"""NIfTI volumes, by nibabel. Voxels in stored order; the affine leads to RAS mm."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.fileholders import FileHolder
from nibabel.quaternions import mat2quat, quat2mat

from lesionbrush.core.provenance import as_note
from lesionbrush.core.volume import Array, SourceHeader, Volume, require_3d
from lesionbrush.errors import DamagedFile
from lesionbrush.files.geometry import LPS_TO_RAS, require_agreement, require_perpendicular
from lesionbrush.files.itk import require_plausible_size

_CHUNK_BYTES = 1 << 16
_PIECE_BYTES = 1 << 20
_MM_PER_UNIT = {1: 1000.0, 2: 1.0, 3: 0.001}  # NIfTI codes: metre, millimetre, micrometre
_QUATERNION_ROUNDING = 0.01  # of the squared length beyond 1
_HALF_TURN = 1e-7  # of w squared, as in ITK
_FLOAT32 = 4e-7  # what rounding makes of it
_CODES = range(6)
_HEADER_BYTES = {348: 352, 540: 544}  # where voxels begin at the earliest, by what the header says it is long
_REMEDY = (
    "Keep the right one: in Python, with nibabel, image.set_qform(image.get_sform(), code=1) or "
    "image.set_sform(image.get_qform(), code=1), then save; or open it in 3D Slicer, which takes one, and "
    "save it as .nrrd. Do the same with its masks"
)
_AXES_UNKNOWN = "its header does not say which way the axes lead (both codes are 0): taken as 3D Slicer does"


def _unit_quaternion(header: nib.Nifti1Header) -> Array:
    """(w, x, y, z) in float64, as ITK makes it: for a half turn, rounding may make the stored part too long.

    Raises ValueError for what is no rotation.
    """
    part, rest = _quaternion(header)
    if rest < _HALF_TURN:
        return np.array([0.0, *(part / np.linalg.norm(part))])
    return np.array([np.sqrt(rest), *part])


def _quaternion(header: nib.Nifti1Header) -> tuple[Array, float]:
    """(3,) the stored part, and the square of what is not stored. ValueError for what is no rotation."""
    part = np.array([header[f"quatern_{axis}"] for axis in "bcd"], np.float64)
    rest = 1.0 - float(part @ part)
    if not rest > -_QUATERNION_ROUNDING:
        raise ValueError(f"its qform is no rotation: the quaternion {part.tolist()} is longer than 1")
    return part, rest


class _Nifti1Header(nib.Nifti1Header):
    get_qform_quaternion = _unit_quaternion


class _Nifti2Header(nib.Nifti2Header):
    get_qform_quaternion = _unit_quaternion


class _Nifti1Image(nib.Nifti1Image):
    header_class = _Nifti1Header


class _Nifti2Image(nib.Nifti2Image):
    header_class = _Nifti2Header


@dataclass(frozen=True, eq=False)
class NiftiSource(SourceHeader):
    """The NIfTI header as it was, without extensions: those may hold the DICOM header of the patient."""

    header: nib.Nifti1Header


def read_nifti(path: Path) -> Volume:
    """A .nii or .nii.gz file, scale factors applied.

    Raises as nibabel and zlib do, NotACT, ValueError, UnsupportedSeries (sheared), DamagedFile where sform,
    qform and pixdim describe different geometries.
    """
    opener: Callable[..., Any] = gzip.open if path.name.lower().endswith(".gz") else open
    with opener(path, "rb") as stream:
        kind = _nifti_class(stream)
        pixdim = _read_lengths(kind.header_class.from_fileobj(stream, check=False))
        stream.seek(0)
        image = kind.from_file_map({"image": FileHolder(fileobj=stream)}, mmap=False)
        shape = _without_unit_axes(image.shape)
        require_3d(shape, len(image.get_data_dtype().fields or "1"))
        require_plausible_size(math.prod(shape), path)
        stored = _voxels(stream, image.dataobj.offset, image.get_data_dtype(), shape)
        _require_end(stream, stored)
    native = stored.astype(stored.dtype.newbyteorder("="), copy=False)
    image.header.extensions.clear()
    affine = _nifti_affine(image.header)
    array = _scale(native, image.dataobj.slope, image.dataobj.inter)
    stated = image.header["sform_code"] > 0 or image.header["qform_code"] > 0
    remarks = () if stated else (_AXES_UNKNOWN,)
    note = as_note(image.header["descrip"].item().decode("ascii", "replace"))
    source = NiftiSource(native.dtype, affine, _plain(image.header), remarks=remarks, note=note)
    volume = Volume(array, affine, source)
    _require_one_geometry(path.name, volume, image.header, pixdim)
    return volume


def _voxels(stream: Any, offset: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """As nibabel reads them, but in pieces: it keeps all other threads waiting for a tenth of a second."""
    array = np.empty(shape, dtype, order="F")
    raw = array.reshape(-1, order="F").view(np.uint8)
    stream.seek(offset)
    begin = 0
    while begin < raw.size:
        count = stream.readinto(raw[begin : begin + _PIECE_BYTES].data)
        if not count:
            raise OSError(f"the file ends after {begin} of {raw.size} bytes of voxels")
        begin += count
    return array


def _read_lengths(header: nib.Nifti1Header) -> Array:
    """(3,) pixdim as it stands in the file, before nibabel mends it. Raises ValueError for other oddities."""
    for form in ("sform_code", "qform_code"):
        if int(header[form]) not in _CODES:
            raise ValueError(f"its {form} is {int(header[form])}; the standard has 0 to 5")
    earliest = _HEADER_BYTES.get(int(header["sizeof_hdr"]), 0)
    if header["vox_offset"] < earliest:
        raise ValueError(f"its voxels begin at byte {float(header['vox_offset']):g}, within the header")
    return np.array(header["pixdim"][1:4], np.float64)


def _require_end(stream: Any, voxels: Array) -> None:
    """Raise ValueError where a whole slice or more follows: the header tells of fewer voxels than there are.

    Reads on to the very end, where gzip compares its checksum.
    """
    more = 0
    while chunk := stream.read(_CHUNK_BYTES):
        more += len(chunk)
    if more >= max(math.prod(voxels.shape[:2]) * voxels.itemsize, 1):
        raise ValueError(f"{more} bytes follow the {voxels.nbytes} of the voxels that its header tells of")


def _nifti_class(stream: Any) -> type[nib.Nifti1Image]:
    start = stream.read(8)
    stream.seek(0)
    return _Nifti2Image if start[4:7] == b"n+2" else _Nifti1Image


def _without_unit_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(I, J, K, 1, 1) is one volume."""
    trailing = [length for length in shape[3:] if length != 1]
    return shape if trailing else shape[:3]


def _scale(stored: Array, slope: float, intercept: float) -> Array:
    if (slope, intercept) == (1, 0):
        return stored
    scaled = stored.astype(np.result_type(stored, np.float32))  # exact for 16-bit integers and whole factors
    scaled *= slope
    scaled += intercept
    return scaled


def _nifti_affine(header: nib.Nifti1Header) -> Array:
    """In mm: sform if coded, else qform, else what ITK (and Slicer) assume, LPS axes from the origin."""
    if header["sform_code"] > 0 or header["qform_code"] > 0:
        affine = header.get_best_affine()
    else:
        affine = LPS_TO_RAS @ np.diag([*header.get_zooms()[:3], 1.0])
    return _to_mm(header) @ affine


def _plain(header: nib.Nifti1Header) -> nib.Nifti1Header:
    """The same bytes as nibabel's own class, which it writes without a conversion."""
    kind = nib.Nifti2Header if isinstance(header, nib.Nifti2Header) else nib.Nifti1Header
    return kind(header.binaryblock, header.endianness, check=False)


def _to_mm(header: nib.Nifti1Header) -> Array:
    mm = _MM_PER_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)
    return np.diag([mm, mm, mm, 1.0])


def _require_one_geometry(name: str, volume: Volume, header: nib.Nifti1Header, pixdim: Array) -> None:
    """sform, qform and pixdim state the geometry, or a part of it: what is stated has to agree."""
    if not (np.isfinite(pixdim).all() and (pixdim > 0).all()):
        listed = " x ".join(f"{length:g}" for length in pixdim)
        raise DamagedFile(
            f"{name} has no usable geometry: its header says that voxels are {listed} long (pixdim), and "
            "programs differ in what they make of it. Write the right lengths into it, or save it anew"
        )
    if not (np.isfinite(volume.affine).all() and volume.voxel_volume_mm3 > 0):
        return  # refused with all other formats
    require_perpendicular(name, volume)
    if header["sform_code"] <= 0:
        return
    sform = f"sform (code {int(header['sform_code'])})"
    if header["qform_code"] > 0:
        qform = f"qform (code {int(header['qform_code'])})"
        require_agreement(name, volume, _qform_nearest(header, volume), (sform, qform), _REMEDY)
    scaled = volume.affine.copy()
    scaled[:3, :3] *= pixdim * _to_mm(header)[0, 0] / volume.spacing_mm
    require_agreement(name, volume, scaled, (sform, "pixdim, as ITK and 3D Slicer use it"), _REMEDY)


def _qform_nearest(header: nib.Nifti1Header, volume: Volume) -> Array:
    """4x4, to mm: of all qforms that have these float32 numbers, the one nearest to the volume's affine.

    Near a half turn they tell the angle to a tenth of a degree only. NaN where the quaternion is none.
    """
    try:
        part, rest = _quaternion(header)
    except ValueError:
        return np.full((4, 4), np.nan)
    axes = volume.affine[:3, :3] / volume.spacing_mm
    w, *own = mat2quat(axes * [1, 1, np.sign(np.linalg.det(axes))])
    w = w if part @ own >= 0 else -w
    low, high = np.sqrt(max(rest - _FLOAT32, 0.0)), np.sqrt(max(rest + _FLOAT32, 0.0))
    qfac = -1 if header["pixdim"][0] < 0 else 1
    affine = np.eye(4)
    affine[:3, :3] = quat2mat([np.copysign(np.clip(abs(w), low, high), w), *part])
    affine[:3, :3] *= np.array(header["pixdim"][1:4], np.float64) * [1, 1, qfac]
    affine[:3, 3] = [header[f"qoffset_{axis}"] for axis in "xyz"]
    return _to_mm(header) @ affine


def write_nifti(volume: Volume, path: Path, note: str) -> None:
    """Write in the pixel type of the array, with the source's header while the grid is still its own."""
    header = _nifti_header(volume)
    header.set_data_dtype(volume.array.dtype)
    if note:
        header["descrip"] = note.encode()[:80].decode(errors="ignore").encode()
    image_class = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    image_class(volume.array, None, header).to_filename(path)  # nibabel's gzip level is 1, the fastest


def _nifti_header(volume: Volume) -> nib.Nifti1Header:
    source = volume.source
    if isinstance(source, NiftiSource) and np.array_equal(source.affine, volume.affine):
        return source.header.copy()
    header = nib.Nifti1Header()
    header.set_sform(volume.affine, code="scanner")
    header.set_qform(volume.affine, code="scanner")
    header.set_xyzt_units("mm")
    return header
