"""What NRRD and MetaImage headers say that ITK does not look at, and that changes HU, millimetres or place.

ITK reads past a scale factor, a unit other than mm and a second offset without a word; here each is refused,
with its value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from lesionbrush.errors import DamagedFile, NotACT

_NRRD_FIELD = re.compile(rb"^([^#:\n]+?):(?!=)[ \t]*(.*?)\s*$", re.MULTILINE)
_NRRD_KEY = re.compile(rb"^([^#:\n]+?):=(.*?)\s*$", re.MULTILINE)
_META_FIELD = re.compile(rb"^[ \t]*(\w+)[ \t]*[=:][ \t]*(.*?)\s*$", re.MULTILINE)
_SEGMENT_NAME = re.compile(rb"Segment\d+_Name")
_ENCODINGS = ("raw", "txt", "text", "ascii", "hex", "gz", "gzip")
_MM = ("mm", "millimeter", "millimeters", "millimetre", "millimetres", "", "?", "???")
_SAME_FIELD = (("offset", "position", "origin"), ("transformmatrix", "rotation", "orientation"))
_SCALE = {"elementtointensityfunctionslope": 1.0, "elementtointensityfunctionoffset": 0.0}
_NO_SIZE = (
    "its header does not say how large a voxel is: save it again from a program that writes the spacing"
)
_AXES_UNKNOWN = "its header does not say which way the axes lead: taken as 3D Slicer does"


def check_nrrd(header: bytes) -> tuple[str, ...]:
    """Remarks for the user. header: all before the voxels. Raises DamagedFile, NotACT, ValueError."""
    if not header.startswith(b"NRRD"):
        raise ValueError("it does not begin as NRRD files do")
    fields = _fields(_NRRD_FIELD.findall(header))
    encoding = fields.get("encoding", ["raw"])[-1].lower()
    if encoding not in _ENCODINGS:
        raise DamagedFile(
            f"its encoding {encoding!r} is not supported; save it with gzip, or without compression"
        )
    _refuse_layers(fields, header)
    for units in fields.get("space units", fields.get("units", [])):
        _require_mm(re.findall(r'"([^"]*)"', units) or units.split())
    for name in ("old min", "oldmin", "old max", "oldmax"):
        if name in fields:
            raise DamagedFile(
                f"its values are scaled ({name}: {fields[name][-1]}), and most programs overlook that"
            )
    if "space directions" not in fields and "spacings" not in fields:
        raise DamagedFile(_NO_SIZE)
    return () if "space" in fields else (_AXES_UNKNOWN,)


def check_metaimage(header: bytes) -> tuple[str, ...]:
    """As `check_nrrd`."""
    fields = _fields(_META_FIELD.findall(header))
    for names in _SAME_FIELD:
        said = {name: values for name, values in fields.items() if name in names}
        different = {tuple(map(float, value.split())) for values in said.values() for value in values}
        if len(different) > 1:
            listed = "; ".join(f"{name} = {', '.join(values)}" for name, values in said.items())
            raise DamagedFile(f"it states two geometries ({listed}): keep one")
    for name, neutral in _SCALE.items():
        if name in fields and float(fields[name][-1]) != neutral:
            raise DamagedFile(
                f"its values are scaled ({name} {fields[name][-1]}), and most programs overlook that: apply "
                "the scale, and save it again"
            )
    _require_mm(fields.get("distanceunits", []))
    if "elementspacing" not in fields and "elementsize" not in fields:
        raise DamagedFile(_NO_SIZE)
    return () if any(name in fields for name in _SAME_FIELD[1]) else (_AXES_UNKNOWN,)


def _fields(pairs: list[tuple[bytes, bytes]]) -> dict[str, list[str]]:
    """By name, in small letters: what the lines of that name say."""
    fields: dict[str, list[str]] = {}
    for name, value in pairs:
        key = " ".join(name.decode("latin-1").lower().split())
        fields.setdefault(key, []).append(value.decode("latin-1"))
    return fields


def _require_mm(units: list[str]) -> None:
    for unit in units:
        if unit.strip().lower() not in _MM:
            raise DamagedFile(f"its lengths are in {unit!r}, which most programs overlook: save it in mm")


def _refuse_layers(fields: Mapping[str, list[str]], header: bytes) -> None:
    """A segmentation whose segments overlap has layers; one voxel would belong to several labels."""
    axes = fields.get("kinds", [""])[-1].split()
    sizes = fields.get("sizes", [""])[-1].split()
    if len(axes) != 4 or axes[0] != "list" or not sizes[0].isdecimal() or int(sizes[0]) < 2:
        return
    keys = _NRRD_KEY.findall(header)
    names = [value.decode("utf-8", "replace") for key, value in keys if _SEGMENT_NAME.fullmatch(key)]
    listed = f" ({', '.join(names[:8])})" if names else ""
    raise NotACT(
        f"a segmentation of {sizes[0]} layers: its segments overlap{listed}. Export the one you want: in 3D "
        "Slicer, Segmentations module, show only that segment, then Export visible segments to a label map"
    )
