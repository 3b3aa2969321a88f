"""Which attributes of an original CT a series derived from it keeps. What is not named here is not copied.

An allow-list, because the other way round forgets: private tags, thumbnails, overlays, VOI tables, padding
and value ranges of the old pixels, signatures, procedure steps and dose reports would say what is not so.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydicom.dataset import Dataset

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
    "Laterality", "ProtocolName", "AcquisitionNumber", "AcquisitionDate", "AcquisitionTime",
    "AcquisitionDateTime", "PatientOrientation", "ContrastBolusAgent", "ContrastBolusRoute",
    "ContrastBolusVolume", "ContrastBolusTotalDose", "ContrastFlowRate", "ContrastBolusIngredient",
    "ContrastBolusIngredientConcentration", "ContributingEquipmentSequence",
)  # fmt: skip
TECHNICAL = (
    "BodyPartExamined", "PatientPosition", "InstanceNumber", "BurnedInAnnotation",
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

IDENTIFIED = (*PATIENT, *STUDY, *ACQUISITION, *TECHNICAL)


def kept(source: Dataset, keywords: Iterable[str]) -> Dataset:
    """A new dataset with those attributes of `source` that have a value, as they are written there."""
    header = Dataset()
    for keyword in keywords:
        if keyword in source and not source[keyword].is_empty:
            header.add(source[keyword])
    header.remove_private_tags()
    return header
