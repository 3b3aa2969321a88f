"""Whatever is wrong with the attributes of a series, what is made from it is valid and nothing is invented.

Each kind of fault is put into all attributes at once that the export may copy, and judged by pydicom, by the
standard's tables in highdicom, and by dciodvfy.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_kit import Hospital, dciodvfy_errors, exported, make_case, put
from highdicom._iods import IOD_MODULE_MAP
from highdicom._module_utils import check_required_attributes
from lesionbrush.files.dicom_export.attributes import ORIGINAL
from lesionbrush.files.dicom_export.series import Uids
from pydicom.config import RAISE, settings
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.tag import Tag

PLACE = {"ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"}
NOT_READ = {"SOPClassUID", "SOPInstanceUID"}
"""With a fault there the series is not read at all, or the file of the test not written."""
OURS = {
    "StudyInstanceUID", "FrameOfReferenceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID",
    "SeriesNumber", "SeriesDescription", "InstanceNumber", "Manufacturer", "ManufacturerModelName",
    "SoftwareVersions", "ContributingEquipmentSequence", *PLACE,
}  # fmt: skip
NAN = struct.pack("<d", float("nan"))
TEXTS = ("LO", "SH", "PN", "ST")
FAULTS = {
    "empty": dict.fromkeys(["DS", "IS", "DA", "TM", "DT", "UI", "CS", "AS", "FD", *TEXTS], b""),
    "spaces": dict.fromkeys(["DS", "IS", "DA", "TM", "DT", "CS", "AS", *TEXTS], b"    "),
    "malformed": {
        "DS": b"12o", "IS": b"14.5", "DA": b"02.01.1950", "TM": b"10h", "DT": b"now", "UI": b"1.2.03",
        "CS": b"MALE, I THINK SO", "AS": b"45", "FD": NAN, **dict.fromkeys(TEXTS, b"a\x07"),
    },
    "too long": {
        "IS": b"123456789012", "DA": b"195001023", "TM": b"1011121", "DT": b"202405061011121",
        "UI": b"1." + b"2" * 64, "CS": b"A" * 18, "AS": b"0045Y", "LO": b"a" * 66, "SH": b"a" * 18,
        "PN": b"a" * 66, "ST": b"a" * 1026,
    },
    "too many": {
        "DS": b"1\\2" * 4, "IS": b"1\\2", "DA": b"19500102\\19500102", "TM": b"10\\11", "UI": b"1.2\\1.3",
        "AS": b"045Y\\046Y", "PN": b"Doe\\Doe", "FD": struct.pack("<7d", *range(7)),
    },
    "latin-1 that nothing declares": dict.fromkeys(TEXTS, b"M\xfcller"),
}  # fmt: skip


def spoil(fault: dict[str, bytes], charset: bytes = b"") -> Callable[[int, Dataset], None]:
    """An edit of a slice: the fault in every attribute of its VR."""
    hospital = Hospital()

    def edit(k: int, header: Dataset) -> None:
        hospital.edit(k, header)
        for keyword in ORIGINAL:
            value = fault.get(dictionary_VR(Tag(keyword)))
            if value is not None and keyword not in PLACE | NOT_READ:
                put(header, keyword, value)
        put(header, "SpecificCharacterSet", charset)

    return edit


def written(folder: Path) -> list[Path]:
    return [folder / "ct" / "00001.dcm", folder / "seg" / "00001.dcm"]


def require_valid(folder: Path) -> None:
    """The CT and the SEG of an export, by three judges."""
    for path, iod in zip(written(folder), ("ct-image", "segmentation"), strict=True):
        parse(path)
        for module in IOD_MODULE_MAP[iod]:
            if module["usage"] == "M" and "functional" not in module["key"]:
                check_required_attributes(pydicom.dcmread(path), module["key"])
        assert dciodvfy_errors(path) == []


def parse(path: Path) -> None:
    """Raises ValueError for what pydicom finds to be against the standard."""
    before = settings.reading_validation_mode
    settings.reading_validation_mode = RAISE
    try:
        for element in pydicom.dcmread(path).iterall():
            str(element.value)
    finally:
        settings.reading_validation_mode = before


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("deidentify", [False, True], ids=["identified", "deidentified"])
def test_what_has_no_valid_form_is_empty_or_left_out(
    tmp_path: Path, fault: dict[str, bytes], deidentify: bool
) -> None:
    case = make_case(tmp_path / "in", edit=spoil(fault))
    header = exported(case, tmp_path / "out", deidentify=deidentify)[0]
    require_valid(tmp_path / "out")
    if deidentify:
        return
    spoilt = {keyword for keyword in ORIGINAL if dictionary_VR(Tag(keyword)) in fault} - NOT_READ
    several = {"CS", "DS", "FD", "IS"} if fault is FAULTS["too many"] else set()
    for keyword in spoilt - OURS:
        may_have_several = dictionary_VR(Tag(keyword)) in several and header.get(keyword) not in (None, "")
        assert may_have_several or keyword not in header or header[keyword].is_empty, keyword


def test_pydicom_says_no_to_these_faults(tmp_path: Path) -> None:
    """The judge judges."""
    for name in ("malformed", "too long"):
        folder = tmp_path / name
        make_case(folder, edit=spoil(FAULTS[name]))
        with pytest.raises(ValueError, match=r"convert|[Ii]nvalid|exceeds"):
            parse(folder / "slice000.dcm")


def test_what_says_the_same_in_a_valid_form_is_rewritten(tmp_path: Path) -> None:
    forms = {
        "KVP": (b"120,0", "120.0"),
        "XRayTubeCurrent": (b"0000000000310", "310"),
        "TableHeight": (b"-123.45678901234567", "-123.45678901235"),
        "SliceThickness": (b"2.50000000000000000001", "2.5"),
        "PatientBirthDate": (b"1950.01.02", "19500102"),
        "StudyTime": (b"10:11:12.1234567", "101112.123456"),
        "PatientAge": (b"74Y", "074Y"),
        "PatientSex": (b"m", "M"),
        "BodyPartExamined": (b"chest", "CHEST"),
        "SeriesNumber": (b"3.0", "301"),
        "StudyDescription": (b"Thorax\r\nplain", "Thorax plain"),
    }
    hospital = Hospital()

    def edit(k: int, header: Dataset) -> None:
        hospital.edit(k, header)
        for keyword, (value, _) in forms.items():
            put(header, keyword, value)

    header = exported(make_case(tmp_path / "in", edit=edit), tmp_path / "out")[0]
    require_valid(tmp_path / "out")
    assert {keyword: str(header[keyword].value) for keyword in forms} == {
        keyword: form for keyword, (_, form) in forms.items()
    }


def test_a_place_in_too_many_digits_is_the_same_place(tmp_path: Path) -> None:
    hospital = Hospital()

    def edit(k: int, header: Dataset) -> None:
        hospital.edit(k, header)
        put(header, "PixelSpacing", b"0.80000000000000000001\\0.70000000000000000001")
        put(header, "ImagePositionPatient", b"-123.45678901234567890\\-95.000000000000000\\%.18f" % (2.5 * k))
        put(header, "ImageOrientationPatient", b"1.00000000000000000\\0\\0\\0\\1.00000000000000000\\0")

    case = make_case(tmp_path / "in", edit=edit)
    header = exported(case, tmp_path / "out")[1]
    require_valid(tmp_path / "out")
    assert header.PixelSpacing == [0.8, 0.7]
    assert np.allclose(header.ImagePositionPatient, [-123.45678901234567, -95, 2.5], rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("charset", "name", "kept"),
    [
        (b"ISO_IR 999", b"M\xfcller", ""),
        (b"ISO_IR 999", b"Miller", "Miller"),
        (b"ISO-IR 100", b"M\xfcller", "Müller"),
        (b"ISO_IR 192", b"M\xfcller", ""),
        (b"ISO_IR 100\\ISO_IR 999", b"M\xfcller", ""),
        (b"GB18030", "誠^王".encode("gb18030"), "誠^王"),
        (b"\\ISO 2022 IR 87", b"\x1b$B;3ED\x1b(B", "山田"),
        (b"\\ISO 2022 IR 149", b"\x1b$)C\xfb\xf3", "洪"),
        (b"ISO 2022 IR 100", b"M\xfcller", "Müller"),
        (b"Unicode, or so", b"M\xfcller", ""),
    ],
)
def test_names_are_read_as_declared_or_not_at_all(
    tmp_path: Path, charset: bytes, name: bytes, kept: str
) -> None:
    case = make_case(tmp_path / "in", edit=spoil(dict.fromkeys(TEXTS, name), charset))
    exported(case, tmp_path / "out")
    require_valid(tmp_path / "out")
    for path in written(tmp_path / "out"):
        assert str(pydicom.dcmread(path).PatientName) == kept
    scanner = pydicom.dcmread(tmp_path / "out" / "ct" / "00001.dcm").ContributingEquipmentSequence[0]
    assert scanner.get("InstitutionName", "") == kept


class TestTypeTwo:
    def test_a_seg_of_slices_without_thickness_has_their_distance(self, tmp_path: Path) -> None:
        for k, thickness in enumerate((b"", b"thick", b"0")):
            case = make_case(tmp_path / f"in{k}", edit=lambda _, h, t=thickness: put(h, "SliceThickness", t))
            header = exported(case, tmp_path / f"out{k}")[0]
            assert header.SliceThickness in (None, 0)  # as in the original
            assert thickness_of_seg(tmp_path / f"out{k}") == 2.5
        require_valid(tmp_path / "out0")
        require_valid(tmp_path / "out1")

    def test_a_thickness_that_is_there_is_kept(self, tmp_path: Path) -> None:
        case = make_case(tmp_path / "in", edit=lambda _, h: put(h, "SliceThickness", b"5,00"))
        assert exported(case, tmp_path / "out")[0].SliceThickness == 5
        assert thickness_of_seg(tmp_path / "out") == 5

    def test_an_empty_side_and_agent_stay_there(self, tmp_path: Path) -> None:
        """Type 2, but of some images only: a knee has a side, an injection an agent."""
        hospital = Hospital()

        def edit(k: int, header: Dataset) -> None:
            hospital.edit(k, header)
            header.BodyPartExamined, header.Laterality = "KNEE", ""
            header.ContrastBolusAgent, header.ContrastBolusRoute = "", "IV"

        case = make_case(tmp_path / "in", edit=edit)
        header = exported(case, tmp_path / "out")[0]
        require_valid(tmp_path / "out")
        assert header["Laterality"].is_empty
        assert header["ContrastBolusAgent"].is_empty
        exported(case, tmp_path / "anonymous", deidentify=True)
        require_valid(tmp_path / "anonymous")


def thickness_of_seg(folder: Path) -> float:
    seg = pydicom.dcmread(folder / "seg" / "00001.dcm")
    return float(seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness)


class TestNumbersAndUids:
    def test_a_study_uid_that_is_none_is_replaced_by_one_of_our_own(self, tmp_path: Path) -> None:
        hospital = Hospital(study="1.2.03", frame="")
        slices = exported(make_case(tmp_path / "in", hospital), tmp_path / "out")
        require_valid(tmp_path / "out")
        assert len({(s.StudyInstanceUID, s.FrameOfReferenceUID) for s in slices}) == 1
        assert slices[0].StudyInstanceUID != "1.2.03"
        assert (slices[0].PatientID, slices[0].StudyDate) == ("4711", "20240506")

    def test_one_slice_that_knows_its_study_is_enough(self, tmp_path: Path) -> None:
        hospital = Hospital()

        def edit(k: int, header: Dataset) -> None:
            hospital.edit(k, header)
            if k == 0:
                put(header, "StudyInstanceUID", b"")

        slices = exported(make_case(tmp_path / "in", edit=edit), tmp_path / "out")
        assert {s.StudyInstanceUID for s in slices} == {hospital.study}

    def test_a_uid_that_two_slices_share_is_not_referred_to(self, tmp_path: Path) -> None:
        shared = Uids("shared").new("slice")

        def edit(k: int, header: Dataset) -> None:
            if k < 2:
                header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = shared

        slices = exported(make_case(tmp_path / "in", edit=edit), tmp_path / "out")
        require_valid(tmp_path / "out")
        assert len({s.SOPInstanceUID for s in slices}) == len(slices)
        assert ["SourceImageSequence" in s for s in slices] == [False, False, True, True, True, True]

    @pytest.mark.parametrize("number", [b"", b"14.5", b"7", b"first"])
    def test_slices_without_a_number_of_their_own_are_counted(self, tmp_path: Path, number: bytes) -> None:
        case = make_case(tmp_path / "in", edit=lambda _, h: put(h, "InstanceNumber", number))
        slices = exported(case, tmp_path / "out")
        assert [s.InstanceNumber for s in slices] == [1, 2, 3, 4, 5, 6]

    @pytest.mark.parametrize(("number", "expected"), [(b"", 1), (b"x", 1), (b"-4", 401), (b"4.0", 401)])
    def test_a_series_without_number_keeps_its_name(
        self, tmp_path: Path, number: bytes, expected: int
    ) -> None:
        hospital = Hospital()

        def edit(k: int, header: Dataset) -> None:
            hospital.edit(k, header)
            put(header, "SeriesNumber", number)

        header = exported(make_case(tmp_path / "in", edit=edit), tmp_path / "out")[0]
        require_valid(tmp_path / "out")
        assert header.SeriesNumber == expected
        assert header.SeriesDescription.endswith("Thorax 2.0 Br59")

    def test_a_time_zone_there_is_not_is_no_time_zone(self, tmp_path: Path) -> None:
        case = make_case(tmp_path / "in", edit=lambda _, h: put(h, "TimezoneOffsetFromUTC", b"+9999"))
        assert "TimezoneOffsetFromUTC" not in exported(case, tmp_path / "out")[0]
