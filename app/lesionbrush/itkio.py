"""NRRD and MetaImage volumes, by ITK. ITK counts in LPS mm: its first two world axes change sign here."""

from __future__ import annotations

import errno
import math
import re
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk  # noqa: N813

from lesionbrush.itkheaders import check_metaimage, check_nrrd
from lesionbrush.volume import Array, SourceHeader, Volume, require_3d

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
NOTE_KEY = "lesionbrush_note"

_CHUNK_BYTES = 1 << 16
_MAX_COMPRESSION = 1032  # the best deflate can do; a header that promises more is wrong
_HEADER_BYTES = 1 << 20  # longer headers are refused: what they name could not be checked
_NRRD_DATA_FILE = re.compile(rb"^\s*data\s*file\s*:\s*(.*?)\s*$", re.IGNORECASE | re.MULTILINE)
_META_DATA_FILE = re.compile(
    rb"^\s*ElementDataFile\s*[=:][ \t]*([^\r\n]*?)[ \t]*\r?\n", re.IGNORECASE | re.MULTILINE
)
_META_DIMENSIONS = re.compile(rb"^\s*NDims\s*[=:]\s*(\S*)", re.IGNORECASE | re.MULTILINE)
_META_COMPRESSED = re.compile(rb"^\s*CompressedData\s*[=:]\s*T", re.IGNORECASE | re.MULTILINE)


class ItkGeometry(NamedTuple):
    """ITK's own numbers, LPS mm; the affine gives them back only to rounding."""

    origin: tuple[float, ...]
    spacing: tuple[float, ...]
    direction: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class ItkSource(SourceHeader):
    """Pixel type and grid as ITK read them."""

    geometry: ItkGeometry


def read_nrrd(path: Path) -> Volume:
    """A .nrrd file, or .nhdr with its voxels beside it. Raises RuntimeError (ITK), NotACT, ValueError."""
    header, *voxels = re.split(rb"\n\r?\n", _start_of(path), maxsplit=1)
    if not voxels and path.stat().st_size > _HEADER_BYTES:
        raise ValueError(f"its header is longer than {_HEADER_BYTES} bytes")
    data_file = _data_file(path, _NRRD_DATA_FILE.findall(header))
    return _read_itk(path, "NrrdImageIO", data_file, check_nrrd(header))


def read_metaimage(path: Path) -> Volume:
    """A .mha file, or .mhd with its voxels beside it. Raises as `read_nrrd` does, and zlib.error."""
    start = _start_of(path)
    names = list(_META_DATA_FILE.finditer(start))
    if not names:
        raise ValueError("its header names no voxels (ElementDataFile)")
    if not all(re.fullmatch(rb"[1-9]", number) for number in _META_DIMENSIONS.findall(start)):
        raise ValueError("its NDims is not a number from 1 to 9")  # ITK writes past its arrays from 11 on
    data_file = _data_file(path, [name[1] for name in names if name[1].upper() != b"LOCAL"])
    if _META_COMPRESSED.search(start):
        _require_sound_zlib(data_file, names[0].end() if data_file == path else 0)
    return _read_itk(path, "MetaImageIO", data_file, check_metaimage(start[: names[0].end()]))


def _start_of(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_HEADER_BYTES)


def _data_file(path: Path, names: list[bytes]) -> Path:
    """Where the voxels are: in this file, or for .nhdr and .mhd in a file beside it.

    Any other place is refused: an uploaded header could name every file the server can read.
    """
    if not names:
        return path
    name = names[0].decode(errors="replace")
    beside = path.parent / name
    plain = len(names) == 1 and not set(name) & {"/", "\\"} and beside.is_file()
    if not plain or path.suffix.lower() not in (".nhdr", ".mhd"):
        raise ValueError(f"its voxels are in another file ({name!r}); save it as one file, .nrrd or .mha")
    return beside


def _require_sound_zlib(path: Path, offset: int) -> None:
    """ITK reads on when zlib fails, and hands out voxels that were never in the file."""
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)
    with path.open("rb") as stream:
        stream.seek(offset)
        while chunk := stream.read(_CHUNK_BYTES):
            inflate.decompress(chunk)
    if not inflate.eof:
        raise ValueError("its compressed voxels end too early")


def _read_itk(path: Path, image_io: str, data_file: Path, remarks: tuple[str, ...]) -> Volume:
    reader = sitk.ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    require_3d(reader.GetSize(), reader.GetNumberOfComponents())
    require_plausible_size(math.prod(reader.GetSize()), data_file)
    image = reader.Execute()
    array = sitk.GetArrayFromImage(image).T  # ITK's array is (K, J, I)
    geometry = ItkGeometry(image.GetOrigin(), image.GetSpacing(), image.GetDirection())
    affine = _itk_affine(geometry)
    return Volume(array, affine, ItkSource(array.dtype, affine, geometry, remarks=remarks))


def write_itk(volume: Volume, path: Path, note: str) -> None:
    """Write .nrrd or .mha in the pixel type of the array. Raises OSError, ENOSPC when the disk is full."""
    image = sitk.GetImageFromArray(volume.array.T)
    geometry = _itk_geometry(volume)
    image.SetOrigin(geometry.origin)
    image.SetSpacing(geometry.spacing)
    image.SetDirection(geometry.direction)
    if note:
        image.SetMetaData(NOTE_KEY, " ".join(note.split()))  # a line break would end the header field
    try:
        sitk.WriteImage(image, str(path), useCompression=False)  # ITK's gzip is slower than most disks
    except RuntimeError as error:  # carries no errno
        full = shutil.disk_usage(path.parent).free < volume.array.nbytes
        raise OSError(errno.ENOSPC if full else errno.EIO, f"ITK could not write {path.name}") from error


def _itk_affine(geometry: ItkGeometry) -> Array:
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(geometry.direction, (3, 3)) * geometry.spacing
    affine[:3, 3] = geometry.origin
    return LPS_TO_RAS @ affine


def _itk_geometry(volume: Volume) -> ItkGeometry:
    source = volume.source
    if isinstance(source, ItkSource) and np.array_equal(source.affine, volume.affine):
        return source.geometry
    affine = LPS_TO_RAS @ volume.affine
    direction = affine[:3, :3] / volume.spacing_mm
    return ItkGeometry(tuple(affine[:3, 3].tolist()), volume.spacing_mm, tuple(direction.ravel().tolist()))


def require_plausible_size(values: int, file: Path) -> None:
    """Refuse before memory is allocated for a header that promises more than the file can hold."""
    held = file.stat().st_size
    if values > held * _MAX_COMPRESSION:
        raise ValueError(f"its header promises {values} values, the file has {held} bytes")
