"""What a synthetic DICOM image says about itself: that it is synthetic, what made it, from which image."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta, timezone

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import CTImageStorage

from lesionbrush import __version__
from lesionbrush.core.provenance import Provenance
from lesionbrush.files.dicom.headers import SYNTHETIC_DATA
from lesionbrush.files.dicom_export.attributes import ANONYMOUS_SCANNER, SCANNER, keep

MANUFACTURER = "LesionBrush"
_MODIFYING = ("109103", "Modifying Equipment")
_PROCESSING = ("109102", "Processing Equipment")
_ACQUIRING = ("109101", "Acquisition Equipment")
_SOURCE_IMAGE = ("121322", "Source image for image processing operation")


def describe_image(header: Dataset, original: Dataset, provenance: Provenance, anonymous: bool) -> None:
    """Write the labels into a slice's header. anonymous: the scanner is named by make and model alone."""
    offset = str(header.get("TimezoneOffsetFromUTC", ""))
    made = moment(provenance.created, offset)
    for event in ("Series", "Content", "InstanceCreation"):
        set_moment(header, event, made)
    header.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    header.ContentQualification = "RESEARCH"
    mark_synthetic(header)
    header.ImageComments = text(f"{provenance.mark}. {provenance.notice}", 1024)
    header.DerivationDescription = text(f"SYNTHETIC {_derivation(provenance)} Not for diagnosis.", 1024)
    header.Manufacturer, header.ManufacturerModelName = MANUFACTURER, text(provenance.model, 64)
    header.SoftwareVersions = text(__version__, 64)
    known = [*header.get("ContributingEquipmentSequence", ()), *_scanner(original, anonymous)]
    told = any(item.get("Manufacturer") == MANUFACTURER for item in known)  # by the series it is made from
    steps = [provenance] if told else _steps(provenance)
    made_by = [equipment(step, moment(step.created, offset)) for step in steps]
    header.ContributingEquipmentSequence = Items([*known, *made_by])


def _derivation(provenance: Provenance) -> str:
    lesion = f"lesion made by LesionBrush model {provenance.model}"
    if not provenance.generated:
        return f"{lesion}; outside the painted region and its margin all HU are those of the source images."
    if provenance.is_edit:
        return f"{lesion} in a CT that was generated as a whole by LesionBrush and shows nobody."
    return f"CT generated as a whole by LesionBrush model {provenance.model}; it shows nobody."


def _steps(provenance: Provenance) -> list[Provenance]:
    """All that was done by LesionBrush, the first first."""
    earlier = [] if provenance.made_from is None else _steps(provenance.made_from)
    return [*earlier, provenance]


def mark_synthetic(dataset: Dataset) -> None:
    """Synthetic Data (0008,001C) = YES."""
    dataset.add_new(SYNTHETIC_DATA, "CS", "YES")


def equipment(provenance: Provenance, made: datetime) -> Dataset:
    """The record of what made it, short enough for a tag; the whole one is the provenance sidecar."""
    item = Dataset()
    purpose = _MODIFYING if provenance.is_edit else _PROCESSING
    item.PurposeOfReferenceCodeSequence = Items([_make_code(*purpose)])
    item.Manufacturer, item.ManufacturerModelName = MANUFACTURER, text(provenance.model, 64)
    item.SoftwareVersions = text(__version__, 64)
    item.ContributionDateTime = made.strftime("%Y%m%d%H%M%S%z")
    what = "lesion" if provenance.is_edit else "CT, generated as a whole"
    changed = f"; {provenance.voxels_changed} voxels changed" if provenance.is_edit else ""
    item.ContributionDescription = text(
        f"Synthetic {what}; seed {provenance.seed}; weights SHA-256 {provenance.weights_sha256} "
        f"({provenance.weights_license}){changed}",
        1024,
    )
    return item


def reference_original(header: Dataset, original: Dataset) -> None:
    """Point from a slice to the one it is made from, where that has UIDs."""
    if not original.get("SOPInstanceUID") or not original.get("SeriesInstanceUID"):
        return
    image, instance, series = Dataset(), Dataset(), Dataset()
    for item in (image, instance):
        item.ReferencedSOPClassUID = original.get("SOPClassUID") or CTImageStorage
        item.ReferencedSOPInstanceUID = original.SOPInstanceUID
    image.SpatialLocationsPreserved = "YES"
    image.PurposeOfReferenceCodeSequence = Items([_make_code(*_SOURCE_IMAGE)])
    series.SeriesInstanceUID = original.SeriesInstanceUID
    series.ReferencedInstanceSequence = Items([instance])
    header.SourceImageSequence, header.ReferencedSeriesSequence = Items([image]), Items([series])


def name_fresh_study(headers: Iterable[Dataset], provenance: Provenance, deidentified: bool) -> None:
    """Patient and study of a CT that must not, or cannot, say whose it was."""
    made = moment(provenance.created)
    for header in headers:
        header.PatientName = "SYNTHETIC^LesionBrush"
        header.PatientID = f"SYNTHETIC-{str(header.StudyInstanceUID)[-12:]}"
        header.StudyDescription = "SYNTHETIC GENERATED CT" if provenance.generated else "SYNTHETIC CT"
        set_moment(header, "Study", made)
        if deidentified:
            _say_deidentified(header, "technical CT attributes kept, all others left out")


def name_copied_study(headers: Iterable[Dataset], mark: str) -> None:
    """Patient, study and series of a CT that nothing was put into, and that must not say whose it is.

    mark: of one that was synthetic before, "" of any other.
    """
    for header in headers:
        if mark:
            mark_synthetic(header)
            header.ImageComments = mark
        header.PatientName, header.StudyDescription = "ANONYMOUS", "CT"
        header.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
        header.ContentQualification = "RESEARCH"
        header.SeriesDescription = f"{mark} CT, HU unchanged".strip()
        header.DerivationDescription = "HU are those of the source images. Not for diagnosis."
        header.Manufacturer, header.SoftwareVersions = MANUFACTURER, text(__version__, 64)
        _say_deidentified(header, "place and HU kept, all other attributes left out")


def _say_deidentified(header: Dataset, how: str) -> None:
    header.PatientIdentityRemoved, header.DeidentificationMethod = "YES", f"LesionBrush: {how}"


def set_moment(header: Dataset, event: str, made: datetime) -> None:
    setattr(header, f"{event}Date", made.strftime("%Y%m%d"))
    setattr(header, f"{event}Time", made.strftime("%H%M%S"))


def moment(created: str, offset: str = "") -> datetime:
    """When it was made, in the time zone the header declares ("+0100"), else in this machine's."""
    at = datetime.fromisoformat(created)
    if len(offset) == 5 and offset[0] in "+-" and offset[1:].isdecimal():
        minutes = int(offset[1:3]) * 60 + int(offset[3:])
        return at.astimezone(timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes)))
    return at.astimezone()


def text(value: str, length: int) -> str:
    """ASCII, which every character set of DICOM holds, without the backslash; at most `length` characters."""
    return " ".join(value.encode("ascii", "replace").decode().replace("\\", "/").split())[:length]


def _make_code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
    return code


def _scanner(original: Dataset, anonymous: bool) -> list[Dataset]:
    item = keep(original, ANONYMOUS_SCANNER if anonymous else SCANNER)
    if item.get("Manufacturer", MANUFACTURER) == MANUFACTURER:  # a synthetic CT edited again
        return []
    item.PurposeOfReferenceCodeSequence = Items([_make_code(*_ACQUIRING)])
    return [item]
