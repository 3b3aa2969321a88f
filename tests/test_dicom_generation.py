"""A CT that was generated as a whole, as DICOM: a patient who is nobody, exact HU, structures by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pydicom_seg
import pytest
import SimpleITK as sitk  # noqa: N813
from cli_kit import Command
from dicom_kit import dciodvfy_errors, raw_hu, record
from lesionbrush.core.generate import Generation
from lesionbrush.core.inputs import Layout
from lesionbrush.core.provenance import GENERATED, Provenance
from lesionbrush.core.volume import Volume
from lesionbrush.errors import DamagedFile, EmptyMask, GeometryMismatch, InvalidRequest
from lesionbrush.files.dicom_export.case import DicomCase, Reference, export_case
from lesionbrush.files.dicom_export.seg import Segments, read_seg
from lesionbrush.files.dicom_export.series import DicomOptions, Uids
from lesionbrush.files.io import read_dicom_series, write_volume
from lesionbrush.files.layouts import write_layout
from lesionbrush.files.records import write_sidecar
from test_dicom_valid import require_valid

pytest_plugins = "cli_fixtures"
NAMES = {2: "liver", 7: "Röhre", 40: "lesion", 90: "nowhere"}
LAS = np.array([[-0.7, 0, 0, 10.5], [0, 0.8, 0, -20.25], [0, 0, 2.5, 30], [0, 0, 0, 1]])


def generation(affine: np.ndarray = LAS) -> Generation:
    """Axes to left, anterior, superior, which DICOM cannot have: slices are counted from the other end."""
    ct = Volume(np.random.default_rng(5).integers(-1024, 3072, (7, 6, 5)).astype(np.int16), affine)
    labels = np.zeros(ct.shape, np.int16)
    labels[1:4, 1:3, 1:3], labels[4, :, 4], labels[2, 2, 2] = 2, 7, 40
    made = record(
        ct, ct, reference_sha256=None, generated=True, notice=GENERATED, box_offset=(0, 0, 0),
        box_shape=ct.shape, voxels_changed=ct.array.size, model="layout_model",
    )  # fmt: skip
    return Generation(ct, Layout(ct.with_array(labels), NAMES), made)


def prepared(made: Generation, **options: object) -> DicomCase:
    segments = Segments.of_layout(made.layout) if made.layout else None
    return DicomCase.prepare_generated(made.ct, segments, made.provenance, DicomOptions(**options))


@pytest.fixture
def made() -> Generation:
    return generation()


@pytest.fixture
def out(tmp_path: Path, made: Generation) -> Path:
    export_case(prepared(made), tmp_path / "out")
    return tmp_path / "out"


def headers(out: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in sorted((out / "ct").iterdir())]


def edited(made: Generation, **changes: object) -> tuple[Volume, Volume, Provenance]:
    """A lesion in a generated CT: the CT, its mask, and its record."""
    array = made.ct.array.copy()
    array[2:4, 2:4, 2:4] += 1
    mask = np.zeros(array.shape, np.uint8)
    mask[2:4, 2:4, 2:4] = 1
    synthetic = made.ct.with_array(array)
    facts = {"generated": True, "notice": GENERATED, "made_from": made.provenance, **changes}
    told = record(made.ct, synthetic, box_offset=(2, 2, 2), box_shape=(2, 2, 2), **facts)
    return synthetic, made.ct.with_array(mask), told


class TestVoxels:
    @pytest.mark.parametrize("turn", [np.eye(4), np.diag([1, -1, 1, 1])], ids=["LAS", "LPS"])
    def test_read_back_in_their_place(self, tmp_path: Path, turn: np.ndarray) -> None:
        made = generation(turn @ LAS)
        export_case(prepared(made), tmp_path / "out")
        folder = tmp_path / "out" / "ct"
        image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
        by_itk = sitk.GetArrayFromImage(image).T
        by_pydicom = np.stack([raw_hu(path) for path in sorted(folder.iterdir())], axis=-1)
        assert np.array_equal(by_itk, by_pydicom)
        for index in np.ndindex(*made.ct.shape):
            lps = (made.ct.affine @ [*index, 1])[:3] * [-1, -1, 1]
            assert image.GetPixel(image.TransformPhysicalPointToIndex(lps)) == made.ct.array[index]

    def test_of_every_structure_are_where_they_were(self, out: Path, made: Generation) -> None:
        series = read_dicom_series(out / "ct")
        found = read_seg(out / "seg" / "00001.dcm", series, headers(out))
        flipped = made.layout.labels.array[:, :, ::-1]
        assert np.array_equal(found.array, np.searchsorted([0, 2, 7, 40], flipped))
        reader = pydicom_seg.SegmentReader().read(pydicom.dcmread(out / "seg" / "00001.dcm"))
        for number, label in enumerate((2, 7, 40), 1):
            assert sitk.GetArrayFromImage(reader.segment_image(number)).sum() == (flipped == label).sum()


class TestWords:
    def test_say_that_it_is_nobody_and_made_from_nothing(self, out: Path) -> None:
        for header in headers(out):
            assert header.PatientName == "SYNTHETIC^LesionBrush"
            assert header.PatientID.startswith("SYNTHETIC-")
            assert header.StudyDescription == "SYNTHETIC GENERATED CT"
            assert header.SeriesDescription == "SYNTHETIC GENERATED LesionBrush layout_model"
            assert header.ImageType == ["DERIVED", "SECONDARY", "AXIAL"]
            assert header.ContentQualification == "RESEARCH"
            assert header[0x0008, 0x001C].value == "YES"
            for text in (header.ImageComments, header.DerivationDescription):
                assert "generated as a whole" in text
                assert "Not for diagnosis" in text
            (equipment,) = header.ContributingEquipmentSequence
            assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
            assert "changed" not in equipment.ContributionDescription

    def test_claim_no_edit(self, out: Path) -> None:
        header = headers(out)[0]
        for keyword in ("SourceImageSequence", "ReferencedSeriesSequence", "PatientIdentityRemoved"):
            assert keyword not in header
        assert not [w for w in ("painted", "region", "source images") if w in str(header).lower()]

    def test_name_every_structure_that_is_there(self, out: Path) -> None:
        seg = pydicom.dcmread(out / "seg" / "00001.dcm")
        assert [item.SegmentLabel for item in seg.SegmentSequence] == ["liver", "R?hre", "lesion"]
        kinds = [item.SegmentedPropertyTypeCodeSequence[0].CodeMeaning for item in seg.SegmentSequence]
        assert kinds == ["Anatomical Structure", "Anatomical Structure", "Lesion"]
        assert {item.SegmentAlgorithmType for item in seg.SegmentSequence} == {"AUTOMATIC"}
        assert seg.PatientID == headers(out)[0].PatientID

    def test_are_valid(self, out: Path) -> None:
        require_valid(out)
        for path in (out / "ct").iterdir():
            assert dciodvfy_errors(path) == []


class TestUids:
    def test_are_new_each_time_and_with_a_key_the_same(self, tmp_path: Path, made: Generation) -> None:
        for name, uids in {"a": Uids(), "b": Uids(), "c": Uids("k"), "d": Uids("k"), "e": Uids("l")}.items():
            export_case(prepared(made, uids=uids), tmp_path / name)
        series = [headers(tmp_path / name)[0].SeriesInstanceUID for name in "abcde"]
        assert len(set(series)) == 4
        for path in (tmp_path / "c").rglob("*.dcm"):
            assert path.read_bytes() == (tmp_path / "d" / path.relative_to(tmp_path / "c")).read_bytes()


class TestEditOfAGeneration:
    def test_alone_says_both(self, tmp_path: Path, made: Generation) -> None:
        synthetic, mask, told = edited(made)
        case = DicomCase.prepare_generated(synthetic, Segments.of_lesion(mask), told)
        export_case(case, tmp_path / "out")
        require_valid(tmp_path / "out")
        header = headers(tmp_path / "out")[0]
        assert header.SeriesDescription == "SYNTHETIC GENERATED LesionBrush tiny"
        assert "lesion made by LesionBrush model tiny in a CT that was generated" in (
            header.DerivationDescription
        )
        models = [item.ManufacturerModelName for item in header.ContributingEquipmentSequence]
        assert models == ["layout_model", "tiny"]
        seg = pydicom.dcmread(tmp_path / "out" / "seg" / "00001.dcm")
        assert seg.SegmentSequence[0].SegmentAlgorithmType == "MANUAL"

    def test_beside_its_reference_says_both_and_each_step_once(
        self, tmp_path: Path, made: Generation
    ) -> None:
        export_case(prepared(made), tmp_path / "reference")
        reference = Reference.read(tmp_path / "reference" / "ct")
        synthetic, mask, told = edited(made)
        export_case(DicomCase.prepare(synthetic, mask, told, reference), tmp_path / "out")
        require_valid(tmp_path / "out")
        header, original = headers(tmp_path / "out")[0], headers(tmp_path / "reference")[0]
        assert header.StudyInstanceUID == original.StudyInstanceUID
        assert header.SourceImageSequence[0].ReferencedSOPInstanceUID == original.SOPInstanceUID
        assert "generated as a whole" in header.DerivationDescription
        models = [item.ManufacturerModelName for item in header.ContributingEquipmentSequence]
        assert models == ["layout_model", "tiny"]

    def test_comes_back_as_generated(self, out: Path) -> None:
        volume = read_dicom_series(out / "ct")
        assert volume.source.note == "SYNTHETIC GENERATED LesionBrush layout_model"


class TestRefusals:
    def test_an_edit_by_its_record(self, made: Generation) -> None:
        _, _, told = edited(made, generated=False)
        with pytest.raises(InvalidRequest, match="is an edit by its record"):
            prepared(replace(made, provenance=told))

    def test_a_reference_it_was_not_made_from(self, made: Generation) -> None:
        with pytest.raises(InvalidRequest, match="generated from none"):
            DicomCase.prepare(made.ct, None, made.provenance, Reference(made.ct))

    def test_the_record_of_another(self, made: Generation) -> None:
        other = made.provenance.model_copy(update={"box_shape": (7, 6, 4)})
        with pytest.raises(InvalidRequest, match="7 x 6 x 5 voxels, its record is of one of 7 x 6 x 4"):
            prepared(replace(made, provenance=other))

    def test_taking_away_the_name_of_nobody(self, made: Generation) -> None:
        with pytest.raises(InvalidRequest, match="shows nobody"):
            prepared(made, deidentify=True)

    def test_labels_without_a_name(self, made: Generation) -> None:
        with pytest.raises(InvalidRequest, match="40 have no name"):
            prepared(replace(made, layout=Layout(made.layout.labels, {2: "liver", 7: "tube"})))

    def test_labels_from_elsewhere(self, made: Generation) -> None:
        moved = replace(made.layout.labels, affine=np.diag([1, 1, 1, 1.0]))
        with pytest.raises(GeometryMismatch, match="label volume"):
            prepared(replace(made, layout=Layout(moved, NAMES)))

    def test_labels_of_nothing(self, tmp_path: Path, made: Generation) -> None:
        empty = made.layout.labels.with_array(made.layout.labels.array * 0)
        with pytest.raises(EmptyMask, match="the layout is empty"):
            export_case(prepared(replace(made, layout=Layout(empty, NAMES))), tmp_path / "out")
        assert not (tmp_path / "out").exists()


class TestCommand:
    @pytest.fixture
    def files(self, tmp_path: Path, made: Generation) -> Path:
        write_volume(made.ct, tmp_path / "ct.nii.gz", made.provenance.note)
        write_sidecar(made.provenance, tmp_path / "ct.nii.gz")
        write_layout(made.layout, tmp_path / "body.nii.gz")
        return tmp_path

    @pytest.fixture
    def export(self, command: Command, files: Path):
        def run(*more: object):
            return command("export", "dicom", "--ct", files / "ct.nii.gz", "-o", files / "out", *more)

        return run

    def test_writes_series_and_layout(self, export, files: Path) -> None:
        outcome = export("--labels", files / "body.nii.gz")
        assert outcome.code == 0, outcome.err
        assert len(pydicom.dcmread(files / "out" / "seg" / "00001.dcm").SegmentSequence) == 3
        record = (files / "out" / "provenance.json").read_text()
        assert Provenance.model_validate_json(record).generated

    def test_takes_names_that_are_sent(self, export, files: Path) -> None:
        (files / "names.json").write_text('{"2": "a", "7": "b", "40": "c"}')
        assert export("--labels", files / "body.nii.gz", "--label-names", files / "names.json").code == 0
        seg = pydicom.dcmread(files / "out" / "seg" / "00001.dcm")
        assert [item.SegmentLabel for item in seg.SegmentSequence] == ["a", "b", "c"]

    def test_needs_no_labels(self, export, files: Path) -> None:
        assert export().code == 0
        assert not (files / "out" / "seg").exists()

    @pytest.mark.parametrize(
        ("more", "said"),
        [
            (("--reference", "ct.nii.gz"), "generated from none by its record"),
            (("--mask", "body.nii.gz"), "no lesion was painted"),
            (("--label-names", "body.json"), "--labels, which are missing"),
            (("--deidentify",), "shows nobody"),
        ],
        ids=lambda value: value if isinstance(value, str) else value[0],
    )
    def test_refuses_what_makes_no_sense(self, export, files: Path, more: tuple[str, ...], said: str) -> None:
        assert said in export(*(files / part if "." in part else part for part in more)).one_line
        assert not (files / "out").exists()

    def test_refuses_labels_of_an_edit(self, export, files: Path, made: Generation) -> None:
        synthetic, mask, told = edited(made)
        write_volume(synthetic, files / "ct.nii.gz")
        write_volume(mask, files / "mask.nii.gz")
        write_sidecar(told, files / "ct.nii.gz")
        painted = ("--mask", files / "mask.nii.gz")
        assert "give --mask alone" in export(*painted, "--labels", files / "body.nii.gz").one_line
        assert export(*painted).code == 0

    def test_refuses_an_edit_without_its_reference(self, export, files: Path, made: Generation) -> None:
        synthetic, _, told = edited(made, generated=False)
        write_volume(synthetic, files / "ct.nii.gz")
        write_sidecar(told, files / "ct.nii.gz")
        assert "--reference is missing" in export().one_line


def test_a_seg_that_does_not_read_back_is_not_kept(tmp_path: Path, made: Generation, monkeypatch) -> None:
    from lesionbrush.files.dicom_export import case as dicom_export

    def other(path: Path, volume: Volume, slices: list[pydicom.Dataset]) -> Volume:
        found = read_seg(path, volume, slices)
        return found.with_array(found.array + 1)

    monkeypatch.setattr(dicom_export, "read_seg", other)
    with pytest.raises(DamagedFile, match="other voxels"):
        export_case(prepared(made), tmp_path / "out")
    assert not (tmp_path / "out").exists()
