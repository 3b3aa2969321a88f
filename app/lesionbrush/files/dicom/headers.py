"""One DICOM file: whether it is one, told from its content, and what its tags say.

Numbers in text (DS, IS) are read from the bytes of the file and not by pydicom, which hands out "0,5" as it
is: a decimal comma is a decimal point, and what is no number is no value.
"""

from __future__ import annotations

import re
import struct
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.tag import BaseTag, Tag
from pydicom.values import converters

from lesionbrush.core.volume import Array
from lesionbrush.errors import DamagedFile, UnsupportedSeries

UNREADABLE = (
    OSError, EOFError, ValueError, LookupError, NotImplementedError, AttributeError, TypeError, OverflowError,
    RecursionError, MemoryError, zlib.error, struct.error, BytesLengthException, InvalidDicomError,
)  # fmt: skip
"""What pydicom was seen to raise for damaged files."""
START_BYTES = 132
SYNTHETIC_DATA = Tag(0x0008, 0x001C)  # newer than pydicom's dictionary
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")
_PADDING = " \0\t\r\n"
_FIRST_GROUPS = (0x0002, 0x0008)
_LONGEST_FIRST_VALUE = 1 << 16
_NUMBERS_IN_TEXT = ("DS", "IS")


def is_dicom(start: bytes) -> bool:
    """Whether a file is DICOM by its first bytes (`START_BYTES` are enough), with a preamble or without."""
    return start[128:132] == b"DICM" or _begins_data_set(start)


def _begins_data_set(start: bytes) -> bool:
    """Whether the first element is one that data sets begin with: of group 0002 or 0008, and not too long."""
    if len(start) < 8:
        return False
    for order in "<>":
        (group,) = struct.unpack_from(f"{order}H", start)
        (length,) = struct.unpack_from(f"{order}I", start, 4)
        explicit = start[4:6].decode("latin-1") in converters
        if group in _FIRST_GROUPS and (explicit or (order == "<" and 0 < length < _LONGEST_FIRST_VALUE)):
            return True
    return False


def read_header(
    path: Path, keywords: Sequence[str | BaseTag] | None = None, *, pixels: bool = False
) -> Dataset:
    """Those tags of a DICOM file (all without `keywords`), `filename` being the path.

    Raises DamagedFile where pydicom cannot read on, or one of `keywords` is damaged.
    """
    tags = None if keywords is None else [Tag(keyword) for keyword in keywords]
    if tags is not None and pixels:
        tags.append(Tag("PixelData"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on values that are judged here, or by nobody
            header = pydicom.dcmread(path, stop_before_pixels=not pixels, specific_tags=tags, force=True)
            if tags is not None:
                _parse(header)
    except UNREADABLE as error:
        kind = type(error).__name__
        raise DamagedFile(
            f"{path.name} is a damaged DICOM file, or of an unknown kind ({kind}); copy it again, or export "
            "the series anew"
        ) from error
    header.filename = str(path)  # that of a deflated file would be its unpacked bytes
    return header


def _parse(header: Dataset) -> None:
    """All but numbers in text: damage shall show now."""
    for tag in list(header.keys()):
        element = header.get_item(tag)
        if isinstance(element, RawDataElement) and element.VR not in _NUMBERS_IN_TEXT:
            parsed = header[tag]
            for item in parsed.value if parsed.VR == "SQ" else ():
                _parse(item)


def name_of(header: Dataset) -> str:
    """The file's name, without its folder: that is often named after the patient."""
    return Path(header.filename).name


def texts_of(header: Dataset, keyword: str | BaseTag) -> list[str]:
    """The values of a tag as text, trimmed; none where it is absent or empty."""
    element = header.get_item(keyword)
    if element is None or element.value is None or element.VR == "SQ":
        return []
    value = element.value
    if isinstance(value, bytes):
        value = value.decode("latin-1").split("\\")
    values = [value] if isinstance(value, (str, int, float)) else list(value)
    found = [str(value).strip(_PADDING) for value in values]
    return [] if found == [""] else found


def text_of(header: Dataset, keyword: str | BaseTag) -> str:
    """All values of a tag as they stand in the file; "" where it is absent or empty."""
    return "\\".join(texts_of(header, keyword))


def items_of(header: Dataset, keyword: str) -> list[Dataset]:
    """Of a sequence; none where the tag is absent, or none."""
    element = header.get_item(keyword)
    return list(element.value) if element is not None and element.VR == "SQ" and element.value else []


def number(text: str) -> float:
    """A number in text; a decimal comma is a point. ValueError for anything else, as "", "nan" and "1_0"."""
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{text!r} is no number")
    return float(text.replace(",", "."))


def numbers_of(header: Dataset, keyword: str, count: int) -> Array:
    """float64. Raises UnsupportedSeries unless there are just so many finite numbers."""
    said = texts_of(header, keyword)
    try:
        values = np.array([number(text) for text in said], np.float64)
    except ValueError:
        values = np.empty(0)
    if values.size != count or not np.isfinite(values).all():
        found = f"it says {show_values(said)}" if said else "it is missing or empty"
        raise UnsupportedSeries(
            f"{name_of(header)} has no usable {keyword} ({count} numbers are needed; {found})"
        )
    return values


def whole_of(header: Dataset, keyword: str) -> int | None:
    """A whole number, None where there is none."""
    said = texts_of(header, keyword)
    try:
        value = number(said[0]) if len(said) == 1 else None
    except ValueError:
        return None
    return None if value is None or not value.is_integer() else int(value)


def show_values(said: Sequence[str]) -> str:
    """Values as they stand in the file, cut short."""
    text = "\\".join(said)
    return repr(text if len(text) <= 60 else text[:57] + "...")
