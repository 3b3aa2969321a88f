"""What a synthetic DICOM series says of itself, by the standard, and that nothing wrong is carried over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from dicom_kit import BOX, Case, Hospital, dciodvfy_errors, exported, make_case, raw, record
from highdicom._iods import IOD_MODULE_MAP
from highdicom._module_utils import check_required_attributes
from lesionbrush.files.dicom_export.case import Reference
from lesionbrush.files.dicom_export.series import Uids
from pydicom.dataset import Dataset


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return make_case(tmp_path / "in")


class TestLabels:
    def test_say_what_it_is_and_where_it_belongs(self, tmp_path: Path) -> None:
        hospital = Hospital()
        case = make_case(tmp_path / "in", hospital)
        originals = case.reference.slices
        slices = exported(case, tmp_path / "out")
        assert len({s.SOPInstanceUID for s in slices}) == len(slices)
        for header, original in zip(slices, originals, strict=True):
            assert header.StudyInstanceUID == hospital.study
            assert header.FrameOfReferenceUID == hospital.frame
            assert (header.PatientID, str(header.PatientName)) == ("4711", hospital.name)
            assert header.SeriesInstanceUID not in (original.SeriesInstanceUID, "")
            assert header.ImageType == ["DERIVED", "SECONDARY", "AXIAL"]
            assert header[0x0008, 0x001C].value == "YES"
            assert header[0x0008, 0x001C].VR == "CS"
            assert header.SeriesDescription == "SYNTHETIC LesionBrush tiny: Thorax 2.0 Br59"
            assert "Not for diagnosis" in header.ImageComments
            assert (header.WindowCenter, header.WindowWidth, header.KVP) == (-600, 1500, 120)
            whole = pydicom.dcmread(original.filename)
            assert header.XRayTubeCurrent == whole.XRayTubeCurrent
            assert header.SourceImageSequence[0].ReferencedSOPInstanceUID == whole.SOPInstanceUID
            series = header.ReferencedSeriesSequence[0]
            assert series.SeriesInstanceUID == whole.SeriesInstanceUID
            assert series.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == whole.SOPInstanceUID

    def test_name_the_scanner_and_the_model_by_their_part(self, case: Case, tmp_path: Path) -> None:
        header = exported(case, tmp_path / "out")[0]
        scanner, model = header.ContributingEquipmentSequence
        assert scanner.PurposeOfReferenceCodeSequence[0].CodeValue == "109101"
        assert (scanner.Manufacturer, scanner.StationName) == ("Scanners Inc", "CT7")
        assert model.PurposeOfReferenceCodeSequence[0].CodeValue == "109103"
        assert (model.Manufacturer, model.ManufacturerModelName) == ("LesionBrush", "tiny")
        assert case.provenance.weights_sha256 in model.ContributionDescription
        assert header.Manufacturer == "LesionBrush"

    def test_carry_nothing_over_that_is_true_of_the_old_pixels_alone(
        self, case: Case, tmp_path: Path
    ) -> None:
        for header in exported(case, tmp_path / "out"):
            for keyword in (
                "PixelPaddingValue", "SmallestImagePixelValue", "LargestImagePixelValue", "IconImageSequence",
                "RequestAttributesSequence",
            ):  # fmt: skip
                assert keyword not in header
            assert not [element for element in header.iterall() if element.tag.is_private]
            assert not [element for element in header if element.tag.group == 0x6000]

    def test_an_image_that_was_lossy_once_stays_marked(self, tmp_path: Path) -> None:
        hospital = Hospital()

        def lossy(k: int, header: Dataset) -> None:
            hospital.edit(k, header)
            header.LossyImageCompression, header.LossyImageCompressionRatio = "01", "10"

        header = exported(make_case(tmp_path / "in", edit=lossy), tmp_path / "out")[0]
        assert (header.LossyImageCompression, header.LossyImageCompressionRatio) == ("01", 10)

    @pytest.mark.parametrize(
        ("charset", "name"),
        [
            ("ISO_IR 192", "Yamada^Tarou=山田^太郎"),
            ("ISO_IR 144", "Люкceмбypг"),
            ("ISO_IR 100", "Müller^Jörg"),
        ],
    )
    def test_keep_names_in_any_alphabet(self, tmp_path: Path, charset: str, name: str) -> None:
        case = make_case(tmp_path / "in", Hospital(charset=charset, name=name))
        header = exported(case, tmp_path / "out")[0]
        seg = pydicom.dcmread(tmp_path / "out" / "seg" / "00001.dcm")
        assert str(header.PatientName) == str(seg.PatientName) == name

    def test_survive_values_that_the_standard_forbids(self, case: Case, tmp_path: Path) -> None:
        """Real archives are full of them: a sex spelled out, a date with dots, numbers that are too long."""
        forbidden = [("0040", "CS", b"M", b"MALE, I THINK SO"), ("0030", "DA", b"19500102", b"02.01.1950")]
        for path in case.folder.iterdir():
            data = path.read_bytes()
            for element, vr, before, after in forbidden:
                data = data.replace(
                    raw(0x10, int(element, 16), vr, before), raw(0x10, int(element, 16), vr, after)
                )
            data = data.replace(raw(0x18, 0x60, "DS", b"120"), raw(0x18, 0x60, "DS", b"12o"))
            data = data.replace(
                raw(0x28, 0x30, "DS", b"0.8\\0.7"), raw(0x28, 0x30, "DS", b"0.80000000000000000001\\0.7")
            )
            path.write_bytes(data)
        case = replace(case, reference=Reference.read(case.folder))
        header = exported(case, tmp_path / "out")[0]
        seg = pydicom.dcmread(tmp_path / "out" / "seg" / "00001.dcm")
        for written in (header, seg):
            assert (written.PatientSex, written.PatientBirthDate) == ("", "")
        assert header["KVP"].is_empty
        assert header.PixelSpacing == [0.8, 0.7]

    def test_a_series_without_study_and_frame_gets_new_ones(self, tmp_path: Path) -> None:
        case = make_case(tmp_path / "in", edit=lambda k, header: None)
        slices = exported(case, tmp_path / "out")
        assert len({(s.StudyInstanceUID, s.FrameOfReferenceUID) for s in slices}) == 1
        assert slices[0].StudyInstanceUID.is_valid


class TestStandard:
    """Checked against the standard's tables (highdicom's copy), and by dciodvfy."""

    @pytest.mark.parametrize("kind", ["identified", "deidentified", "no dicom"])
    def test_all_required_attributes_are_there(self, tmp_path: Path, case: Case, kind: str) -> None:
        if kind == "no dicom":
            case = replace(case, reference=Reference(case.reference.volume))
        header = exported(case, tmp_path / "out", deidentify=kind == "deidentified")[0]
        for module in IOD_MODULE_MAP["ct-image"]:
            if module["usage"] == "M":
                check_required_attributes(header, module["key"])

    @pytest.mark.parametrize("kind", ["identified", "deidentified", "no dicom"])
    def test_dciodvfy_finds_no_error(self, tmp_path: Path, case: Case, kind: str) -> None:
        if kind == "no dicom":
            case = replace(case, reference=Reference(case.reference.volume))
        exported(case, tmp_path / "out", deidentify=kind == "deidentified")
        for path in (*sorted((tmp_path / "out" / "ct").iterdir())[:2], *(tmp_path / "out" / "seg").iterdir()):
            assert dciodvfy_errors(path) == []

    def test_dciodvfy_says_no_where_there_is_an_error(self, tmp_path: Path, case: Case) -> None:
        header = exported(case, tmp_path / "out")[0]
        del header.Rows, header.PatientName
        header.save_as(tmp_path / "bad.dcm")
        assert len(dciodvfy_errors(tmp_path / "bad.dcm")) >= 2


class TestUids:
    def test_are_new_each_time(self, case: Case, tmp_path: Path) -> None:
        first, second = (exported(case, tmp_path / name)[0] for name in "ab")
        assert first.SeriesInstanceUID != second.SeriesInstanceUID
        assert first.SOPInstanceUID != second.SOPInstanceUID

    def test_are_the_same_for_the_same_case_and_key_and_no_other(self, case: Case, tmp_path: Path) -> None:
        uids = Uids("key")
        exported(case, tmp_path / "a", uids=uids)
        exported(case, tmp_path / "b", uids=uids)
        for path in (p for p in (tmp_path / "a").rglob("*.dcm")):
            assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()
        array = case.synthetic.array.copy()
        array[BOX][0, 0, 0] = -5
        other = case.synthetic.with_array(array)
        others = replace(case, synthetic=other, provenance=record(case.reference.volume, other))
        mine = pydicom.dcmread(tmp_path / "a" / "ct" / "00001.dcm")
        for changed in (
            exported(others, tmp_path / "c", uids=uids),
            exported(case, tmp_path / "d", uids=Uids("x")),
        ):
            assert changed[0].SeriesInstanceUID != mine.SeriesInstanceUID
            assert changed[0].SOPInstanceUID != mine.SOPInstanceUID

    def test_are_valid(self) -> None:
        for uids in (Uids(), Uids("k")):
            assert all(uids.new("slice", k).is_valid and len(uids.new("slice", k)) <= 64 for k in range(50))


def test_deidentified_names_nobody_and_leads_nowhere(tmp_path: Path) -> None:
    hospital = Hospital()
    case = make_case(tmp_path / "in", hospital)
    exported(case, tmp_path / "out", deidentify=True)
    secrets = [
        b"M\xfcller",
        b"4711",
        b"A99",
        b"Doe",
        b"Hospital",
        b"CT7",
        b"19500102",
        b"20240506",
        b"Thorax",
    ]
    secrets += [hospital.study.encode(), hospital.frame.encode()]
    for original in case.folder.iterdir():
        header = pydicom.dcmread(original)
        secrets += [header.SOPInstanceUID.encode(), header.SeriesInstanceUID.encode()]
    written = [path.read_bytes() for path in (tmp_path / "out").rglob("*.*") if path.is_file()]
    assert len(written) == len(case.reference.slices) + 2
    assert [secret for secret in secrets for data in written if secret in data] == []
    header = pydicom.dcmread(tmp_path / "out" / "ct" / "00001.dcm")
    assert (header.PatientIdentityRemoved, header.KVP) == ("YES", 120)
