"""The header of a MetaImage file: all that decides HU, millimetres and place.

MetaIO, which ITK reads these with, knows a field only by its exact name, takes a line without = for the
beginning of the next, and anything but True for False.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lesionbrush.core.volume import require_3d
from lesionbrush.errors import DamagedFile
from lesionbrush.files.itk_data import PixelLayout
from lesionbrush.files.itk_headers import (
    AXES_UNKNOWN,
    NO_SIZE,
    PLACE_UNKNOWN,
    ItkGeometry,
    ItkHeader,
    geometry_from,
    lengths,
    numbers,
    require_mm,
    whole_numbers,
)

Fields = dict[str, list[str]]
DATA_FILE = "ElementDataFile"
LOCAL = ("LOCAL", "Local", "local")
_PLACE = ("Offset", "Position", "Origin", "ImagePosition", "ElementOrigin")
_AXES = ("TransformMatrix", "Rotation", "Orientation", "ElementDirection")
_SPACING = ("ElementSpacing", "ElementSize")
_MSB = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
_SCALE = {"ElementToIntensityFunctionSlope": 1.0, "ElementToIntensityFunctionOffset": 0.0}
_KNOWN = (
    DATA_FILE, "ObjectType", "NDims", "DimSize", "ElementType", "ElementNumberOfChannels", "BinaryData",
    "CompressedData", "CompressedDataSize", "HeaderSize", "DistanceUnits", "AnatomicalOrientation",
    "FileFormatVersion", *_PLACE, *_AXES, *_SPACING, *_MSB, *_SCALE,
)  # fmt: skip
_EXACT_NAMES = {name.lower(): name for name in _KNOWN}
_DTYPES = {  # MetaIO's long is of 4 bytes on every computer
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4",
    "MET_UINT": "u4", "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
_FLAGS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
_UNIT = 1e-3  # how far from 1 the length of a direction may be, as far as digits are cut off
_ORDER_UNKNOWN = (
    "its header does not say in which order the bytes of a value are: taken as ITK does, lowest first"
)


def meta_fields(start: bytes) -> tuple[Fields, int]:
    """What the lines of each name say, and where the header ends. start: of the file. Raises ValueError."""
    fields: Fields = {}
    at = 0
    while DATA_FILE not in fields:
        end = start.find(b"\n", at) + 1
        line = start[at : end or len(start)].decode("latin-1").strip()
        if not end:
            _require_exact_names(fields)
            raise ValueError(f"its header names no voxels ({DATA_FILE})")
        at = end
        if not line:
            continue
        name = line.replace(":", "=").partition("=")[0]
        if len(name) == len(line):
            raise ValueError(
                f"a line of its header, {line[:40]!r}, states no field: write a text of several lines as one"
            )
        key, value = name.strip(), line[len(name) + 1 :].strip()
        fields.setdefault(key, []).append(value)
    _require_exact_names(fields)
    return fields, at


def _require_exact_names(fields: Fields) -> None:
    """A name in other case is a note of somebody's, if the field is there, and else it is overlooked."""
    for key in fields:
        exact = _EXACT_NAMES.get(key.lower(), key)
        if exact not in fields and not any(other in fields for other in _same_field(exact)):
            raise DamagedFile(f"its header has {key!r}, which most programs overlook: write it {exact!r}")


def _same_field(name: str) -> tuple[str, ...]:
    return next((names for names in (_PLACE, _AXES, _SPACING, _MSB) if name in names), ())


def read_metaimage_header(fields: Fields, begin: int) -> ItkHeader:
    """begin: where the voxels begin in this file, 0 where they are in another.

    Raises DamagedFile, NotACT, ValueError.
    """
    rank, shape = _shape(fields)
    for name, neutral in _SCALE.items():
        if name in fields and numbers(fields[name][-1], name, 1) != (neutral,):
            raise DamagedFile(
                f"its values are scaled ({name.lower()} {fields[name][-1]}), and most programs overlook "
                "that: apply the scale, and save it again"
            )
    require_mm(fields.get("DistanceUnits", []))
    geometry, remarks = _geometry(fields, rank)
    layout = _layout(fields, begin)
    dtype = _dtype(fields)
    if layout.encoding != "text" and dtype.itemsize > 1:
        dtype = dtype.newbyteorder(">" if _big_endian(fields) else "<")
        remarks += () if any(name in fields for name in _MSB) else (_ORDER_UNKNOWN,)
    return ItkHeader(shape, rank, dtype, geometry, layout, remarks)


def _one(fields: Fields, name: str, default: str = "") -> str:
    values = fields.get(name, [default])
    if len(set(values)) > 1:
        raise DamagedFile(f"its header states {name} twice ({'; '.join(values)}): keep one")
    return values[0]


def _flag(fields: Fields, name: str, default: str) -> bool:
    value = _one(fields, name, default)
    if value.lower() not in _FLAGS:
        raise DamagedFile(
            f"its {name} is {value!r}: write True or False, most programs take others for False"
        )
    return _FLAGS[value.lower()]


def _shape(fields: Fields) -> tuple[int, tuple[int, ...]]:
    """How many axes there are, and the lengths of the first three; a fourth of length 1 is left out."""
    said = _one(fields, "NDims")
    if len(said) != 1 or said not in "123456789":  # ITK writes past its arrays from 11 on
        raise ValueError("its NDims is not a number from 1 to 9")
    rank = int(said)
    sizes = whole_numbers(_one(fields, "DimSize"), "DimSize", rank)
    if min(sizes) < 1:
        raise ValueError(f"its DimSize is {fields['DimSize'][0]!r}")
    (channels,) = whole_numbers(_one(fields, "ElementNumberOfChannels", "1"), "ElementNumberOfChannels", 1)
    shape = sizes[:3] if sizes[3:] == (1,) else sizes
    require_3d(shape, channels)
    if channels != 1:
        raise ValueError(f"its ElementNumberOfChannels is {channels}")
    return rank, shape


def _dtype(fields: Fields) -> np.dtype[Any]:
    said = _one(fields, "ElementType")
    if said not in _DTYPES:
        raise DamagedFile(f"its ElementType {said!r} is not known: save it again as MET_SHORT")
    return np.dtype(_DTYPES[said])


def _big_endian(fields: Fields) -> bool:
    said = {name: _flag(fields, name, "False") for name in _MSB if name in fields}
    if len(set(said.values())) > 1:
        listed = ", ".join(f"{name} = {value}" for name, value in said.items())
        raise DamagedFile(f"it states two orders of bytes ({listed}): keep one")
    return any(said.values())


def _layout(fields: Fields, begin: int) -> PixelLayout:
    binary, packed = _flag(fields, "BinaryData", "True"), _flag(fields, "CompressedData", "False")
    (header,) = whole_numbers(_one(fields, "HeaderSize", "0"), "HeaderSize", 1)
    (size,) = whole_numbers(_one(fields, "CompressedDataSize", "0"), "CompressedDataSize", 1)
    if packed and not binary:
        raise DamagedFile("it says that its voxels are text (BinaryData) and compressed: save it again")
    within = begin > 0 and header > 0 and header != begin
    if header < -1 or within or (header and (packed or not binary)) or (header < 0 < begin):
        where = f", and its voxels begin at byte {begin}" if begin else ""
        raise DamagedFile(f"its HeaderSize is {header}{where}: take that line out, or save it again")
    if packed:
        return PixelLayout("zlib", begin, packed_bytes=size or None)
    return PixelLayout("raw" if binary else "text", None if header < 0 else begin or header)


def _geometry(fields: Fields, rank: int) -> tuple[ItkGeometry, tuple[str, ...]]:
    """ElementSpacing counts, not ElementSize, where both are there: so MetaImage is defined."""
    spacing_name = next((name for name in _SPACING if name in fields), "")
    if not spacing_name:
        raise DamagedFile(NO_SIZE)
    spacing = np.array(lengths(_one(fields, spacing_name), spacing_name, rank))
    origin = _agree_on(fields, _PLACE, rank)
    matrix = _agree_on(fields, _AXES, rank * rank)
    remarks = _axes_remarks(fields) if matrix is None else ()
    if origin is None:
        remarks += (PLACE_UNKNOWN,)
    axes = np.eye(rank) if matrix is None else np.reshape(matrix, (rank, rank))  # a row is an axis
    off = np.abs(np.linalg.norm(axes, axis=1) - 1).max()
    where = origin or (0.0,) * rank
    geometry = geometry_from(axes[:3, :3].T * spacing[:3], where[:3], "TransformMatrix")
    if off > _UNIT:
        raise DamagedFile(
            "the directions in its TransformMatrix are not of length 1, so that ElementSpacing is not the "
            "distance of voxels, and programs differ in what they take: save it again"
        )
    if np.any(axes[:3, 3:]) or np.any(axes[3:, :3]):
        raise DamagedFile(
            "its TransformMatrix mixes a fourth axis with those of space: save it as a 3-D volume"
        )
    return geometry, remarks


def _agree_on(fields: Fields, names: tuple[str, ...], count: int) -> tuple[float, ...] | None:
    """What the fields of these names say, None where there is none. Raises DamagedFile where they differ."""
    said = {name: fields[name] for name in names if name in fields}
    values = {numbers(text, name, count) for name, texts in said.items() for text in texts}
    if len(values) > 1:
        listed = "; ".join(f"{name.lower()} = {', '.join(texts)}" for name, texts in said.items())
        raise DamagedFile(f"it states two geometries ({listed}): keep one")
    return values.pop() if values else None


def _axes_remarks(fields: Fields) -> tuple[str, ...]:
    """AnatomicalOrientation alone: ITK and 3D Slicer overlook it, and take the axes it calls RAI."""
    said = _one(fields, "AnatomicalOrientation").upper()
    if said == "RAI":
        return ()
    if said.strip("?"):
        return (
            f"its header names its axes only by AnatomicalOrientation = {said}, which ITK and 3D Slicer "
            "overlook: taken as they do",
        )
    return (AXES_UNKNOWN,)
