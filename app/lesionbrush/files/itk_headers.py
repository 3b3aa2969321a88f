"""What the headers of NRRD and MetaImage files have in common.

ITK reads past much that changes HU, millimetres or place. `nrrd_header` and `meta_header` read every field
that does, by themselves, and refuse what they do not understand; `itk` then compares with what ITK makes of
it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lesionbrush.core.volume import Array
from lesionbrush.errors import DamagedFile
from lesionbrush.files.itk_data import PixelLayout

NO_SIZE = "its header does not say how large a voxel is: save it again from a program that writes the spacing"
AXES_UNKNOWN = "its header does not say which way the axes lead: taken as 3D Slicer does"
PLACE_UNKNOWN = "its header does not say where it lies: taken to begin at 0, as 3D Slicer does"
LIST_OF_ONE = "it is one volume in a list of one: save it as a 3-D volume"
_MM = ("mm", "millimeter", "millimeters", "millimetre", "millimetres", "", "?", "???")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_WHOLE = re.compile(r"[+-]?\d{1,18}")
_FLAT = 1e-6  # of a box whose edges are the three axes: its volume as a share of that of a straight one


class ItkGeometry(NamedTuple):
    """ITK's own numbers, LPS mm; the affine gives them back only to rounding."""

    origin: tuple[float, ...]
    spacing: tuple[float, ...]
    direction: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class ItkHeader:
    """What a header says. shape: (I, J, K); dtype: with the byte order of the file.

    rank: axes in the file, one of length 1 was left out of `shape` where it is 4.
    """

    shape: tuple[int, ...]
    rank: int
    dtype: np.dtype[Any]
    geometry: ItkGeometry
    layout: PixelLayout
    remarks: tuple[str, ...]


def numbers(text: str, what: str, count: int) -> tuple[float, ...]:
    """Exactly so many finite numbers; ITK takes 0, or what the next line says, for missing ones."""
    words = text.split()
    values = tuple(float(word) for word in words if _NUMBER.fullmatch(word))
    if len(words) != count or len(values) != count or not all(map(math.isfinite, values)):
        needed = "a number is" if count == 1 else f"{count} numbers are"
        raise DamagedFile(
            f"its {what} is {text!r}, and {needed} needed: correct the header, or save it again"
        )
    return values


def whole_numbers(text: str, what: str, count: int) -> tuple[int, ...]:
    words = text.split()
    if len(words) != count or not all(map(_WHOLE.fullmatch, words)):
        raise ValueError(f"its {what} is {text!r}, not {count} whole numbers")
    return tuple(map(int, words))


def lengths(text: str, what: str, count: int) -> tuple[float, ...]:
    """As `numbers`, each above 0."""
    values = numbers(text, what, count)
    if min(values) <= 0:
        raise DamagedFile(f"its {what} is {text!r}: no voxel has such edges. Correct it, or save it again")
    return values


def geometry_from(columns: Array, origin: Sequence[float], what: str) -> ItkGeometry:
    """columns: the steps along the axes, LPS mm. what: the field they are from, for the text."""
    spacing = np.linalg.norm(columns, axis=0)
    if not abs(np.linalg.det(columns)) > _FLAT * np.prod(spacing):
        steps = "; ".join(" ".join(f"{mm:g}" for mm in column) for column in columns.T)
        raise DamagedFile(f"it has no usable geometry: the axes of its {what} ({steps}) span no volume")
    direction = columns / spacing
    return ItkGeometry(
        tuple(float(mm) for mm in origin), tuple(spacing.tolist()), tuple(direction.ravel().tolist())
    )


def require_mm(units: Sequence[str]) -> None:
    for unit in units:
        if unit.strip().lower() not in _MM:
            raise DamagedFile(f"its lengths are in {unit!r}, which most programs overlook: save it in mm")
