"""The mask as DICOM SEG: the same voxels in the same places, by three readers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pydicom_seg
import pytest
import SimpleITK as sitk  # noqa: N813
from dicom_fixtures import AXIAL
from dicom_kit import Case, make_case, record
from highdicom._iods import IOD_MODULE_MAP
from highdicom._module_utils import check_required_attributes
from lesionbrush.core.volume import Volume
from lesionbrush.errors import DamagedFile, EmptyMask, GeometryMismatch
from lesionbrush.files.dicom_export.case import DicomCase, export_case
from lesionbrush.files.dicom_export.seg import Segments, make_seg, read_seg
from lesionbrush.files.dicom_export.series import SyntheticSeries, derive_series

OBLIQUE = (0.96, 0.28, 0.0, -0.224, 0.768, 0.6)


@pytest.fixture(params=[AXIAL, OBLIQUE], ids=["axial", "oblique"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    return make_case(tmp_path / "in", orientation=request.param)


@pytest.fixture
def written(case: Case, tmp_path: Path) -> tuple[Path, SyntheticSeries]:
    prepared = DicomCase.prepare(case.synthetic, case.mask, case.provenance, case.reference)
    export_case(prepared, tmp_path / "out")
    return tmp_path / "out" / "seg" / "00001.dcm", prepared.series


def test_reads_back_as_it_was_painted(case: Case, written: tuple[Path, SyntheticSeries]) -> None:
    path, series = written
    found = read_seg(path, series.volume, series.headers)
    assert np.array_equal(found.array, case.mask.array)
    assert np.array_equal(found.affine, case.reference.volume.affine)


def test_lies_where_the_synthetic_ct_has_it(case: Case, written: tuple[Path, SyntheticSeries]) -> None:
    """pydicom-seg and SimpleITK: the SEG holds the lesion's slices alone, each voxel in its place."""
    path, _ = written
    image = pydicom_seg.SegmentReader().read(pydicom.dcmread(path)).segment_image(1)
    mask = sitk.GetArrayFromImage(image).T
    assert mask.sum() == case.mask.array.sum()
    for index in np.argwhere(mask):
        lps = image.TransformIndexToPhysicalPoint([int(i) for i in index])
        ras = np.array([*lps, 1.0]) * [-1, -1, 1, 1]
        voxel = np.linalg.inv(case.mask.affine) @ ras
        assert np.allclose(voxel, np.rint(voxel), atol=1e-6)
        assert case.mask.array[tuple(np.rint(voxel[:3]).astype(int))] == 1


def test_belongs_to_the_synthetic_series(written: tuple[Path, SyntheticSeries]) -> None:
    path, series = written
    seg = pydicom.dcmread(path)
    first = series.headers[0]
    assert seg.Modality == "SEG"
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "StudyDate", "AccessionNumber"):
        assert seg[keyword].value == first[keyword].value
    referenced = seg.ReferencedSeriesSequence[0]
    assert referenced.SeriesInstanceUID == series.series_uid
    known = {header.SOPInstanceUID for header in series.headers}
    assert {i.ReferencedSOPInstanceUID for i in referenced.ReferencedInstanceSequence} <= known
    assert seg[0x0008, 0x001C].value == "YES"
    assert "SYNTHETIC" in seg.SeriesDescription
    assert seg.SegmentSequence[0].SegmentAlgorithmType == "MANUAL"


def test_holds_what_the_standard_wants(written: tuple[Path, SyntheticSeries]) -> None:
    seg = pydicom.dcmread(written[0])
    for module in IOD_MODULE_MAP["segmentation"]:
        if module["usage"] == "M" and "functional" not in module["key"]:  # dciodvfy does
            check_required_attributes(seg, module["key"])


def test_follows_left_handed_axes(tmp_path: Path) -> None:
    affine = np.diag([0.7, -0.8, 2.5, 1.0])
    array = np.random.default_rng(0).integers(-1000, 1000, (5, 4, 3)).astype(np.int16)
    volume = Volume(array, affine)
    mask = np.zeros(array.shape, np.uint8)
    mask[1, 2, 0] = 1
    series = derive_series(volume, record(volume, volume))
    seg = make_seg(series, Segments.of_lesion(Volume(mask, affine)))
    frame = seg.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient
    assert [float(mm) for mm in frame] == [0, 0, 0]


def test_an_empty_mask_and_one_from_elsewhere_are_refused(case: Case) -> None:
    series = derive_series(case.synthetic, case.provenance, case.reference.slices)
    with pytest.raises(EmptyMask):
        make_seg(series, Segments.of_lesion(case.mask.with_array(case.mask.array * 0)))
    moved = case.mask.affine.copy()
    moved[:3, 3] += 10
    with pytest.raises(GeometryMismatch):
        make_seg(series, Segments.of_lesion(replace(case.mask, affine=moved)))


def test_a_seg_of_another_series_is_not_read(case: Case, written: tuple[Path, SyntheticSeries]) -> None:
    path, _ = written
    other = derive_series(case.synthetic, case.provenance, case.reference.slices)
    with pytest.raises(DamagedFile, match="of another series"):
        read_seg(path, other.volume, other.headers)
    with pytest.raises(DamagedFile, match="no segmentation"):
        read_seg(case.folder / "slice000.dcm", other.volume, other.headers)
