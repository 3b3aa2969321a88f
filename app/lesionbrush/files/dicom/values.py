"""What the stored values of a slice mean: told from its tags, before any pixel is used, and nothing else.

HU = stored x RescaleSlope + RescaleIntercept (DICOM PS3.3 C.11.1). The photometric interpretation says how a
value is shown, black or white, and changes none. What the file does not say is not assumed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from lesionbrush.core.volume import Array
from lesionbrush.errors import DamagedFile, NotACT, UnsupportedSeries
from lesionbrush.files.dicom.headers import items_of, name_of, number, show_values, texts_of, whole_of
from lesionbrush.files.dicom.kinds import is_lossy

KEYWORDS = (
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue",
    "PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence",
)  # fmt: skip
OVERLAYS = tuple(Tag(group, 0x0100) for group in range(0x6000, 0x6020, 2))
"""Overlay Bits Allocated: more than 1 where an overlay lies in cells of the image."""
AIR_HU = -1024

_INT16 = np.iinfo(np.int16)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")


@dataclass(frozen=True)
class StoredValues:
    """How the cells of one slice become HU. padding: lowest and highest stored value that is no tissue."""

    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    slope: float
    intercept: float
    padding: tuple[int, int] | None = None
    overlaid: bool = False
    lossy: bool = False

    @property
    def gives_whole_hu(self) -> bool:
        return float(self.slope).is_integer() and float(self.intercept).is_integer()

    def decode(self, cells: Array) -> Array:
        """Integers. cells: unsigned, of `bits_allocated` bits; bits that store nothing are not used."""
        if self.bits_stored == self.bits_allocated:
            return cells.view(f"i{cells.itemsize}") if self.signed else cells
        values = cells.astype(np.int64) >> (self.high_bit + 1 - self.bits_stored)
        if self.lossy and not self.signed:  # an edge that compression made brighter than the brightest
            return values.clip(max=(1 << self.bits_stored) - 1)
        return _with_sign(values, self.bits_stored, self.signed)

    def hounsfield(self, cells: Array, name: str) -> tuple[Array, int]:
        """int16 HU of the same shape, and how many padded cells are `AIR_HU` as 16 bits cannot hold them.

        name: of the file. Raises NotACT for tissue beyond 16 bits, and for bits that should store nothing.
        """
        stored = self.decode(cells)
        hu = np.rint(stored * self.slope + self.intercept)
        if self.bits_stored == self.bits_allocated and _fits(hu):
            return hu.astype(np.int16), 0
        padded = self._padding_beyond(cells, stored, hu)
        hu[padded] = AIR_HU
        if not _fits(hu):
            raise NotACT(f"{name} holds values from {hu.min():g} to {hu.max():g}, beyond 16-bit HU")
        strange = self._overfull(cells, stored) & ~padded
        if strange.any() and not self.overlaid and not (self.lossy and not self.signed):
            raise NotACT(
                f"{name} contradicts itself: it says BitsStored {self.bits_stored}, and {strange.sum()} "
                f"pixels hold more, as {int(cells[strange][0])}; export the series again"
            )
        return hu.astype(np.int16), int(padded.sum())

    def _padding_beyond(self, cells: Array, stored: Array, hu: Array) -> Array:
        """bool: padded cells whose HU 16 bits cannot hold, or that hold more bits than tissue does."""
        low, high = self.padding or (1, 0)
        whole = cells.view(f"i{cells.itemsize}") if low < 0 else cells
        by_value = (low <= stored) & (stored <= high) & ((hu < _INT16.min) | (hu > _INT16.max))
        return by_value | ((low <= whole) & (whole <= high) & self._overfull(cells, stored))

    def _overfull(self, cells: Array, stored: Array) -> Array:
        """bool: cells with bits beyond the stored ones, but for a sign that goes on."""
        if self.bits_stored == self.bits_allocated:
            return np.zeros(cells.shape, bool)
        shift = self.high_bit + 1 - self.bits_stored
        mask = ((1 << self.bits_stored) - 1) << shift
        everything = (1 << self.bits_allocated) - 1
        signed_on = (stored << shift) & everything
        return (cells & ~np.array(mask, cells.dtype)).astype(bool) & (cells != signed_on)


def _fits(hu: Array) -> bool:
    return bool(hu.min() >= _INT16.min and hu.max() <= _INT16.max)


def read_stored_values(header: Dataset) -> StoredValues:
    """Raises NotACT where the file does not say which HU its values are, UnsupportedSeries, DamagedFile."""
    name = name_of(header)
    rows, columns = _size(header, name)
    allocated, bits, high, representation = _bits(header, name)
    signed = representation == 1
    slope, intercept = _rescale(header, name)
    padding = _padding(header, allocated, signed)
    overlaid = any(_lies_in_cells(header, tag) for tag in OVERLAYS)
    bits_said = (allocated, bits, high, signed)
    lossy = is_lossy(header)
    return StoredValues(rows, columns, *bits_said, slope, intercept, padding, overlaid, lossy)


def _size(header: Dataset, name: str) -> tuple[int, int]:
    rows, columns = (whole_of(header, keyword) or 0 for keyword in ("Rows", "Columns"))
    if min(rows, columns) < 1:
        raise DamagedFile(f"{name} has {columns} columns and {rows} rows: that is no image; copy it again")
    return rows, columns


def _bits(header: Dataset, name: str) -> tuple[int, int, int, int]:
    """BitsAllocated, BitsStored, HighBit, PixelRepresentation."""
    found: dict[str, int] = {}
    for keyword in ("BitsAllocated", "BitsStored", "PixelRepresentation"):
        value = whole_of(header, keyword)
        if value is None:
            raise NotACT(
                f"{name} has no usable {keyword}, so nobody knows what its pixels mean: export it again"
            )
        found[keyword] = value
    allocated, bits, representation = found.values()
    high = whole_of(header, "HighBit")
    high = bits - 1 if high is None else high  # which is what the standard demands (PS3.5 8.1.1)
    if allocated not in (8, 16, 32):
        raise UnsupportedSeries(f"{name} has BitsAllocated {allocated}; 8, 16 and 32 can be read")
    if not (1 <= bits <= high + 1 <= allocated and representation in (0, 1)):
        raise DamagedFile(
            f"{name} contradicts itself: BitsAllocated {allocated}, BitsStored {bits}, HighBit {high}, "
            f"PixelRepresentation {representation}; export the series again"
        )
    return allocated, bits, high, representation


def _rescale(header: Dataset, name: str) -> tuple[float, float]:
    """Slope and intercept. Raises NotACT for what is no number, or could be two."""
    if items_of(header, "ModalityLUTSequence"):
        raise NotACT(f"{name} gives its HU as a table (ModalityLUTSequence), not as slope and intercept")
    values = []
    for keyword in ("RescaleSlope", "RescaleIntercept"):
        said = texts_of(header, keyword)
        if not said:
            raise NotACT(
                f"{name} has no {keyword}, so nobody knows which HU its values are: export the series again"
            )
        try:
            (text,) = said
            values.append(number(text))
        except ValueError as error:
            raise NotACT(f"{name} has {keyword} {show_values(said)}: one number is needed") from error
        if _THOUSANDS.fullmatch(text):
            raise NotACT(
                f"{name} has {keyword} {text!r}, which is {text.replace(',', '.')} or "
                f"{text.replace(',', '')}: write it with a decimal point"
            )
    slope, intercept = values
    if slope == 0 or not np.isfinite(values).all():
        raise NotACT(
            f"{name} has RescaleSlope {slope:g} and RescaleIntercept {intercept:g}: these make no HU"
        )
    return slope, intercept


def _padding(header: Dataset, allocated: int, signed: bool) -> tuple[int, int] | None:
    """Lowest and highest padding value. Whatever kind of number the tag has, its bits are a cell's."""
    value = whole_of(header, "PixelPaddingValue")
    if value is None:
        return None
    limit = whole_of(header, "PixelPaddingRangeLimit")
    ends = np.array([value, value if limit is None else limit], np.int64)
    low, high = sorted(int(end) for end in _with_sign(ends, allocated, signed))
    return low, high


def _lies_in_cells(header: Dataset, overlay: BaseTag) -> bool:
    bits = header[overlay].value if overlay in header else None
    return isinstance(bits, int) and bits > 1


def _with_sign(values: Array, bits: int, signed: bool) -> Array:
    """The lowest `bits` of int64 values, in two's complement where they are signed."""
    values = values & ((1 << bits) - 1)
    sign = 1 << (bits - 1)
    return (values ^ sign) - sign if signed else values
