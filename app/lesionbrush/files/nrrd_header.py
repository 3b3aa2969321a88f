"""The header of a NRRD file: all that decides HU, millimetres and place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from lesionbrush.core.volume import Array, require_3d
from lesionbrush.errors import DamagedFile, NotACT
from lesionbrush.files.itk_data import PixelLayout
from lesionbrush.files.itk_headers import (
    AXES_UNKNOWN,
    LIST_OF_ONE,
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

Fields = dict[str, str]
_SEGMENT_NAME = re.compile(r"Segment\d+_Name")
_VECTOR = re.compile(r"\(([^()]*)\)|(none)", re.IGNORECASE)
_ENCODINGS = {
    "raw": "raw", "txt": "text", "text": "text", "ascii": "text", "hex": "hex", "gz": "zlib", "gzip": "zlib",
}  # fmt: skip
_TYPES = {
    "i1": "signed char|int8|int8_t",
    "u1": "uchar|unsigned char|uint8|uint8_t",
    "i2": "short|short int|signed short|signed short int|int16|int16_t",
    "u2": "ushort|unsigned short|unsigned short int|uint16|uint16_t",
    "i4": "int|signed int|int32|int32_t",
    "u4": "uint|unsigned int|uint32|uint32_t",
    "i8": "longlong|long long|long long int|signed long long|signed long long int|int64|int64_t",
    "u8": "ulonglong|unsigned long long|unsigned long long int|uint64|uint64_t",
    "f4": "float",
    "f8": "double",
}
_DTYPES = {name: dtype for dtype, names in _TYPES.items() for name in names.split("|")}
_TO_LPS = {  # what ITK knows; all others it takes for LPS
    "right-anterior-superior": (-1, -1, 1), "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1), "las": (1, -1, 1),
    "left-posterior-superior": (1, 1, 1), "lps": (1, 1, 1),
}  # fmt: skip
_HU = ("", "hu", "hounsfield", "hounsfield unit", "hounsfield units", "[hu]", "?", "???")
_OF_SPACE = ("domain", "space", "none", "???", "")


@dataclass(frozen=True)
class _Axes:
    """The three axes of space among those of the file: their numbers and lengths; and how many there are."""

    kept: tuple[int, ...]
    shape: tuple[int, ...]
    rank: int


def read_nrrd_header(header: bytes, begin: int) -> ItkHeader:
    """header: all before the voxels; begin: where they begin in this file, 0 where they are in another.

    Raises DamagedFile, NotACT, ValueError.
    """
    fields, keys = nrrd_fields(header)
    segments = [value for key, value in keys.items() if _SEGMENT_NAME.fullmatch(key)]
    if fields.get("encoding", "raw").lower() not in _ENCODINGS:
        raise DamagedFile(
            f"its encoding {fields['encoding']!r} is not supported; save it with gzip, or without compression"
        )
    axes = _axes(fields, segments)
    _require_hu(fields)
    require_mm(_units(fields, "spaceunits", range(3)) + _units(fields, "units", axes.kept))
    geometry, remarks = _geometry(fields, axes)
    return ItkHeader(axes.shape, axes.rank, _dtype(fields), geometry, _layout(fields, begin), remarks)


def nrrd_fields(header: bytes) -> tuple[Fields, Fields]:
    """What each field says, by its name in small letters without blanks; and the keys that others added."""
    lines = header.decode("latin-1").split("\n")
    if not lines[0].startswith("NRRD"):
        raise ValueError("it does not begin as NRRD files do")
    fields: Fields = {}
    keys: Fields = {}
    for line in filter(str.strip, lines[1:]):
        if line.startswith("#"):
            continue
        name, is_key, value = line.partition(":=")
        if is_key:
            keys[name.strip()] = value.strip()
            continue
        name, is_field, value = line.partition(":")
        if not is_field:
            raise ValueError(f"a line of its header, {line.strip()[:40]!r}, states no field")
        key = "".join(name.lower().split())
        if key in fields:
            raise ValueError(f"its header states {name.strip()!r} twice")
        fields[key] = value.strip()
    return fields, keys


def _axes(fields: Fields, segments: list[str]) -> _Axes:
    (rank,) = whole_numbers(fields.get("dimension", ""), "dimension", 1)
    if not 1 <= rank <= 16:
        raise ValueError(f"its dimension is {rank}")
    sizes = whole_numbers(fields.get("sizes", ""), "sizes", rank)
    if min(sizes) < 1:
        raise ValueError(f"its sizes are {fields['sizes']!r}")
    kinds = [kind.strip('"').lower() for kind in fields.get("kinds", "").split()] or [""] * rank
    if len(kinds) != rank:
        raise ValueError(f"its kinds are {fields['kinds']!r}, not {rank}")
    if rank == 4 and kinds[0] == "list" and sizes[0] > 1:
        raise _layers(sizes[0], segments)
    kept = tuple(axis for axis in range(rank) if kinds[axis] in (*_OF_SPACE, "time"))
    others = [axis for axis in range(rank) if axis not in kept and sizes[axis] > 1]
    if rank == 4 and len(kept) == 4 and sizes[3] == 1:
        kept = kept[:3]
    require_3d(tuple(sizes[axis] for axis in kept), int(np.prod([sizes[axis] for axis in others] or [1])))
    strange = [kinds[axis] for axis in kept if kinds[axis] not in _OF_SPACE]
    if strange:
        raise NotACT(
            f"one of its three axes is of kind {strange[0]!r}, not of space: a volume of slices is needed"
        )
    return _Axes(kept, tuple(sizes[axis] for axis in kept), rank)


def _layers(count: int, segments: list[str]) -> NotACT:
    """A segmentation whose segments overlap has layers; one voxel would belong to several labels."""
    if not segments:
        return NotACT(
            f"a list of {count} volumes, as time points, or layers of a segmentation whose segments overlap: "
            "save one of them by itself, in 3D Slicer for example"
        )
    listed = f" ({', '.join(segments[:8])})"
    return NotACT(
        f"a segmentation of {count} layers: its segments overlap{listed}. Export the one you want: in 3D "
        "Slicer, Segmentations module, show only that segment, then Export visible segments to a label map; "
        "for a layout of all of them show all, and export them together: then each voxel has one label"
    )


def _require_hu(fields: Fields) -> None:
    unit = fields.get("sampleunits", "").strip("\"' ")
    if unit.lower() not in (*_HU, "none", "???"):
        raise NotACT(f"its values are in {unit!r}, not in HU (sample units), and most programs overlook that")
    for name in ("old min", "old max"):
        value = fields.get(name.replace(" ", ""), "nan")
        if value.lower() != "nan":  # which is what an unset one is written as
            raise DamagedFile(f"its values are scaled ({name}: {value}), and most programs overlook that")


def _units(fields: Fields, name: str, axes: tuple[int, ...] | range) -> list[str]:
    said = fields.get(name, "")
    units = re.findall(r'"([^"]*)"', said) or said.split()
    return [units[axis] for axis in axes if axis < len(units)]


def _dtype(fields: Fields) -> np.dtype[Any]:
    said = " ".join(fields.get("type", "").lower().split())
    if said not in _DTYPES:
        raise DamagedFile(
            f"its type {said!r} is not one of whole numbers or fractions: save it again as short"
        )
    dtype = np.dtype(_DTYPES[said])
    if _ENCODINGS[fields.get("encoding", "raw").lower()] == "text" or dtype.itemsize == 1:
        return dtype
    endian = fields.get("endian", "").lower()
    if endian not in ("little", "big"):
        raise ValueError(f"its endian is {endian!r}, not little or big")
    return dtype.newbyteorder("<" if endian == "little" else ">")


def _layout(fields: Fields, begin: int) -> PixelLayout:
    encoding = _ENCODINGS[fields.get("encoding", "raw").lower()]
    (lines,) = whole_numbers(fields.get("lineskip", "0"), "line skip", 1)
    (skipped,) = whole_numbers(fields.get("byteskip", "0"), "byte skip", 1)
    at_end = skipped == -1 and not lines and encoding == "raw"
    if lines < 0 or (skipped < 0 and not at_end) or (encoding == "zlib" and (lines or skipped)):
        raise DamagedFile(
            f"it says to leave out {lines} lines and {skipped} bytes before its {encoding} voxels, and "
            "programs differ in what that means: save it again"
        )
    return PixelLayout(encoding, None if at_end else begin, lines, 0 if at_end else skipped)  # type: ignore[arg-type]


def _geometry(fields: Fields, axes: _Axes) -> tuple[ItkGeometry, tuple[str, ...]]:
    if "spacedirections" not in fields and "spacings" not in fields:
        raise DamagedFile(NO_SIZE)
    space = fields.get("space", "").lower()
    timed = space.endswith("-time") or (space.endswith("t") and len(space) == 4)
    if timed or fields.get("spacedimension", "3") != "3":
        raise NotACT(
            f"its space ({space or fields['spacedimension']}) has other axes than three: {LIST_OF_ONE}"
        )
    remarks: tuple[str, ...] = () if space in _TO_LPS else (AXES_UNKNOWN,)
    if "spacedirections" not in fields:
        if space:
            raise DamagedFile(
                "it names a space, but not where its axes lead (space directions): save it again"
            )
        return _straight(fields, axes, remarks)
    signs = np.array(_TO_LPS.get(space, (1, 1, 1)))
    vectors = _vectors(fields["spacedirections"], "space directions", axes.rank)
    steps = [vectors[axis] for axis in axes.kept]
    if None in steps:
        raise DamagedFile(
            f"its space directions are {fields['spacedirections']!r}: they do not say how far its slices are "
            "apart. Save it again from a program that writes all three"
        )
    origin: tuple[float, ...] = (0.0, 0.0, 0.0)
    if "spaceorigin" in fields:
        (stated,) = _vectors(fields["spaceorigin"], "space origin", 1)
        if stated is None:
            raise DamagedFile(f"its space origin is {fields['spaceorigin']!r}, and 3 numbers are needed")
        origin = stated
    else:
        remarks += (PLACE_UNKNOWN,)
    columns: Array = np.array(steps, float).T * signs[:, None]
    return geometry_from(columns, (signs * origin).tolist(), "space directions"), remarks


def _vectors(text: str, what: str, count: int) -> list[tuple[float, ...] | None]:
    found = list(_VECTOR.finditer(text))
    if len(found) != count or _VECTOR.sub("", text).strip():
        raise DamagedFile(f"its {what} is {text!r}, and {count} of (x,y,z) are needed: correct it")
    return [None if match[2] else numbers(match[1].replace(",", " "), what, 3) for match in found]


def _straight(fields: Fields, axes: _Axes, remarks: tuple[str, ...]) -> tuple[ItkGeometry, tuple[str, ...]]:
    """Edges of voxels only; `axis mins` then is where the first voxel begins, or its centre."""
    spacing = np.array(lengths(_of(fields, "spacings", axes), "spacings", 3))
    origin = np.zeros(3)
    if "axismins" in fields:
        mins = numbers(_of(fields, "axismins", axes), "axis mins", 3)
        field = "centerings" if "centerings" in fields else "centers"
        centers = _of(fields, field, axes).lower().split() or ["cell"] * 3
        origin = mins + spacing / 2 * [center != "node" for center in centers]
    else:
        remarks += (PLACE_UNKNOWN,)
    return geometry_from(np.diag(spacing), origin.tolist(), "spacings"), remarks


def _of(fields: Fields, name: str, axes: _Axes) -> str:
    """The words for the three axes; all of them where their number is wrong."""
    words = fields.get(name, "").split()
    return " ".join(words[axis] for axis in axes.kept) if len(words) == axes.rank else " ".join(words)
