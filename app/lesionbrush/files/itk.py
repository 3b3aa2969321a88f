"""NRRD and MetaImage volumes. ITK counts in LPS mm: its first two world axes change sign here.

Headers are read twice, by ITK and by our own readers, and have to come out the same; voxels by `itk_data`.
"""

from __future__ import annotations

import errno
import math
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from lesionbrush.core.provenance import as_note
from lesionbrush.core.volume import Array, SourceHeader, Volume
from lesionbrush.errors import DamagedFile
from lesionbrush.files.geometry import LPS_TO_RAS
from lesionbrush.files.itk_data import read_voxels
from lesionbrush.files.itk_headers import ItkGeometry, ItkHeader
from lesionbrush.files.meta_header import DATA_FILE, LOCAL, meta_fields, read_metaimage_header
from lesionbrush.files.nrrd_header import nrrd_fields, read_nrrd_header
from lesionbrush.files.terminology import name_of_segment

NOTE_KEY = "lesionbrush_note"

_MAX_COMPRESSION = 1032  # the best deflate can do; a header that promises more is wrong
_HEADER_BYTES = 1 << 20  # longer headers are refused: what they name could not be checked
_NRRD_END = re.compile(rb"\n\r?\n")
_SAME, _SAME_MM = 1e-5, 1e-3  # steps by part of the longest, the place by mm: what text rounds away
_PIXELS = {
    sitk.sitkInt8: "i1", sitk.sitkUInt8: "u1", sitk.sitkInt16: "i2", sitk.sitkUInt16: "u2",
    sitk.sitkInt32: "i4", sitk.sitkUInt32: "u4", sitk.sitkInt64: "i8", sitk.sitkUInt64: "u8",
    sitk.sitkFloat32: "f4", sitk.sitkFloat64: "f8",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class ItkSource(SourceHeader):
    """Pixel type and grid as ITK read them."""

    geometry: ItkGeometry


def read_nrrd(path: Path) -> Volume:
    """A .nrrd file, or .nhdr with its voxels beside it. Raises RuntimeError (ITK), NotACT, ValueError."""
    start = _start_of(path)
    end = _NRRD_END.search(start)
    if not end and path.stat().st_size > _HEADER_BYTES:
        raise ValueError(f"its header is longer than {_HEADER_BYTES} bytes")
    text = start[: end.start()] if end else start
    fields, keys = nrrd_fields(text)
    data_file = _data_file(path, [fields["datafile"]] if "datafile" in fields else [])
    header = read_nrrd_header(text, (end.end() if end else len(start)) if data_file == path else 0)
    return _read_itk(path, "NrrdImageIO", data_file, header, keys.get(NOTE_KEY, ""))


def read_metaimage(path: Path) -> Volume:
    """A .mha file, or .mhd with its voxels beside it. Raises as `read_nrrd` does."""
    fields, end = meta_fields(_start_of(path))
    data_file = _data_file(path, [name for name in fields[DATA_FILE] if name not in LOCAL])
    header = read_metaimage_header(fields, end if data_file == path else 0)
    return _read_itk(path, "MetaImageIO", data_file, header, fields.get(NOTE_KEY, [""])[-1])


def segment_names(path: Path) -> dict[int, str]:
    """What 3D Slicer calls the labels of a segmentation it saved as NRRD, by their code where there is one;
    empty for any other file. InvalidRequest where names and codes differ."""
    if not path.name.lower().endswith((".nrrd", ".nhdr")):
        return {}
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    said = {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}
    segments = [key.removesuffix("_Name") for key in said if re.fullmatch(r"Segment\d+_Name", key)]
    labelled = [segment for segment in segments if said.get(f"{segment}_LabelValue", "").isdecimal()]
    names = {key: name_of_segment(said[f"{key}_Name"], said.get(f"{key}_Tags", "")) for key in labelled}
    return {int(said[f"{key}_LabelValue"]): name for key, name in names.items()}


def _start_of(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_HEADER_BYTES)


def _data_file(path: Path, names: list[str]) -> Path:
    """Where the voxels are: in this file, or for .nhdr and .mhd in a file beside it.

    Any other place is refused: an uploaded header could name every file the server can read.
    """
    if not names:
        return path
    name = os.fsdecode(names[0].encode("latin-1"))  # as bytes, a name is that of the disk
    name = name.removeprefix("./")
    beside = path.parent / name
    plain = not set(name) & set("/\\%") and not name.upper().startswith("LIST ") and name.upper() != "LIST"
    if not plain or path.suffix.lower() not in (".nhdr", ".mhd"):
        raise ValueError(f"its voxels are in another file ({name!r}); save it as one file, .nrrd or .mha")
    if not beside.is_file():
        raise ValueError(
            f"its voxels are in another file ({name!r}), which is not beside it: copy both, or save it as "
            "one file, .nrrd or .mha"
        )
    return beside


def _read_itk(path: Path, image_io: str, data_file: Path, header: ItkHeader, note: str) -> Volume:
    geometry = header.geometry
    if header.rank == 3:  # ITK knows no place for a fourth axis, even of length 1
        geometry = _as_itk_reads(path, image_io, header)
    require_plausible_size(math.prod(header.shape), data_file)
    array = read_voxels(data_file, header.layout, header.shape, header.dtype)
    affine = _itk_affine(geometry)
    source = ItkSource(array.dtype, affine, geometry, remarks=header.remarks, note=as_note(note))
    return Volume(array, affine, source)


def _as_itk_reads(path: Path, image_io: str, header: ItkHeader) -> ItkGeometry:
    """ITK's numbers. Raises DamagedFile where they are not those of the header: one of the two is wrong."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    found = ItkGeometry(reader.GetOrigin(), reader.GetSpacing(), reader.GetDirection())
    same = reader.GetSize() == header.shape and _PIXELS.get(reader.GetPixelID()) == header.dtype.str[1:]
    if same:
        one, other = _itk_affine(found), _itk_affine(header.geometry)
        apart = np.abs(one - other)
        same = bool(
            (apart[:, :3] <= _SAME * np.abs(other[:, :3]).max()).all() and apart[:, 3].max() <= _SAME_MM
        )
    if not same:
        by_itk = f"{reader.GetSize()} voxels of {found.spacing} mm at {found.origin}"
        own = f"{header.shape} voxels of {header.geometry.spacing} mm at {header.geometry.origin}"
        raise DamagedFile(
            f"its header can be read in two ways. ITK and 3D Slicer: {by_itk}; by what it says: {own}. Save "
            "it again from a program that writes it plainly"
        )
    return found


def write_itk(volume: Volume, path: Path, note: str, more: Mapping[str, str] | None = None) -> None:
    """Write .nrrd or .mha in the pixel type of the array. more: keys of the header.

    Raises OSError, ENOSPC when the disk is full.
    """
    image = sitk.GetImageFromArray(volume.array.T)
    geometry = _itk_geometry(volume)
    image.SetOrigin(geometry.origin)
    image.SetSpacing(geometry.spacing)
    image.SetDirection(geometry.direction)
    for key, text in {**({NOTE_KEY: note} if note else {}), **(more or {})}.items():
        image.SetMetaData(key, " ".join(text.split()))  # a line break would end the header field
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
