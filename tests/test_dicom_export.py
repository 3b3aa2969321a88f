"""A synthetic CT as a DICOM series: exact HU in their place, refusals, and the command."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from cli_kit import Command
from dicom_fixtures import AXIAL, Series, write_series
from dicom_kit import Case, exported, make_case, put, record
from lesionbrush.core.volume import Volume
from lesionbrush.errors import DamagedFile, GeometryMismatch, InvalidRequest, StorageFull
from lesionbrush.files.dicom_export.case import DicomCase, Reference, export_case
from lesionbrush.files.dicom_export.series import derive_series
from lesionbrush.files.io import read_dicom_series, read_volume, write_volume
from lesionbrush.files.records import write_sidecar
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest
from pydicom.dataset import FileMetaDataset

OBLIQUE = (0.96, 0.28, 0.0, -0.224, 0.768, 0.6)
pytest_plugins = "cli_fixtures"


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return make_case(tmp_path / "in")


class TestVoxels:
    """HU and geometry come back as they were, by two readers that share no code."""

    @pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE], ids=["axial", "oblique"])
    @pytest.mark.parametrize(
        ("slope", "intercept", "signed"),
        [
            (1, -1024, False),
            (2, -1024, False),
            (0.5, 0, True),
            (1, 0, True),
            ([1, 2, 1, 0.5, 1, 1], -1024, False),
        ],
        ids=str,
    )
    def test_are_exact_whatever_the_original_rescale(
        self, tmp_path: Path, orientation, slope, intercept, signed
    ) -> None:
        case = make_case(
            tmp_path / "in", slope=slope, intercept=float(intercept), signed=signed, orientation=orientation
        )
        exported(case, tmp_path / "out")
        volume = read_dicom_series(tmp_path / "out" / "ct")
        assert np.array_equal(volume.array, case.synthetic.array)
        assert np.array_equal(volume.affine, case.reference.volume.affine)
        names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "out" / "ct"))
        before = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(case.folder)))
        after = sitk.ReadImage(names)
        assert after.GetPixelID() == sitk.sitkInt16
        assert np.array_equal(sitk.GetArrayFromImage(after).T, case.synthetic.array)
        for fact in ("GetOrigin", "GetSpacing", "GetDirection"):
            assert getattr(after, fact)() == getattr(before, fact)()

    def test_every_int16_value_survives(self, tmp_path: Path) -> None:
        values = np.arange(-(2**15), 2**15, dtype=np.int16).reshape(256, 16, 16)
        affine = np.diag([0.7, 0.8, 2.5, 1.0])
        series = derive_series(Volume(values, affine), record(*[Volume(values[:6, :4, :4], affine)] * 2))
        series.write(tmp_path)
        assert np.array_equal(read_dicom_series(tmp_path).array, series.volume.array)
        assert np.array_equal(np.unique(series.volume.array), np.unique(values))

    def test_stay_in_place_when_the_axes_are_left_handed(self, tmp_path: Path) -> None:
        """RAS axes from a NIfTI: DICOM counts the slices the other way round."""
        array = np.random.default_rng(0).integers(-1000, 1000, (5, 4, 3)).astype(np.int16)
        affine = np.diag([0.7, -0.8, 2.5, 1.0])
        affine[:3, 3] = 10.123456789, -20.5, 30.25
        volume = Volume(array, affine)
        derive_series(volume, record(volume, volume)).write(tmp_path)
        image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path)))
        for index in [(0, 0, 0), (4, 3, 2), (1, 2, 0)]:
            lps = (affine @ [*index, 1])[:3] * [-1, -1, 1]
            assert image.GetPixel(image.TransformPhysicalPointToIndex(lps)) == array[index]

    def test_of_a_file_that_was_turned_round_by_another_program_are_put_back(
        self, tmp_path: Path, case: Case
    ) -> None:
        turned = case.synthetic.affine.copy()
        turned[:3, 3] += turned[:3, 1] * 7
        turned[:3, 1] *= -1
        order = [2, 0, 1]
        synthetic = Volume(case.synthetic.array[:, ::-1].transpose(order), turned[:, [*order, 3]])
        exported(replace(case, synthetic=synthetic), tmp_path / "out")
        assert np.array_equal(read_dicom_series(tmp_path / "out" / "ct").array, case.synthetic.array)

    def test_of_a_single_slice(self, tmp_path: Path) -> None:
        hu = np.arange(-20, 22).reshape(7, 6, 1)
        write_series(tmp_path / "in", Series(hu))
        reference = Reference.read(tmp_path / "in")
        made = record(reference.volume, reference.volume)
        mask = reference.volume.with_array((hu > 15).astype(np.uint8))
        prepared = DicomCase.prepare(reference.volume, mask, made, reference)
        export_case(prepared, tmp_path / "out")
        assert np.array_equal(read_dicom_series(tmp_path / "out" / "ct").array, hu)

    def test_axes_at_an_angle_are_refused_for_a_new_series(self) -> None:
        affine = np.diag([1.0, 1.0, 1.0, 1.0])
        affine[0, 1] = 0.1
        volume = Volume(np.zeros((4, 4, 4), np.int16) - 1, affine)
        with pytest.raises(GeometryMismatch, match="perpendicular"):
            derive_series(volume, record(volume, volume))


class TestRefusals:
    def test_another_reference(self, tmp_path: Path, case: Case) -> None:
        other = case.reference.volume.array.copy()
        other[0, 0, 0] += 1
        reference = replace(case.reference, volume=case.reference.volume.with_array(other))
        with pytest.raises(InvalidRequest, match="differs from this reference"):
            exported(replace(case, reference=reference), tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_a_voxel_outside_the_box_of_the_record(self, tmp_path: Path, case: Case) -> None:
        array = case.synthetic.array.copy()
        array[0, 0, 0] += 1
        synthetic = case.synthetic.with_array(array)
        made = record(case.reference.volume, synthetic)
        with pytest.raises(InvalidRequest, match="1 voxels differ outside the box"):
            exported(replace(case, synthetic=synthetic, provenance=made), tmp_path / "out")

    @pytest.mark.parametrize("shift_voxels", [0.05, 1.0])
    def test_another_grid(self, tmp_path: Path, case: Case, shift_voxels: float) -> None:
        affine = case.synthetic.affine.copy()
        affine[:3, 3] += affine[:3, 0] * shift_voxels
        with pytest.raises(GeometryMismatch):
            exported(replace(case, synthetic=replace(case.synthetic, affine=affine)), tmp_path / "out")

    def test_a_folder_that_exists(self, tmp_path: Path, case: Case) -> None:
        (tmp_path / "out").mkdir()
        with pytest.raises(InvalidRequest, match="exists already"):
            exported(case, tmp_path / "out")

    def test_a_full_disk_leaves_nothing(self, tmp_path: Path, case: Case, monkeypatch) -> None:
        written: list[int] = []
        save = pydicom.dataset.Dataset.save_as

        def fail(self, *arguments: object, **options: object) -> None:
            written.append(1)
            if len(written) == 3:
                raise OSError(errno.ENOSPC, "full")
            save(self, *arguments, **options)

        monkeypatch.setattr(pydicom.dataset.FileDataset, "save_as", fail)
        with pytest.raises(StorageFull):
            exported(case, tmp_path / "out")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]

    def test_pixels_that_do_not_read_back(self, tmp_path: Path, case: Case, monkeypatch) -> None:
        """The check after writing can say no."""
        from lesionbrush.files.dicom_export import case as dicom_export

        def other(folder: Path) -> Volume:
            volume = read_dicom_series(folder)
            return volume.with_array(volume.array + np.int16(1))

        monkeypatch.setattr(dicom_export, "read_dicom_series", other)
        with pytest.raises(DamagedFile, match="other voxels"):
            exported(case, tmp_path / "out")
        assert not (tmp_path / "out").exists()


class TestFiles:
    """The headers are read again when a case is exported."""

    @pytest.mark.parametrize("left", [0, 700])
    def test_a_slice_that_breaks_off_meanwhile_is_named(self, tmp_path: Path, left: int) -> None:
        case = make_case(tmp_path / "in")
        path = case.folder / "slice003.dcm"
        path.write_bytes(path.read_bytes()[:left])
        with pytest.raises(DamagedFile, match=r"slice003\.dcm"):
            exported(case, tmp_path / "out")
        path.unlink()
        with pytest.raises(DamagedFile, match=r"slice003\.dcm"):
            exported(case, tmp_path / "out")

    def test_files_without_a_preamble_are_read_again_as_they_were(self, tmp_path: Path) -> None:
        case = make_case(tmp_path / "in")
        for path in case.folder.iterdir():
            header = pydicom.dcmread(path)
            header.preamble = None
            header.file_meta = FileMetaDataset()
            header.is_implicit_VR = False
            header.save_as(path, write_like_original=True)
        assert exported(case, tmp_path / "out")[0].PatientID == "4711"

    def test_a_place_without_a_valid_form_is_written_as_it_was_understood(self, tmp_path: Path) -> None:
        case = make_case(tmp_path / "in")
        for path in case.folder.iterdir():
            header = pydicom.dcmread(path)
            put(header, "PixelSpacing", b"0.8 mm\\0.7 mm")
            header.save_as(path)
        assert {tuple(s.PixelSpacing) for s in exported(case, tmp_path / "out")} == {(0.8, 0.7)}


class TestCommand:
    @pytest.fixture
    def files(self, tmp_path: Path, case: Case) -> Path:
        write_volume(case.synthetic, tmp_path / "synthetic.nii.gz")
        write_volume(case.mask, tmp_path / "mask.nii.gz")
        write_sidecar(case.provenance, tmp_path / "synthetic.nii.gz")
        return tmp_path

    @pytest.fixture
    def export(self, command: Command, files: Path) -> Callable[..., object]:
        def run(*more: object, reference: str = "in", out: str = "out"):
            paths = {"ct": "synthetic.nii.gz", "reference": reference, "mask": "mask.nii.gz", "out": out}
            options = [part for name, path in paths.items() for part in (f"--{name}", str(files / path))]
            return command("export", "dicom", *options, *map(str, more))

        return run

    def test_writes_series_mask_and_record(self, export, files: Path, case: Case) -> None:
        outcome = export()
        assert outcome.code == 0, outcome.err
        assert np.array_equal(read_volume(files / "out" / "ct").array, case.synthetic.array)
        assert (files / "out" / "seg" / "00001.dcm").is_file()
        assert (files / "out" / "provenance.json").is_file()

    def test_takes_a_reference_that_was_no_dicom(self, export, files: Path, case: Case) -> None:
        write_volume(case.reference.volume, files / "reference.nii.gz")
        assert export(reference="reference.nii.gz").code == 0
        assert np.array_equal(read_volume(files / "out" / "ct").array, case.synthetic.array)

    def test_only_the_label_of_the_request_is_the_lesion(self, export, files: Path, case: Case) -> None:
        labels = case.mask.array * 2
        labels[0, 0, 0] = 1
        write_volume(case.mask.with_array(labels), files / "mask.nii.gz")
        assert "choose one" in export().one_line
        made = record(
            case.reference.volume, case.synthetic, request=SynthesisRequest(label=2).model_dump(mode="json")
        )
        write_sidecar(made, files / "synthetic.nii.gz")
        assert export().code == 0
        seg = pydicom.dcmread(files / "out" / "seg" / "00001.dcm")
        assert int(seg.pixel_array.sum()) == int(case.mask.array.sum())

    def test_refuses_a_ct_without_its_record(self, export, files: Path) -> None:
        sidecar = files / "synthetic.provenance.json"
        sidecar.rename(files / "elsewhere.json")
        outcome = export()
        assert outcome.code == 2
        assert "--provenance" in outcome.one_line
        assert not (files / "out").exists()
        assert export("--provenance", files / "elsewhere.json").code == 0

    def test_refuses_a_record_that_is_none(self, export, files: Path) -> None:
        (files / "synthetic.provenance.json").write_text("{}")
        assert "is no record of LesionBrush" in export().one_line

    def test_refuses_a_folder_that_exists(self, export, files: Path) -> None:
        (files / "out").mkdir()
        assert "exists already" in export().one_line

    def test_a_key_gives_the_same_uids(self, export, files: Path) -> None:
        assert export("--uid-key", "k").code == export("--uid-key", "k", out="again").code == 0
        first, second = (pydicom.dcmread(files / name / "ct" / "00001.dcm") for name in ("out", "again"))
        assert first.SOPInstanceUID == second.SOPInstanceUID
