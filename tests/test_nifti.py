"""What a NIfTI header says is what is read, and what is written back."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from lesionbrush.core.volume import require_ct
from lesionbrush.errors import NotACT
from lesionbrush.files.io import read_volume, write_volume
from volume_fixtures import (
    OBLIQUE,
    Grid,
    affine_of,
    assert_same_hu_in_space,
    by_itk,
    by_nibabel,
    geometry_bytes,
    random_hu,
    write_foreign,
)


class TestNiftiHeader:
    @pytest.mark.parametrize(("sform", "qform"), [(1, 1), (2, 0), (0, 1), (4, 3), (0, 0)], ids=str)
    def test_codes_and_both_forms_survive(self, tmp_path: Path, sform: int, qform: int) -> None:
        image = nib.Nifti1Image(random_hu(), np.eye(4))
        rotation = np.eye(3) if not (sform and qform) else OBLIQUE  # two forms have to agree
        image.header.set_sform(affine_of(OBLIQUE, (0.7, 0.9, 1.25)), sform)
        image.header.set_qform(affine_of(rotation, (0.7, 0.9, 1.25)), qform)
        image.header.set_xyzt_units("mm", "sec")
        nib.Nifti1Image(random_hu(), None, image.header).to_filename(tmp_path / "in.nii")
        volume = read_volume(tmp_path / "in.nii")
        write_volume(volume, tmp_path / "out.nii.gz")
        assert geometry_bytes(tmp_path / "in.nii") == geometry_bytes(tmp_path / "out.nii.gz")
        if sform or qform:
            assert np.allclose(volume.affine, nib.load(tmp_path / "in.nii").affine)

    def test_without_any_form_itk_and_slicer_decide(self, tmp_path: Path) -> None:
        image = nib.Nifti1Image(random_hu(), None)
        image.header["pixdim"][1:4] = 0.7, 0.9, 1.25
        image.to_filename(tmp_path / "in.nii")
        volume = read_volume(tmp_path / "in.nii")
        assert_same_hu_in_space(by_itk(tmp_path / "in.nii"), Grid(volume.array, volume.affine))

    @pytest.mark.parametrize(("unit", "mm"), [("meter", 1000), ("micron", 0.001)])
    def test_other_units_become_mm(self, tmp_path: Path, unit: str, mm: float) -> None:
        image = nib.Nifti1Image(random_hu(), affine_of(np.eye(3), (0.7, 0.9, 1.25)))
        image.header.set_xyzt_units(unit)
        image.to_filename(tmp_path / "in.nii")
        volume = read_volume(tmp_path / "in.nii")
        assert volume.spacing_mm == pytest.approx(np.array([0.7, 0.9, 1.25]) * mm)
        assert_same_hu_in_space(by_itk(tmp_path / "in.nii"), Grid(volume.array, volume.affine))
        write_volume(volume, tmp_path / "out.nii")
        assert geometry_bytes(tmp_path / "in.nii") == geometry_bytes(tmp_path / "out.nii")

    @pytest.mark.parametrize("kind", ["big-endian", "NIfTI-2"])
    def test_other_kinds_keep_their_kind(self, tmp_path: Path, kind: str) -> None:
        affine = affine_of(OBLIQUE, (0.7, 0.9, 1.25))
        image = nib.Nifti2Image(random_hu(), affine)
        if kind == "big-endian":
            image = nib.Nifti1Image(random_hu(), affine, nib.Nifti1Header(endianness=">"))
            image.set_data_dtype(np.int16)
        image.to_filename(tmp_path / "in.nii")
        volume = read_volume(tmp_path / "in.nii")
        assert volume.array.dtype.isnative
        for name in ("out.nii", "out.nii.gz"):
            write_volume(volume, tmp_path / name)
            before, after = nib.load(tmp_path / "in.nii"), nib.load(tmp_path / name)
            assert (type(after), after.header.endianness) == (type(before), before.header.endianness)
            assert_same_hu_in_space(by_nibabel(tmp_path / "in.nii"), by_nibabel(tmp_path / name))
        write_volume(volume, tmp_path / "out.nrrd")
        assert_same_hu_in_space(by_nibabel(tmp_path / "in.nii"), by_itk(tmp_path / "out.nrrd"))

    def test_extensions_do_not_travel(self, tmp_path: Path) -> None:
        image = nib.Nifti1Image(random_hu(), np.eye(4))
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Doe^Jane"))
        image.to_filename(tmp_path / "in.nii")
        write_volume(read_volume(tmp_path / "in.nii"), tmp_path / "out.nii")
        assert b"Doe^Jane" in (tmp_path / "in.nii").read_bytes()
        assert b"Doe^Jane" not in (tmp_path / "out.nii").read_bytes()
        assert np.array_equal(by_nibabel(tmp_path / "out.nii").array, random_hu())

    def test_reading_holds_the_voxels_once(self, tmp_path: Path) -> None:
        array = np.zeros((128, 128, 128), np.int16)
        write_foreign(tmp_path / "in.nii", array, np.eye(4))
        tracemalloc.start()
        read_volume(tmp_path / "in.nii")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1.5 * array.nbytes


def write_scaled(path: Path, stored: np.ndarray, slope: float, intercept: float) -> None:
    image = nib.Nifti1Image(stored, np.diag([0.7, 0.9, 1.25, 1]))
    image.to_filename(path)
    with path.open("rb+") as stream:  # nibabel writes 1 and 0 for integers
        stream.seek(112)
        stream.write(np.array([slope, intercept], "<f4").tobytes())


class TestScaleFactors:
    @pytest.mark.parametrize(("slope", "intercept"), [(1, -1024), (2, -1000), (1, 0), (0, 0)])
    def test_scale_factors_are_applied_and_written_as_plain_hu(
        self, tmp_path: Path, slope: float, intercept: float
    ) -> None:
        stored = (random_hu() + 1000).astype(np.uint16)
        write_scaled(tmp_path / "in.nii", stored, slope, intercept)
        hu = (slope or 1) * stored.astype(int) + intercept
        volume = read_volume(tmp_path / "in.nii")
        assert np.array_equal(volume.array, hu)
        if hu.min() < 0:
            write_volume(require_ct(volume), tmp_path / "out.nii")
            after = nib.load(tmp_path / "out.nii")
            assert after.get_data_dtype() == np.int16
            assert (after.dataobj.slope, after.dataobj.inter) == (1, 0)
            assert np.array_equal(np.asarray(after.dataobj), hu)

    def test_fractional_factors_give_fractions_which_are_no_ct(self, tmp_path: Path) -> None:
        write_scaled(tmp_path / "in.nii", random_hu(), 0.3, 0)
        volume = read_volume(tmp_path / "in.nii")
        assert np.allclose(volume.array, random_hu() * 0.3)
        with pytest.raises(NotACT, match="not whole HU"):
            require_ct(volume)
