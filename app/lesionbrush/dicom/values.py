"""What the stored values of a slice mean: told from its tags, before any pixel is used, and nothing else.

HU = stored x RescaleSlope + RescaleIntercept (DICOM PS3.3 C.11.1). The photometric interpretation says how a
value is shown, black or white, and changes none. What the file does not say is not assumed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, UID_dictionary

from lesionbrush.dicom.headers import items_of, name_of, number, shown, text_of, texts_of, whole_of
from lesionbrush.errors import DamagedFile, NotACT, UnsupportedSeries
from lesionbrush.volume import Array

KEYWORDS = (
    "SOPClassUID", "Modality", "ImageType", "SamplesPerPixel", "NumberOfFrames", "PhotometricInterpretation",
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue",
    "PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence",
    "RealWorldValueMappingSequence",
)  # fmt: skip
AIR_HU = -1024
LOCALIZER = "LOCALIZER"

_INT16 = np.iinfo(np.int16)
_GREY = ("MONOCHROME1", "MONOCHROME2")
_HU = ("HU", "HOUNSFIELD", "HOUNSFIELDUNIT", "HOUNSFIELDUNITS")
_UNITS = {
    "MGML": "mg/ml, as in a map of iodine or another material",
    "Z_EFF": "effective atomic number",
    "ED": "electron density",
    "EDW": "electron density relative to water",
    "HU_MOD": "modified Hounsfield units",
    "PCT": "per cent",
    "OD": "optical density",
    "US": "a unit that the file leaves unspecified",
}
_MAPS = re.compile(
    r"MAT_(SPECIFIC|VALUE_BASED|FRACTIONAL)|EFF_ATOMIC_NUM|Z_?EFF|ELECTRON_DENSITY|.*IODINE.*|.*MATERIAL.?DENS.*"
    r"|CBF|CBV|MTT|TTP|TMAX|.*PERFUSION.*"
)
"""Values of ImageType (DICOM PS3.3 C.8.15.3.10, and vendors' own): computed from CT, and no HU."""
_CHANGED = ("MAT_MODIFIED", "MAT_REMOVED")
"""HU of tissue without one of its materials: a CT where the file says HU."""
_HU_UNIT = "[hnsf'U]"
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

    def stored(self, cells: Array) -> Array:
        """Integers. cells: unsigned, of `bits_allocated` bits; bits that store nothing are not used."""
        if self.bits_stored == self.bits_allocated:
            return cells.view(f"i{cells.itemsize}") if self.signed else cells
        values = cells.astype(np.int64) >> (self.high_bit + 1 - self.bits_stored)
        return _with_sign(values, self.bits_stored, self.signed)

    def hounsfield(self, cells: Array, name: str) -> tuple[Array, int]:
        """int16 HU of the same shape, and how many padded cells are `AIR_HU` as 16 bits cannot hold them.

        name: of the file. Raises NotACT for tissue beyond 16 bits.
        """
        stored = self.stored(cells)
        hu = np.rint(stored * self.slope + self.intercept)
        if hu.min() >= _INT16.min and hu.max() <= _INT16.max:
            return hu.astype(np.int16), 0
        beyond = (hu < _INT16.min) | (hu > _INT16.max)
        low, high = self.padding or (1, 0)
        if not ((low <= stored[beyond]) & (stored[beyond] <= high)).all():
            raise NotACT(f"{name} holds values from {hu.min():g} to {hu.max():g}, beyond 16-bit HU")
        hu[beyond] = AIR_HU
        return hu.astype(np.int16), int(beyond.sum())


def is_localizer(header: Dataset) -> bool:
    return LOCALIZER in (value.upper() for value in texts_of(header, "ImageType"))


def require_hu(header: Dataset) -> None:
    """Raise NotACT, or UnsupportedSeries for colour and multi-frame images, unless the slice holds HU."""
    name = name_of(header)
    modality = text_of(header, "Modality")
    if modality != "CT":
        raise NotACT(f"the series has modality {modality or 'unknown'}, a CT is needed")
    _require_hu_unit(header, name)
    _require_ct_image(header, name)
    if (whole_of(header, "SamplesPerPixel") or 1) != 1:
        samples = text_of(header, "SamplesPerPixel")
        raise UnsupportedSeries(f"{name} is a colour image ({samples} samples per pixel)")
    photometric = text_of(header, "PhotometricInterpretation")
    if photometric and photometric not in _GREY:
        raise UnsupportedSeries(
            f"{name} is a colour image (PhotometricInterpretation {photometric}): export the CT itself"
        )
    frames = texts_of(header, "NumberOfFrames")
    if frames and whole_of(header, "NumberOfFrames") != 1:
        raise UnsupportedSeries(f"{name} holds {frames[0]} frames in one file: convert it to NIfTI first")


def _require_ct_image(header: Dataset, name: str) -> None:
    if is_localizer(header):
        raise NotACT(
            f"{name} is a localizer (scout view; ImageType {text_of(header, 'ImageType')}), no slice of a CT"
        )
    sop_class = text_of(header, "SOPClassUID") or CTImageStorage
    known = UID_dictionary.get(sop_class, ("",))[0]
    if known and "CT Image" not in known:
        raise NotACT(f"{name} is stored as {known}, not as CT: choose the series that the scanner made")
    for value in texts_of(header, "ImageType"):
        if _MAPS.fullmatch(value.upper()):
            raise NotACT(
                f"{name} is a map computed from CT (ImageType {text_of(header, 'ImageType')}) and holds no HU"
            )


def _require_hu_unit(header: Dataset, name: str) -> None:
    unit = text_of(header, "RescaleType")
    plain = re.sub(r"[^A-Z_]", "", unit.upper())
    if plain and plain not in _HU:
        meaning = _UNITS.get(plain, f"{unit!r}")
        raise NotACT(
            f"the series is in {meaning}, not HU (RescaleType {unit} in {name}): choose the CT itself"
        )
    changed = [value for value in texts_of(header, "ImageType") if value.upper() in _CHANGED]
    if changed and not plain:
        raise NotACT(
            f"{name} is a CT with a material taken out ({changed[0]}) and does not say that it is in HU"
        )
    for mapping in items_of(header, "RealWorldValueMappingSequence"):
        for code in items_of(mapping, "MeasurementUnitsCodeSequence"):
            mapped_to = text_of(code, "CodeValue")
            if mapped_to not in ("", _HU_UNIT):
                raise NotACT(f"{name} maps its values to {mapped_to} (RealWorldValueMapping), not to HU")


def read_stored_values(header: Dataset) -> StoredValues:
    """Raises NotACT where the file does not say which HU its values are, UnsupportedSeries, DamagedFile."""
    name = name_of(header)
    rows, columns = _size(header, name)
    allocated, bits, high, representation = _bits(header, name)
    signed = representation == 1
    slope, intercept = _rescale(header, name)
    padding = _padding(header, allocated, bits, signed)
    return StoredValues(rows, columns, allocated, bits, high, signed, slope, intercept, padding)


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
    if "ModalityLUTSequence" in header:
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
            raise NotACT(f"{name} has {keyword} {shown(said)}: one number is needed") from error
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


def _padding(header: Dataset, allocated: int, bits: int, signed: bool) -> tuple[int, int] | None:
    value = whole_of(header, "PixelPaddingValue")
    if value is None:
        return None
    limit = whole_of(header, "PixelPaddingRangeLimit")
    low, high = sorted(
        int(_with_sign(np.array([end]), bits if end >= 0 else allocated, signed)[0])
        for end in (value, value if limit is None else limit)
    )
    return low, high


def _with_sign(values: Array, bits: int, signed: bool) -> Array:
    """The lowest `bits` of int64 values, in two's complement where they are signed."""
    values = values & ((1 << bits) - 1)
    sign = 1 << (bits - 1)
    return (values ^ sign) - sign if signed else values
