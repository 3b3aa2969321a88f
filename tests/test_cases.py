"""Odd files that hospitals have: the right HU and the right place, or a sentence that says what to do."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from case_kit import case
from lesionbrush.core.volume import Volume, mask_on_grid, require_ct
from lesionbrush.errors import DamagedFile, LesionBrushError, NotACT, UnsupportedSeries
from lesionbrush.files.io import read_volume
from volume_fixtures import Grid, assert_same_hu_in_space, by_itk


def stored(folder: Path, names: str = "*") -> np.ndarray:
    """(column, row, slice): what pydicom finds in the pixels, slices by position."""
    slices = [pydicom.dcmread(path, force=True) for path in folder.glob(names)]
    for header in slices:
        header.file_meta.setdefault("TransferSyntaxUID", pydicom.uid.ExplicitVRLittleEndian)
    slices.sort(key=lambda header: header.ImagePositionPatient[2])
    return np.stack([header.pixel_array.T for header in slices], axis=-1).astype(np.int64)


class TestHU:
    def test_monochrome1_is_shown_the_other_way_round_and_is_no_other_hu(self, tmp_path: Path) -> None:
        folder = case("monochrome1", "series.tar.gz", tmp_path)
        volume = read_volume(folder)
        assert np.array_equal(volume.array, stored(folder))
        assert (volume.array.min(), volume.array.max()) == (-1024, 345)

    @pytest.mark.filterwarnings("ignore")
    def test_a_decimal_comma_is_a_decimal_point(self, tmp_path: Path) -> None:
        folder = case("decimal_comma_slope", "series.tar.gz", tmp_path)
        volume = read_volume(folder)
        assert np.array_equal(volume.array, stored(folder) * 0.5 - 1024)
        assert volume.array.max() == 356
        assert "RescaleSlope 0,5 has decimal commas" in str(volume.source.remarks)

    def test_a_deflated_series_is_read(self, tmp_path: Path) -> None:
        folder = case("deflated", "series.tar.gz", tmp_path)
        slope_and_intercept = {
            (d.RescaleSlope, d.RescaleIntercept) for d in map(pydicom.dcmread, folder.iterdir())
        }
        ((slope, intercept),) = slope_and_intercept
        assert np.array_equal(read_volume(folder).array, stored(folder) * slope + intercept)

    def test_an_iodine_map_is_said_to_be_one(self, tmp_path: Path) -> None:
        with pytest.raises(NotACT, match=r"in mg/ml.*not HU .RescaleType MGML in IM0001.dcm"):
            read_volume(case("rescale_type_not_hu", "series.tar.gz", tmp_path))


class TestWhichFiles:
    def test_without_a_preamble(self, tmp_path: Path) -> None:
        folder = case("no_preamble", "series.tar.gz", tmp_path)
        assert np.array_equal(read_volume(folder).array, stored(folder) - 1024)

    def test_the_last_two_without_a_preamble(self, tmp_path: Path) -> None:
        volume = read_volume(case("extensionless_incomplete", "last_two_without_preamble.tar.gz", tmp_path))
        assert volume.shape == (48, 48, 16)
        assert volume.source.remarks == ()

    def test_the_last_one_empty(self, tmp_path: Path) -> None:
        folder = case("extensionless_incomplete", "last_file_empty.tar.gz", tmp_path)
        with pytest.raises(
            DamagedFile, match=r"^IM000016 is named like a DICOM file and is none: it is empty"
        ):
            read_volume(folder)

    def test_what_macos_leaves_behind(self, tmp_path: Path) -> None:
        folder = case("macos_appledouble", "series.tar.gz", tmp_path)
        volume = read_volume(folder)
        header = pydicom.dcmread(folder / "IM0001.dcm")
        hu = stored(folder, "IM*") * header.RescaleSlope + header.RescaleIntercept
        assert np.array_equal(volume.array, hu)
        (remark,) = volume.source.remarks
        assert remark.startswith("16 files of its folder were used, 2 were not (files of macOS")


class TestGeometry:
    def test_two_geometries_in_one_header(self, tmp_path: Path) -> None:
        with pytest.raises(DamagedFile) as caught:
            read_volume(case("sform_qform_flip", "ct.nii.gz", tmp_path))
        text = str(caught.value)
        assert "sform (code 2): axes to LPS, 1 x 1 x 2 mm, first voxel at (23.5, 23.5, -50) mm RAS" in text
        assert "qform (code 1): axes to RPS, 1 x 1 x 2 mm, first voxel at (-23.5, 23.5, -50) mm RAS" in text

    def test_its_remedy_works_and_the_lesion_is_where_it_was_painted(self, tmp_path: Path) -> None:
        image = nib.load(case("sform_qform_flip", "ct.nii.gz", tmp_path))
        image.set_sform(image.get_qform(), code=1)
        nib.save(image, tmp_path / "fixed.nii.gz")
        painted = read_volume(case("sform_qform_flip", "mask_as_slicer_saves_it.nrrd", tmp_path))
        lesion = mask_on_grid(painted, require_ct(read_volume(tmp_path / "fixed.nii.gz")))
        centre = np.argwhere(lesion.array).mean(axis=0)
        assert np.allclose(centre, (34, 24, 12), atol=0.5)

    def test_a_quaternion_that_was_rounded(self, tmp_path: Path) -> None:
        path = case("qform_rounding", "ct.nii.gz", tmp_path)
        volume = read_volume(path)
        assert_same_hu_in_space(by_itk(path), Grid(volume.array, volume.affine))

    @pytest.mark.parametrize("name", ["tilt3_ct.nii.gz", "tilt3_m.nii.gz"])
    def test_shear_is_a_gantry_tilt(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(UnsupportedSeries, match=rf"^{name}.*as with a gantry tilt of 25.0 degrees"):
            read_volume(case("sheared_nifti", name, tmp_path))


def test_segments_that_overlap_are_named_with_a_way_out(tmp_path: Path) -> None:
    path = case("overlapping_segments", "two_layers.seg.nrrd", tmp_path)
    with pytest.raises(
        NotACT, match=r"^two_layers.seg.nrrd: a list of 2 volumes, .*segments overlap: save one"
    ):
        read_volume(path)


def test_every_case_reads_or_says_why(tmp_path: Path) -> None:
    root = case("monochrome1", "mask.nii.gz", tmp_path).parents[1]
    for number, path in enumerate(sorted(root.glob("*/*"))):
        if path.suffix == ".md":
            continue
        try:
            assert isinstance(read_volume(case(path.parent.name, path.name, tmp_path / f"{number}")), Volume)
        except LesionBrushError as error:
            assert len(str(error)) > 30  # noqa: PT017, both outcomes are right


def test_itk_would_have_inverted_monochrome1(tmp_path: Path) -> None:
    """Why ITK's reader is not asked what a value means."""
    path = case("monochrome1", "series.tar.gz", tmp_path) / "IM0001.dcm"
    header = pydicom.dcmread(path)
    assert not np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[0], header.pixel_array)
