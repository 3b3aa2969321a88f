"""Whether a slice is a CT in HU, or what else it says to be."""

from __future__ import annotations

import math
import re

from pydicom.dataset import Dataset
from pydicom.uid import (
    JPEG2000,
    CTImageStorage,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    UID_dictionary,
)

from lesionbrush.errors import NotACT, UnsupportedSeries
from lesionbrush.files.dicom.headers import items_of, name_of, number, text_of, texts_of, whole_of

KEYWORDS = (
    "SOPClassUID", "Modality", "ImageType", "SamplesPerPixel", "NumberOfFrames", "PhotometricInterpretation",
    "RescaleSlope", "RescaleIntercept", "RescaleType", "RealWorldValueMappingSequence",
    "LossyImageCompression",
)  # fmt: skip

_LOSSY, _PERHAPS_LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit), (JPEGLSNearLossless, JPEG2000)
_GREY = ("MONOCHROME1", "MONOCHROME2")
_HU = ("HU", "HOUNSFIELD", "HOUNSFIELD UNIT", "HOUNSFIELD UNITS", "HNSF'U", "[HNSF'U]")
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
# Values of ImageType, of DICOM PS3.3 C.8.15.3.10 and of vendors; "_" stands for a blank or a hyphen, too.
_SCOUTS = ("LOCALIZER", "SCOUT", "SCANOSCOPE", "TOPOGRAM", "TOPO", "SURVIEW", "SCANOGRAM")
_PICTURES = ("SCREEN_SAVE", "SCREENSHOT", "DOSE_INFO", "DOSE", "VRT", "VOLUME_RENDERING", "3D_RENDERING")
_MAPS = re.compile(
    r"MAT_(SPECIFIC|VALUE_BASED|FRACTIONAL)|MATERIAL_DENSITY|MD_\w+|EFF_ATOMIC_NUM|Z_?EFF(ECTIVE)?|RHO(_Z)?"
    r"|ELECTRON_DENS(ITY)?|IODINE(_(MAP|DENSITY|CONCENTRATION|OVERLAY|NO_WATER))?|URIC_ACID(_MAP)?"
    r"|R?C?B[FV]|MTT|TTP|TTD|TMAX|PBV|PERFUSED_BLOOD_VOLUME|(BLOOD|CEREBRAL)_(FLOW|VOLUME)"
    r"|PERMEABILITY|FLOW_EXTRACTION_PRODUCT|MEAN_TRANSIT_TIME|TIME_TO_PEAK"
)
"""Computed from CT, and no attenuation whatever the unit."""
_CHANGED = ("MAT_MODIFIED", "MAT_REMOVED", "SUBTRACTION", "SUB", "PERFUSION")
"""A CT where the file says HU; without that, it may be a difference or a map."""


def is_lossy(header: Dataset) -> bool:
    """Whether the pixels were compressed with loss, once or now. Some ways only allow for loss."""
    said, syntax = text_of(header, "LossyImageCompression"), text_of(header.file_meta, "TransferSyntaxUID")
    return said == "01" or syntax in _LOSSY or (syntax in _PERHAPS_LOSSY and said != "00")


def is_localizer(header: Dataset) -> bool:
    return any(kind in _SCOUTS for kind in _kinds(header))


def require_hu(header: Dataset) -> None:
    """Raise NotACT, or UnsupportedSeries for colour and multi-frame images, unless the slice holds HU."""
    name = name_of(header)
    modality = text_of(header, "Modality")
    if modality.upper() != "CT":
        raise NotACT(
            f"the series has modality {modality or 'unknown'}, a CT is needed ({name}){_hint(modality)}"
        )
    unit = _require_hu_unit(header, name)
    _require_one_scale(header, name)
    _require_stored_as_ct(header, name)
    _require_no_map(header, name, unit)
    _require_one_grey_frame(header, name)


def _hint(modality: str) -> str:
    if modality.upper() not in ("SEG", "RTSTRUCT"):
        return ""
    return ": save the segmentation as NRRD or NIfTI on the grid of its CT first, in 3D Slicer for example"


def _kinds(header: Dataset) -> list[str]:
    return [re.sub(r"[\s-]+", "_", value.upper()) for value in texts_of(header, "ImageType")]


def _require_hu_unit(header: Dataset, name: str) -> str:
    """The unit that the file names, "" where it names none, which means HU in a CT."""
    units = texts_of(header, "RescaleType")
    for unit in units:
        plain = " ".join(unit.upper().split())
        if plain and plain not in _HU:
            meaning = _UNITS.get(plain, f"{unit!r}")
            raise NotACT(
                f"the series is in {meaning}, not HU (RescaleType {unit} in {name}): choose the CT itself"
            )
    return "HU" if any(units) else ""


def _require_one_scale(header: Dataset, name: str) -> None:
    """A real world value mapping has to say what slope and intercept say."""
    for mapping in items_of(header, "RealWorldValueMappingSequence"):
        for code in items_of(mapping, "MeasurementUnitsCodeSequence"):
            mapped_to = text_of(code, "CodeValue")
            if mapped_to and mapped_to.upper() not in _HU:
                raise NotACT(f"{name} maps its values to {mapped_to} (RealWorldValueMapping), not to HU")
        for keyword in ("Slope", "Intercept"):
            own, mapped = text_of(header, f"Rescale{keyword}"), text_of(mapping, f"RealWorldValue{keyword}")
            if own and mapped and not math.isclose(_float(own), _float(mapped), rel_tol=1e-6, abs_tol=1e-6):
                raise NotACT(
                    f"{name} states two HU for each value: Rescale{keyword} {own}, RealWorldValue{keyword} "
                    f"{mapped}; export the series again"
                )


def _float(text: str) -> float:
    """NaN, which is like nothing, for what is no number."""
    try:
        return number(text)
    except ValueError:
        return math.nan


def _require_stored_as_ct(header: Dataset, name: str) -> None:
    sop_class = text_of(header, "SOPClassUID") or CTImageStorage
    known = UID_dictionary.get(sop_class, ("",))[0]
    if "Enhanced CT" in known:
        raise UnsupportedSeries(f"{name} is an enhanced CT ({known}): convert it to NIfTI first")
    if known and "CT Image" not in known:
        raise NotACT(f"{name} is stored as {known}, not as CT: choose the series that the scanner made")


def _require_no_map(header: Dataset, name: str, unit: str) -> None:
    image_type = text_of(header, "ImageType")
    is_original = _kinds(header)[:2] == ["ORIGINAL", "PRIMARY"]
    for kind in _kinds(header):
        if is_original and kind in (*_PICTURES, *_CHANGED):  # how it was taken, not what was made of it
            continue
        if kind in _SCOUTS or kind in _PICTURES:
            what = "localizer (scout view)" if kind in _SCOUTS else "picture made from a CT"
            raise NotACT(f"{name} is a {what}, no slice of a CT (ImageType {image_type})")
        if _MAPS.fullmatch(kind):
            raise NotACT(f"{name} is a map computed from CT (ImageType {image_type}) and holds no HU")
        if kind in _CHANGED and not unit:
            raise NotACT(
                f"{name} is made from several CTs or materials (ImageType {image_type}) and does not say "
                "that it is in HU: choose the CT itself"
            )


def _require_one_grey_frame(header: Dataset, name: str) -> None:
    if (whole_of(header, "SamplesPerPixel") or 1) != 1:
        samples = text_of(header, "SamplesPerPixel")
        raise UnsupportedSeries(f"{name} is a colour image ({samples} samples per pixel)")
    photometric = text_of(header, "PhotometricInterpretation")
    if photometric and photometric.upper() not in _GREY:
        raise UnsupportedSeries(
            f"{name} is a colour image (PhotometricInterpretation {photometric}): export the CT itself"
        )
    frames = texts_of(header, "NumberOfFrames")
    if frames and whole_of(header, "NumberOfFrames") != 1:
        raise UnsupportedSeries(f"{name} holds {frames[0]} frames in one file: convert it to NIfTI first")
