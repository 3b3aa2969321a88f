"""Files in, files out: the same voxels at the same place, by readers that share no code with ours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from dicom_fixtures import Series, write_series
from lesionbrush.core.volume import Volume
from lesionbrush.files.io import read_volume, write_volume
from volume_fixtures import (
    OBLIQUE,
    ORIENTATIONS,
    SUFFIXES,
    Grid,
    affine_of,
    assert_same_hu_in_space,
    by_itk,
    by_nibabel,
    geometry_bytes,
    independently,
    random_hu,
    shifted,
    write_foreign,
)

SPACINGS_MM = ((0.5, 0.5, 5.0), (0.7, 0.9, 1.25))


class TestRoundTrip:
    @pytest.mark.parametrize("suffix_out", SUFFIXES)
    @pytest.mark.parametrize("suffix_in", SUFFIXES)
    @pytest.mark.parametrize("spacing_mm", SPACINGS_MM, ids=str)
    def test_an_oblique_volume_through_any_two_formats(
        self, tmp_path: Path, spacing_mm, suffix_in: str, suffix_out: str
    ) -> None:
        source, target = tmp_path / f"in{suffix_in}", tmp_path / f"out{suffix_out}"
        write_foreign(source, random_hu(), affine_of(OBLIQUE, spacing_mm))
        volume = read_volume(source)
        assert volume.array.dtype == np.int16
        assert volume.spacing_mm == pytest.approx(spacing_mm)
        write_volume(volume, target)
        assert_same_hu_in_space(independently(source), independently(target))
        assert_same_hu_in_space(independently(source), by_itk(target))

    @pytest.mark.parametrize(("order", "signs"), ORIENTATIONS, ids=str)
    def test_a_nifti_in_any_orientation_keeps_order_and_header(self, tmp_path: Path, order, signs) -> None:
        rotation = np.eye(3)[:, list(order)] * signs
        source, target = tmp_path / "in.nii", tmp_path / "out.nii"
        write_foreign(source, random_hu(), affine_of(rotation, (0.5, 0.5, 5.0)))
        volume = read_volume(source)
        assert np.array_equal(volume.array, random_hu())
        write_volume(volume.with_array(volume.array + 1), target)
        assert geometry_bytes(source) == geometry_bytes(target)
        moved = by_itk(target)
        assert_same_hu_in_space(by_nibabel(source), replace(moved, array=moved.array - 1))

    @pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
    def test_itk_finds_the_numbers_it_wrote(self, tmp_path: Path, suffix: str) -> None:
        source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
        write_foreign(source, random_hu(), affine_of(OBLIQUE, (0.7, 0.9, 1.25)))
        write_volume(read_volume(source), target)
        before, after = sitk.ReadImage(str(source)), sitk.ReadImage(str(target))
        for get in (sitk.Image.GetOrigin, sitk.Image.GetSpacing, sitk.Image.GetDirection):
            assert get(after) == pytest.approx(get(before), rel=1e-15, abs=1e-15)

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_a_cropped_volume_is_written_where_it_is(self, tmp_path: Path, suffix: str) -> None:
        source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
        write_foreign(source, random_hu(), affine_of(OBLIQUE, (0.7, 0.9, 1.25)))
        write_volume(read_volume(source).crop((slice(1, 5), slice(2, 5), slice(1, 4))), target)
        whole, part = independently(source), independently(target)
        assert_same_hu_in_space(part, Grid(whole.array[1:5, 2:5, 1:4], shifted(whole.affine, (1, 2, 1))))

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_a_dicom_series_becomes_a_file(self, tmp_path: Path, suffix: str) -> None:
        series = Series(random_hu(), orientation=(0.96, 0.28, 0.0, -0.224, 0.768, 0.6))
        paths = write_series(tmp_path / "series", series)
        target = tmp_path / f"out{suffix}"
        write_volume(read_volume(tmp_path / "series"), target)
        image = sitk.ReadImage([str(path) for path in paths])
        sitk.WriteImage(image, str(tmp_path / "itk.mha"))
        assert_same_hu_in_space(by_itk(tmp_path / "itk.mha"), independently(target))

    def test_a_real_nodule_keeps_header_and_voxels(self, data_dir: Path, tmp_path: Path) -> None:
        source = sorted((data_dir / "lidc_nodules" / "images").glob("*.nii.gz"))[0]
        write_volume(read_volume(source), tmp_path / "out.nii.gz")
        assert geometry_bytes(source) == geometry_bytes(tmp_path / "out.nii.gz")
        assert_same_hu_in_space(by_nibabel(source), by_nibabel(tmp_path / "out.nii.gz"))


class TestPixelTypes:
    @pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha"])
    @pytest.mark.parametrize(
        ("stored", "written", "expected"),
        [
            ("i2", "i2", "i2"),
            ("i4", "i2", "i4"),
            ("u2", "i2", "i2"),
            ("f4", "i2", "i2"),
            ("i2", "i4", "i2"),
            ("i2", "u1", "u1"),
            ("i2", "?", "u1"),
        ],
    )
    def test_the_reference_pixel_type_is_kept_where_it_fits(
        self, tmp_path: Path, suffix: str, stored: str, written: str, expected: str
    ) -> None:
        hu = random_hu() + (1000 if stored == "u2" else 0)
        write_foreign(tmp_path / f"in{suffix}", hu.astype(stored), np.eye(4))
        result = (random_hu() > 0 if written in ("?", "u1") else random_hu()).astype(written)
        write_volume(read_volume(tmp_path / f"in{suffix}").with_array(result), tmp_path / f"out{suffix}")
        found = independently(tmp_path / f"out{suffix}").array
        assert found.dtype == np.dtype(expected)
        assert np.array_equal(found, result)

    def test_wider_values_than_int16_are_never_cut(self, tmp_path: Path) -> None:
        wide = random_hu().astype(np.int32) * 1000
        write_volume(Volume(wide, np.eye(4)), tmp_path / "out.nii")
        assert np.array_equal(by_nibabel(tmp_path / "out.nii").array, wide)

    def test_fractions_are_not_written(self, tmp_path: Path) -> None:
        with pytest.raises(TypeError, match="whole numbers, not float32"):
            write_volume(Volume(random_hu().astype(np.float32), np.eye(4)), tmp_path / "out.nii")


class TestNote:
    NOTE = "Synthetic CT: lung_lesion,\nseed 7, größer " + "x" * 200

    @pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
    def test_nifti_keeps_80_bytes_and_no_broken_character(self, tmp_path: Path, suffix: str) -> None:
        note = "x" * 79 + "ö"
        write_volume(Volume(random_hu(), np.eye(4)), tmp_path / f"out{suffix}", note)
        assert nib.load(tmp_path / f"out{suffix}").header["descrip"].item() == b"x" * 79

    @pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
    def test_itk_keeps_all_of_it_on_one_line(self, tmp_path: Path, suffix: str) -> None:
        write_volume(Volume(random_hu(), np.eye(4)), tmp_path / f"out{suffix}", self.NOTE)
        image = sitk.ReadImage(str(tmp_path / f"out{suffix}"))
        assert image.GetMetaData("lesionbrush_note") == " ".join(self.NOTE.split())
        assert np.array_equal(by_itk(tmp_path / f"out{suffix}").array, random_hu())

    def test_without_a_note_the_reference_keeps_its_own(self, tmp_path: Path) -> None:
        image = nib.Nifti1Image(random_hu(), np.eye(4))
        image.header["descrip"] = b"scanner"
        image.to_filename(tmp_path / "in.nii")
        write_volume(read_volume(tmp_path / "in.nii"), tmp_path / "out.nii")
        assert nib.load(tmp_path / "out.nii").header["descrip"].item() == b"scanner"
