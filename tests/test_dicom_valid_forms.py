"""What of a DICOM file has a valid form, and which: values, texts, elements, items."""

from __future__ import annotations

import struct
from io import BytesIO
from random import Random

import pydicom
import pytest
from dicom_kit import put
from lesionbrush.files.dicom_export.attributes import ORIGINAL, keep
from lesionbrush.files.dicom_export.charset import Charset
from lesionbrush.files.dicom_export.valid_forms import allows, valid_form
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.valuerep import MAX_VALUE_LEN, STANDARD_VR, STR_VR

JAPANESE = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B"
KOREAN = b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7"


class TestValues:
    @pytest.mark.parametrize(
        ("vr", "value"),
        [
            *[("DS", value) for value in ("0.5", "-1.5E+3", "+.5", "1.")],
            *[("IS", value) for value in ("-3", "+7", "2147483647")],
            *[("DA", "19500102"), ("TM", "1011"), ("TM", "101112.5"), ("DT", "2024"), ("AS", "045Y")],
            *[("DT", "20240506101112.123456+0100"), ("UI", "1.2.3"), ("CS", "A_B 1")],
            *[("PN", "A^B^C^D^E=山田"), ("LO", "a" * 64), ("ST", "two\r\nlines, a \\")],
        ],
    )
    def test_are_left_as_they_are_where_they_are_valid(self, vr: str, value: str) -> None:
        assert valid_form(vr, value) == value

    @pytest.mark.parametrize(
        ("vr", "value", "valid"),
        [
            ("DS", "0,5", "0.5"),
            ("DS", "0.80000000000000000001", "0.8"),
            ("DS", "-123.45678901234567", "-123.45678901235"),
            ("DS", " 5 \0", "5"),
            ("IS", "14.0", "14"),
            ("IS", "0000000000014", "14"),
            ("DA", "1950.01.02", "19500102"),
            ("DA", "1950-01-02", "19500102"),
            ("TM", "10:11:12.5", "101112.5"),
            ("TM", "10:11", "1011"),
            ("TM", "101112.1234567", "101112.123456"),
            ("DT", "2024-05-06T10:11:12+01:00", "20240506101112+0100"),
            ("AS", "45Y", "045Y"),
            ("CS", "chest", "CHEST"),
            ("UI", "1.2.3\0", "1.2.3"),
            ("LO", "two\r\nlines", "two lines"),
            ("PN", "Doe\tJane", "Doe Jane"),
        ],
    )
    def test_say_the_same_in_a_valid_form(self, vr: str, value: str, valid: str) -> None:
        assert valid_form(vr, value) == valid

    @pytest.mark.parametrize(
        ("vr", "value"),
        [
            *[("DS", value) for value in ("abc", "12o", "1,234.5", "nan", "1e400", "5 mm", "1_0", "")],
            *[("IS", value) for value in ("14.5", "x", "2147483648", "99999999999", "")],
            *[("DA", value) for value in ("02.01.1950", "19500231", "195001", "19500101-19500102", "0000")],
            *[("TM", value) for value in ("250000", "10h", "1:1:12", "1011-1012")],
            *[("DT", value) for value in ("now", "20240231", "20240506-20240507")],
            *[("AS", value) for value in ("45", "4 months", "0450Y")],
            *[("CS", value) for value in ("A" * 17, "C-SPINE", "MALE, I THINK SO")],
            *[("UI", value) for value in ("1.2.03", "1.2.a", "1." + "2" * 63)],
            *[("PN", value) for value in ("a" * 65, "A^B^C^D^E^F", "A=B=C=D", "Doe\x85")],
            *[("LO", "a" * 65), ("SH", "a" * 17), ("ST", "a" * 1025), ("LO", "a\x00b"), ("ST", "a\x1b")],
        ],
    )
    def test_are_not_guessed_where_they_are_not_valid(self, vr: str, value: str) -> None:
        assert valid_form(vr, value) is None

    @pytest.mark.parametrize("number", ["1.23456789012345678e-250", "-98765432109876543210", "0." + "3" * 40])
    def test_of_many_digits_stay_the_same_number(self, number: str) -> None:
        form = valid_form("DS", number)
        assert len(form) <= MAX_VALUE_LEN["DS"]
        assert float(form) == pytest.approx(float(number), rel=1e-8)

    @pytest.mark.parametrize("vr", sorted(STR_VR))
    def test_of_every_kind_are_judged(self, vr: str) -> None:
        assert valid_form(vr, "\x07") is None

    def test_may_be_so_many(self) -> None:
        allowed = [("1", 1), ("3", 3), ("1-3", 2), ("1-n", 9), ("2-n", 3), ("2-2n", 4)]
        assert all(allows(*case) for case in allowed)
        refused = [("1", 2), ("3", 2), ("1-3", 4), ("2-n", 1), ("2-2n", 3)]
        assert not any(allows(*case) for case in refused)


class TestTexts:
    @pytest.mark.parametrize(
        ("terms", "data", "text", "written"),
        [
            (["ISO_IR 100"], b"M\xfcller", "Müller", "ISO_IR 100"),
            (["ISO-IR 100"], b"M\xfcller", "Müller", "ISO_IR 100"),
            (["iso_ir 192"], "山田".encode(), "山田", "ISO_IR 192"),
            (["ISO 2022 IR 100"], b"M\xfcller", "Müller", "ISO_IR 192"),
            (["ISO_IR 203"], b"\xa4", "€", "ISO_IR 192"),
            (["GB18030"], "誠".encode("gb18030"), "誠", "ISO_IR 192"),  # its second byte is a backslash
            (["", "ISO 2022 IR 87"], JAPANESE, "Yamada^Tarou=山田^太郎=やまだ^たろう", "ISO_IR 192"),
            (["", "ISO 2022 IR 149"], KOREAN, "Hong^Gildong=洪^吉洞", "ISO_IR 192"),
            ([], b"Miller", "Miller", None),
            (["ISO_IR 999"], b"Miller", "Miller", None),
        ],
    )
    def test_are_read_by_what_the_file_declares(
        self, terms: list[str], data: bytes, text: str, written: str | None
    ) -> None:
        charset = Charset.declared(terms)
        assert charset.decode(data, "PN") == text
        assert charset.term == written

    @pytest.mark.parametrize(
        ("terms", "data"),
        [
            ([], b"M\xfcller"),
            ([""], b"M\xfcller"),
            (["ISO_IR 6"], b"M\xfcller"),
            (["ISO_IR 999"], b"M\xfcller"),
            (["ISO_IR 999"], "Müller".encode()),
            (["ISO_IR 100", "ISO_IR 999"], b"M\xfcller"),
            (["ISO_IR 192"], b"M\xfcller"),
            (["GB18030"], b"M\xff"),
            (["", "ISO 2022 IR 87"], b"\x1b$B\xff\xff\x1b(B"),
            (["", "ISO 2022 IR 87"], b"M\xfcller"),
            (["", "ISO 2022 IR 100"], b"\x1b(BM\xfcller"),
        ],
    )
    def test_are_not_guessed(self, terms: list[str], data: bytes) -> None:
        assert Charset.declared(terms).decode(data, "PN") is None

    @pytest.mark.parametrize("terms", [["", "ISO 2022 IR 87"], ["ISO_IR 100"], []])
    def test_of_another_escape_than_declared_have_no_valid_form(self, terms: list[str]) -> None:
        text = Charset.declared(terms).decode(KOREAN, "PN")
        assert text is None or valid_form("PN", text) is None


class TestElements:
    @pytest.mark.parametrize(
        ("keyword", "value", "vr", "found"),
        [
            ("KVP", b"120\\120", "", None),
            ("KVP", b"120", "UN", 120),
            ("KVP", b"120", "LO", 120),
            ("KVP", b"loud", "LO", None),
            ("KVP", struct.pack("<d", 120.0), "FD", 120),
            ("AcquisitionNumber", struct.pack("<H", 7), "US", 7),
            ("PixelSpacing", b"0,7\\0.80000000000000000001", "", [0.7, 0.8]),
            ("PixelSpacing", b"0.7", "", None),
            ("PixelSpacing", b"0.7\\", "", None),
            ("SpiralPitchFactor", struct.pack("<d", 0.9), "", 0.9),
            ("SpiralPitchFactor", struct.pack("<d", float("nan")), "", None),
            ("SpiralPitchFactor", b"\0\0\0\0", "", None),
            ("SpiralPitchFactor", struct.pack("<2d", 0.9, 0.9), "", None),
            ("SpiralPitchFactor", b"0.9", "DS", 0.9),
            ("StudyDescription", b"Thorax\\Abdomen", "", None),
            ("InstitutionAddress", b"1 A\\B Street", "", "1 A\\B Street"),
            ("PatientSex", b"m", "", "M"),
            ("PatientSex", b"MALE", "", None),
            ("TimezoneOffsetFromUTC", b"+9999", "", None),
            ("LossyImageCompression", b"01", "", "01"),
            ("ContributingEquipmentSequence", b"text", "LO", None),
            ("StudyDescription", b"\xe5\x80", "OB", None),
            ("StudyDescription", b"\xe5\x80\x41\x42", "FD", None),
            ("StudyDescription", b"a", "AT", None),
            ("StudyDescription", b"Thorax", "UN", "Thorax"),
            ("PatientName", b"   ", "", None),
            ("PatientName", b"\0\0", "", None),
            ("PatientName", b"M\xfcller", "", None),
        ],
    )
    def test_have_the_form_of_the_dictionary(self, keyword: str, value: bytes, vr: str, found) -> None:
        source = Dataset()
        put(source, keyword, value, vr)
        assert keep(source, [keyword]).get(keyword) == found

    def test_of_a_window_go_together(self) -> None:
        source = Dataset()
        put(source, "WindowCenter", b"40\\-600")
        put(source, "WindowWidth", b"400\\1500")
        put(source, "WindowCenterWidthExplanation", b"SOFT")
        keywords = ["WindowCenter", "WindowWidth", "WindowCenterWidthExplanation"]
        assert sorted(keep(source, keywords).dir()) == ["WindowCenter", "WindowWidth"]
        for width in (b"400", b"400\\wide", b"400\\0", b"400\\0.5"):
            put(source, "WindowWidth", width)
            assert keep(source, keywords).dir() == []
        put(source, "VOILUTFunction", b"SIGMOID")  # which alone may be narrower than 1
        assert keep(source, [*keywords, "VOILUTFunction"]).WindowWidth == [400, 0.5]

    def test_that_say_deidentified_say_how(self) -> None:
        source = Dataset()
        put(source, "PatientIdentityRemoved", b"YES")
        put(source, "DeidentificationMethod", b"a" * 66)
        keywords = ["PatientIdentityRemoved", "DeidentificationMethod"]
        assert keep(source, keywords).dir() == []
        put(source, "DeidentificationMethod", b"by hand")
        assert len(keep(source, keywords).dir()) == 2


def read_back(header: Dataset) -> Dataset:
    header.is_little_endian, header.is_implicit_VR = True, False
    file = BytesIO()
    pydicom.dcmwrite(file, header)
    return pydicom.dcmread(BytesIO(file.getvalue()), force=True)


@pytest.mark.parametrize("seed", range(4))
def test_any_bytes_under_any_vr_are_copied_exactly_or_not_at_all(seed: int) -> None:
    random = Random(seed)
    pieces = [bytes([code]) for code in b"0123456789.,-+eE\\^= ABYaby:\n\0\xfc\xc3\x80"]
    pieces += [b"\x1b$B", b"\x1b(B", b"\x1b$)C", b"\xff\xfe\x00\xe0"]
    charsets = [
        b"ISO_IR 100",
        b"ISO_IR 192",
        b"\\ISO 2022 IR 87",
        b"GB18030",
        b"ISO_IR 166",
        b"ISO_IR 999",
        b"\0",
    ]
    for _ in range(150):
        source = Dataset()
        for keyword in random.sample(sorted({*ORIGINAL} - {"SpecificCharacterSet"}), 20):
            vr = random.choice(sorted(STANDARD_VR)) if random.random() < 0.3 else ""
            put(source, keyword, b"".join(random.choices(pieces, k=random.randrange(20))), vr)
        put(source, "SpecificCharacterSet", random.choice(charsets))
        header = keep(source, ORIGINAL)
        for element in read_back(header):
            assert element.is_empty == header[element.tag].is_empty
            assert element.is_empty or str(element.value).rstrip() == str(header[element.tag].value).rstrip()


class TestItems:
    @staticmethod
    def code(value: bytes, meaning: bytes, charset: bytes = b"") -> Dataset:
        item = Dataset()
        put(item, "CodeValue", value)
        put(item, "CodingSchemeDesignator", b"DCM")
        put(item, "CodeMeaning", meaning)
        if charset:
            put(item, "SpecificCharacterSet", charset)
        return item

    def test_without_what_they_need_are_left_out(self) -> None:
        source = Dataset()
        good, bad = self.code(b"113100", b"Basic"), self.code(b"1" * 17, b"Other")
        source.DeidentificationMethodCodeSequence = Items([good, bad])
        keyword = "DeidentificationMethodCodeSequence"
        assert [item.CodeValue for item in keep(source, [keyword])[keyword]] == ["113100"]
        source.DeidentificationMethodCodeSequence = Items([bad])
        assert keyword not in keep(source, [keyword])

    def test_are_copied_without_what_is_invalid_or_private(self) -> None:
        source, item = Dataset(), Dataset()
        put(item, "Manufacturer", b"Scanners Inc")
        put(item, "DateOfLastCalibration", b"02.01.1950")
        put(item, "SpatialResolution", b"0,5")
        put(item, "InstitutionName", b"")
        item.add_new((0x0009, 0x0010), "LO", "SECRET")
        item.PurposeOfReferenceCodeSequence = Items([self.code(b"109101", b"Acquisition")])
        source.ContributingEquipmentSequence = Items([item])
        copy = keep(source, ["ContributingEquipmentSequence"]).ContributingEquipmentSequence[0]
        assert (copy.Manufacturer, copy.SpatialResolution) == ("Scanners Inc", 0.5)
        assert copy["DateOfLastCalibration"].is_empty
        assert copy["InstitutionName"].is_empty
        assert copy.PurposeOfReferenceCodeSequence[0].CodeValue == "109101"
        assert not [element for element in copy if element.tag.is_private]

    def test_have_the_character_set_around_them_or_their_own(self) -> None:
        source = Dataset()
        put(source, "SpecificCharacterSet", b"ISO_IR 100")
        own = self.code(b"2", "山".encode(), b"ISO_IR 192")
        unknown = self.code(b"3", b"M\xfc", b"ISO_IR 999")
        keyword = "DeidentificationMethodCodeSequence"
        source.add_new(keyword, "SQ", Items([self.code(b"1", b"M\xfc"), own, unknown]))
        items = keep(source, ["SpecificCharacterSet", keyword])[keyword].value
        assert [(item.CodeValue, item.CodeMeaning) for item in items] == [("1", "Mü"), ("2", "山")]
        assert items[1].SpecificCharacterSet == "ISO_IR 192"
