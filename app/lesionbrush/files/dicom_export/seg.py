"""What is where in a synthetic series, as a DICOM segmentation (SEG): highdicom writes and reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.seg import Segmentation, SegmentDescription, segread
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.valuerep import format_number_as_ds

from lesionbrush import __version__
from lesionbrush.core.generate import LESION
from lesionbrush.core.inputs import Layout
from lesionbrush.core.provenance import Provenance
from lesionbrush.core.volume import Array, Volume
from lesionbrush.errors import DamagedFile, EmptyMask
from lesionbrush.files.dicom_export.attributes import PATIENT, STUDY, keep
from lesionbrush.files.dicom_export.labels import (
    MANUFACTURER,
    equipment,
    mark_synthetic,
    moment,
    set_moment,
    text,
)
from lesionbrush.files.dicom_export.series import SyntheticSeries, Uids, make_right_handed

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
_ANATOMY = Code("123037004", "SCT", "Anatomical Structure")
_BY_NETWORK = Code("123110", "DCM", "Artificial Intelligence")


@dataclass(frozen=True, eq=False)
class Segments:
    """What a SEG holds. labels: 1, 2, ... of each segment, 0 elsewhere; names: of the segments, in order.

    painted: by a person; else it is what a model made, or was given to make.
    """

    labels: Volume
    names: tuple[str, ...]
    painted: bool = False

    @classmethod
    def of_lesion(cls, mask: Volume) -> Segments:
        """mask: 0/1, see `mask_on_grid`."""
        return cls(mask, (LABEL,), painted=True)

    @classmethod
    def of_layout(cls, layout: Layout) -> Segments:
        """In the order of the labels that have voxels. InvalidRequest for one without a name."""
        layout.require_named()
        stored = layout.labels.array
        known = np.union1d(0, np.unique(stored))
        numbers = np.empty(stored.shape, np.uint8 if known.size <= 256 else np.uint16, order="F")
        for k in range(stored.shape[2]):  # slice by slice: what finds them needs eight bytes a voxel
            numbers[:, :, k] = np.searchsorted(known, stored[:, :, k])
        names = tuple(layout.names[int(label)] for label in known[1:])
        return cls(layout.labels.with_array(numbers), names)

    @property
    def are_lesions(self) -> bool:
        return self.painted or set(self.names) == {LESION}

    @property
    def title(self) -> str:
        return "lesion mask" if self.are_lesions else "layout"

    @property
    def content(self) -> str:
        if not self.are_lesions:
            return "Structures of a SYNTHETIC CT made by LesionBrush"
        how = "painted in" if self.painted else "drawn by"
        return f"Mask of a SYNTHETIC lesion, {how} LesionBrush"


def make_seg(series: SyntheticSeries, segments: Segments, uids: Uids | None = None) -> Dataset:
    """Binary segments on the grid of the series; where a segment has no voxel in a slice there is no frame.

    Raises GeometryMismatch, EmptyMask.
    """
    uids = uids or Uids()
    labels = make_right_handed(segments.labels)
    series.volume.require_same_grid(labels)
    if not labels.array.any():
        raise EmptyMask(f"the {segments.title} is empty: there is nothing to write")
    first, provenance = series.headers[0], series.provenance
    distance_mm = series.volume.spacing_mm[2]
    made = moment(provenance.created, str(first.get("TimezoneOffsetFromUTC", "")))
    seg = Segmentation(
        source_images=[_bare(header, distance_mm) for header in series.headers],
        pixel_array=np.ascontiguousarray(labels.array.T),
        segmentation_type="BINARY",
        segment_descriptions=_descriptions(segments, provenance, uids),
        series_instance_uid=uids.new("seg series"),
        series_number=first.SeriesNumber + 1,
        sop_instance_uid=uids.new("seg"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=text(provenance.model, 64),
        software_versions=__version__,
        device_serial_number=provenance.weights_sha256[:16],
        content_label="SYNTHETIC_LESION" if segments.are_lesions else "SYNTHETIC_LAYOUT",
        content_description=segments.content,
        series_description=text(f"SYNTHETIC {segments.title} {provenance.model}", 64),
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


def _descriptions(segments: Segments, provenance: Provenance, uids: Uids) -> list[SegmentDescription]:
    """Their names say what they are; the codes tell a lesion from anatomy, and no more."""
    model = text(f"LesionBrush {provenance.model}", 64)
    network = AlgorithmIdentificationSequence(model, _BY_NETWORK, __version__)
    described = []
    for number, name in enumerate(segments.names, 1):
        is_lesion = segments.painted or name == LESION
        described.append(
            SegmentDescription(
                segment_number=number,
                segment_label=text(name, 64),
                segmented_property_category=_ABNORMAL if is_lesion else _ANATOMY,
                segmented_property_type=_LESION if is_lesion else _ANATOMY,
                algorithm_type="MANUAL" if segments.painted else "AUTOMATIC",
                algorithm_identification=None if segments.painted else network,
                tracking_uid=uids.new("segment", number),
                tracking_id=text(name, 64),
            )
        )
    return described


def _bare(header: Dataset, distance_mm: float) -> Dataset:
    """The slice's place and UIDs. highdicom fails on what real files say of patients; that comes later.

    A SEG needs a slice thickness, a CT may leave it empty: then the slices are as thick as they are apart.
    """
    bare = keep(header, _OF_THE_SLICE)
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
