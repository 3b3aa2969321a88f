"""Which attributes of an original CT a series derived from it keeps. What is not named here is not copied.

An allow-list, because the other way round forgets: private tags, thumbnails, overlays, VOI tables, padding
and value ranges of the old pixels, signatures, procedure steps and dose reports would say what is not so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from lesionbrush.files.dicom_export.elements import Source

PATIENT = (
    "SpecificCharacterSet", "TimezoneOffsetFromUTC", "PatientName", "PatientID", "IssuerOfPatientID",
    "PatientBirthDate", "PatientSex", "PatientAge", "PatientSize", "PatientWeight", "PatientIdentityRemoved",
    "DeidentificationMethod", "DeidentificationMethodCodeSequence",
)  # fmt: skip
STUDY = (
    "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber",
    "IssuerOfAccessionNumberSequence", "ReferringPhysicianName", "FrameOfReferenceUID",
    "PositionReferenceIndicator",
)  # fmt: skip
ACQUISITION = (
    "ProtocolName", "AcquisitionNumber", "AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime",
    "PatientOrientation", "ContrastBolusAgent", "ContrastBolusRoute", "ContrastBolusVolume",
    "ContrastBolusTotalDose", "ContrastFlowRate", "ContrastBolusIngredient",
    "ContrastBolusIngredientConcentration", "ContributingEquipmentSequence",
)  # fmt: skip
TECHNICAL = (
    "SpecificCharacterSet", "BodyPartExamined", "Laterality", "PatientPosition", "InstanceNumber",
    "BurnedInAnnotation",
    "LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness",
    "SpacingBetweenSlices", "SliceLocation",
    "WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction",
    "KVP", "ScanOptions", "DataCollectionDiameter", "ReconstructionDiameter", "DistanceSourceToDetector",
    "DistanceSourceToPatient", "GantryDetectorTilt", "TableHeight", "RotationDirection", "ExposureTime",
    "XRayTubeCurrent", "Exposure", "FilterType", "GeneratorPower", "FocalSpots", "ConvolutionKernel",
    "RevolutionTime", "SingleCollimationWidth", "TotalCollimationWidth", "TableSpeed", "TableFeedPerRotation",
    "SpiralPitchFactor", "ExposureModulationType", "CTDIvol", "DataCollectionCenterPatient",
    "ReconstructionTargetCenterPatient",
)  # fmt: skip
"""How the picture was made and where it lies: nothing of it names a person, a place or a day."""
SCANNER = (
    "Manufacturer", "ManufacturerModelName", "InstitutionName", "InstitutionAddress", "StationName",
    "InstitutionalDepartmentName", "DeviceSerialNumber", "SoftwareVersions", "SpatialResolution",
)  # fmt: skip
ANONYMOUS_SCANNER = ("Manufacturer", "ManufacturerModelName")
EMPTY_IF_UNKNOWN = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator", "PatientPosition",
    "AcquisitionNumber", "KVP", "SliceThickness",
)  # fmt: skip
"""Type 2: the standard wants them there, with or without a value."""

EMPTY_IF_INVALID = ("Laterality", "PatientOrientation", "ContrastBolusAgent")
"""Type 2, but of some images only: those where the original has it."""
ALLOWED = {
    "PatientSex": "M|F|O",
    "PatientIdentityRemoved": "YES|NO",
    "BurnedInAnnotation": "YES|NO",
    "LossyImageCompression": "00|01",
    "RotationDirection": "CW|CC",
    "Laterality": "R|L",
    "VOILUTFunction": "LINEAR|LINEAR_EXACT|SIGMOID",
    "TimezoneOffsetFromUTC": r"[+-](0\d|1[0-4])[0-5]\d",
}
"""Whole values: the standard takes no other."""

IDENTIFIED = (*PATIENT, *STUDY, *ACQUISITION, *TECHNICAL)
ORIGINAL = (
    *IDENTIFIED, *SCANNER, "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber",
    "SeriesDescription",
)  # fmt: skip
"""All that is ever asked of an original."""


def keep(source: Dataset, keywords: Iterable[str]) -> Dataset:
    """A new dataset with those attributes of `source` that have a valid value.

    One that says the same in a valid form is rewritten ("0,5" is 0.5); any other is left out, or empty where
    the standard wants that, and not guessed.
    """
    header, original = Dataset(), Source(source)
    for keyword in keywords:
        element = original.copy(keyword)
        if element is not None and _is_allowed(keyword, element):
            header.add(element)
        elif keyword in EMPTY_IF_INVALID and keyword in source:
            setattr(header, keyword, None)
    _leave_out_halves(header)
    return header


def _is_allowed(keyword: str, element: DataElement) -> bool:
    return keyword not in ALLOWED or bool(re.fullmatch(ALLOWED[keyword], element.value))


def _leave_out_halves(header: Dataset) -> None:
    """What the standard allows only beside another attribute, where that was left out."""
    centers, widths, names = (
        _count(header, f"Window{part}") for part in ("Center", "Width", "CenterWidthExplanation")
    )
    if not centers or centers != widths or not _has_width(header):
        _leave_out(header, "WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction")
    elif names != centers:
        _leave_out(header, "WindowCenterWidthExplanation")
    methods = _count(header, "DeidentificationMethod") + _count(header, "DeidentificationMethodCodeSequence")
    if not methods and header.get("PatientIdentityRemoved") == "YES":
        _leave_out(header, "PatientIdentityRemoved")


def _has_width(header: Dataset) -> bool:
    linear = header.get("VOILUTFunction", "LINEAR") == "LINEAR"
    narrowest = float(np.min(header.WindowWidth))
    return narrowest >= 1 if linear else narrowest > 0


def _count(header: Dataset, keyword: str) -> int:
    return int(header[keyword].VM) if keyword in header else 0


def _leave_out(header: Dataset, *keywords: str) -> None:
    for keyword in keywords:
        header.pop(keyword, None)
