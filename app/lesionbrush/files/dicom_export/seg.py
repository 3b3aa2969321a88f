"""The painted lesion as a DICOM segmentation (SEG) of the synthetic series: highdicom writes and reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from highdicom.seg import Segmentation, SegmentDescription, segread
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.valuerep import format_number_as_ds

from lesionbrush import __version__
from lesionbrush.core.volume import Array, Volume
from lesionbrush.errors import DamagedFile, EmptyMask
from lesionbrush.files.dicom_export.attributes import PATIENT, STUDY, kept
from lesionbrush.files.dicom_export.labels import (
    MANUFACTURER,
    equipment,
    mark_synthetic,
    moment,
    set_moment,
    text,
)
from lesionbrush.files.dicom_export.series import SyntheticSeries, Uids, right_handed

LABEL = "Synthetic lesion"
_OF_THE_SLICE = (
    "StudyInstanceUID", "FrameOfReferenceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID",
    "Modality", "Rows", "Columns", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
    "SliceThickness",
)  # fmt: skip
_OF_THE_STUDY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
_ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
_LESION = Code("52988006", "SCT", "Lesion")


def lesion_seg(series: SyntheticSeries, mask: Volume, uids: Uids | None = None) -> Dataset:
    """One binary segment on the grid of the series; slices without lesion have no frame.

    mask: 0/1 on the grid of the synthetic CT (see `mask_on_grid`). Raises GeometryMismatch, EmptyMask.
    """
    uids = uids or Uids()
    lesion = right_handed(mask)
    series.volume.require_same_grid(lesion)
    if not lesion.array.any():
        raise EmptyMask("the mask is empty: there is no lesion to write")
    first, provenance = series.headers[0], series.provenance
    distance_mm = series.volume.spacing_mm[2]
    made = moment(provenance.created, str(first.get("TimezoneOffsetFromUTC", "")))
    seg = Segmentation(
        source_images=[_bare(header, distance_mm) for header in series.headers],
        pixel_array=np.ascontiguousarray(lesion.array.T > 0, np.uint8),
        segmentation_type="BINARY",
        segment_descriptions=[_segment(uids)],
        series_instance_uid=uids.new("seg series"),
        series_number=first.SeriesNumber + 1,
        sop_instance_uid=uids.new("seg"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=text(provenance.model, 64),
        software_versions=__version__,
        device_serial_number=provenance.weights_sha256[:16],
        content_label="SYNTHETIC_LESION",
        content_description="Mask of a SYNTHETIC lesion, painted in LesionBrush",
        series_description=text(f"SYNTHETIC lesion mask {provenance.model}", 64),
    )
    for event in ("Series", "Content", "InstanceCreation"):
        set_moment(seg, event, made)
    _join_study(seg, first)
    seg.ContributingEquipmentSequence = [equipment(provenance, made)]
    mark_synthetic(seg)
    _name_dimensions(seg, uids)
    return seg


def read_seg(path: Path, volume: Volume, headers: list[Dataset]) -> Volume:
    """Each segment by its number, 0 elsewhere, on the grid of the series it belongs to.

    headers: of all slices, along k. Raises DamagedFile, also where segments overlap or are no masks.
    """
    try:
        seg = segread(path)
        if seg.ReferencedSeriesSequence[0].SeriesInstanceUID != headers[0].SeriesInstanceUID:
            raise DamagedFile(f"{path.name} is a segmentation of another series")
        found = seg.get_pixels_by_source_instance(
            [header.SOPInstanceUID for header in headers],
            combine_segments=True,
            assert_missing_frames_are_empty=True,
        )
    except (OSError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        raise DamagedFile(f"{path.name} is no segmentation of this series") from error
    array: Array = np.asarray(found).T
    return Volume(array, volume.affine)


def _segment(uids: Uids) -> SegmentDescription:
    return SegmentDescription(
        segment_number=1,
        segment_label=LABEL,
        segmented_property_category=_ABNORMAL,
        segmented_property_type=_LESION,
        algorithm_type="MANUAL",
        tracking_uid=uids.new("lesion"),
        tracking_id=LABEL,
    )


def _bare(header: Dataset, distance_mm: float) -> Dataset:
    """The slice's place and UIDs. highdicom fails on what real files say of patients; that comes later.

    A SEG needs a slice thickness, a CT may leave it empty: then the slices are as thick as they are apart.
    """
    bare = kept(header, _OF_THE_SLICE)
    if bare.get("SliceThickness", 0) <= 0:
        bare.SliceThickness = format_number_as_ds(float(distance_mm))
    for keyword in _OF_THE_STUDY:
        setattr(bare, keyword, None)
    return bare


def _join_study(seg: Dataset, header: Dataset) -> None:
    """Patient and study exactly as the series has them."""
    for keyword in (*PATIENT, *STUDY):
        if keyword in header:
            seg[keyword] = header[keyword]


def _name_dimensions(seg: Dataset, uids: Uids) -> None:
    """highdicom takes a random UID here; a repeated export with a key shall be the same to the last byte."""
    dimensions = uids.new("seg dimensions")
    for item in (*seg.DimensionOrganizationSequence, *seg.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimensions
