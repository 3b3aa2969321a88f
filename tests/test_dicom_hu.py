"""HU by construction: whatever a slice says of its stored values is what they mean, or it is refused.

The expected HU are made first, and the file from them. What compresses the files is dcmtk or GDCM's own tool.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from coding_kit import SHAPE, Coding, converted
from dicom_fixtures import Edit, Series, write_series
from lesionbrush.errors import LesionBrushError, NotACT, UnsupportedSeries
from lesionbrush.files.io import read_volume
from pydicom.uid import UID

CODINGS = {
    "16 bits": Coding(),
    "16 signed": Coding(signed=True, intercept="0"),
    "MONOCHROME1": Coding(photometric="MONOCHROME1"),
    "MONOCHROME1 signed": Coding(photometric="MONOCHROME1", signed=True, intercept="0"),
    "12 of 16 bits": Coding(bits=12, high=11),
    "12 signed": Coding(bits=12, high=11, signed=True, intercept="0"),
    "12 MONOCHROME1": Coding(bits=12, high=11, photometric="MONOCHROME1"),
    "12 at the top": Coding(bits=12, high=15),
    "12 at the top signed": Coding(bits=12, high=15, signed=True, intercept="0"),
    "12 in the middle": Coding(bits=12, high=13),
    "8 bits": Coding(allocated=8, bits=8, high=7, slope="8"),
    "8 signed": Coding(allocated=8, bits=8, high=7, signed=True, slope="8", intercept="0"),
    "8 MONOCHROME1": Coding(allocated=8, bits=8, high=7, slope="8", photometric="MONOCHROME1"),
    "6 of 8 at the top": Coding(allocated=8, bits=6, high=7, slope="40"),
}
SLOPES = {
    "half": Coding(slope="0.5", intercept="-1024"),
    "comma": Coding(slope="0,5", intercept="-1024,0"),
    "leading point": Coding(slope=".5", intercept="-1024."),
    "exponent": Coding(slope="5e-1", intercept="-1.024E+03"),
    "negative": Coding(slope="-1", intercept="3000"),
    "fraction": Coding(slope="0.37", intercept="-1024.4"),
    "blanks": Coding(slope=" 2 ", intercept=" -8192", bits=12, high=11),
    "plus": Coding(slope="+1.0", intercept="-1000"),
    "long": Coding(slope="0.50000000000000000001", intercept="-1024"),
}
UNCOMPRESSED = {"implicit": "dcmconv +ti", "big-endian": "dcmconv +tb", "deflated": "dcmconv +td"}
BY_DCMTK = {"JPEG lossless": "dcmcjpeg +e1", "JPEG-LS": "dcmcjpls +el", "RLE": "dcmcrle"}
BY_GDCM = {"JPEG 2000": "gdcmconv --j2k", "JPEG of GDCM": "gdcmconv --jpeg"}


@pytest.mark.parametrize("coding", CODINGS.values(), ids=CODINGS)
def test_every_way_of_storing(tmp_path: Path, coding: Coding) -> None:
    coding.write(tmp_path)
    assert np.array_equal(read_volume(tmp_path).array, coding.hu(coding.stored()))


@pytest.mark.parametrize("coding", SLOPES.values(), ids=SLOPES)
@pytest.mark.filterwarnings("ignore:Invalid value")
def test_every_way_of_writing_a_slope(tmp_path: Path, coding: Coding) -> None:
    coding.write(tmp_path)
    volume = read_volume(tmp_path)
    assert np.array_equal(volume.array, coding.hu(coding.stored()))
    assert any("decimal commas" in remark for remark in volume.source.remarks) == ("," in coding.slope)


@pytest.mark.parametrize("command", [*UNCOMPRESSED.values(), *BY_DCMTK.values()])
@pytest.mark.parametrize("coding", CODINGS.values(), ids=CODINGS)
def test_every_transfer_syntax(tmp_path: Path, coding: Coding, command: str) -> None:
    coding.write(tmp_path / "plain")
    volume = read_volume(converted(tmp_path / "plain", command))
    assert np.array_equal(volume.array, coding.hu(coding.stored()))


@pytest.mark.parametrize("command", BY_GDCM.values(), ids=BY_GDCM)
@pytest.mark.parametrize("name", [name for name, coding in CODINGS.items() if coding.high == coding.bits - 1])
def test_what_gdcm_compresses(tmp_path: Path, name: str, command: str) -> None:
    """Its tool loses bits where HighBit is not BitsStored - 1; no reader could bring them back."""
    CODINGS[name].write(tmp_path / "plain")
    volume = read_volume(converted(tmp_path / "plain", command))
    assert np.array_equal(volume.array, CODINGS[name].hu(CODINGS[name].stored()))


def test_32_bits(tmp_path: Path) -> None:
    coding = Coding(allocated=32, bits=32, high=31, signed=True, intercept="0")
    coding.write(tmp_path / "plain")
    assert np.array_equal(read_volume(tmp_path / "plain").array, coding.hu(coding.stored()))
    with pytest.raises(UnsupportedSeries, match=r"slice000.dcm has BitsAllocated 32 in .*Big Endian"):
        read_volume(converted(tmp_path / "plain", UNCOMPRESSED["big-endian"]))


def test_bits_outside_of_the_stored_ones_are_not_read(tmp_path: Path) -> None:
    """Old series keep overlays there."""
    coding = Coding(bits=12, high=11)
    for path in coding.write(tmp_path):
        header = pydicom.dcmread(path)
        header.PixelData = (np.frombuffer(header.PixelData, "<u2") | 0xF000).tobytes()
        header.save_as(path)
    with pytest.raises(
        NotACT, match=r"slice000.dcm contradicts itself: it says BitsStored 12, and 1155 pixels"
    ):
        read_volume(tmp_path)
    for path in tmp_path.iterdir():
        header = pydicom.dcmread(path)
        header.add_new((0x6000, 0x0100), "US", 16)  # an overlay, in these bits
        header.save_as(path)
    assert np.array_equal(read_volume(tmp_path).array, coding.hu(coding.stored()))


class TestPadding:
    """What lies outside of the scanner's circle has a stored value of its own."""

    HU = np.random.default_rng(4).integers(-1024, 2000, SHAPE)

    def test_it_is_read_as_any_value(self, tmp_path: Path) -> None:
        hu = self.HU.copy()
        hu[:3] = -2000
        write_series(tmp_path, Series(hu, signed=True, intercept=0, edit=padded("SS", -2000)))
        volume = read_volume(tmp_path)
        assert np.array_equal(volume.array, hu)
        assert volume.source.remarks == ()

    @pytest.mark.parametrize("signed", [False, True])
    def test_beyond_16_bits_it_is_air_and_said(self, tmp_path: Path, signed: bool) -> None:
        hu = self.HU.copy()
        hu[:3] = 65535 - 1024 if not signed else -30000 * 2 - 1024
        slope, stored = (1, 65535) if not signed else (2, -30000)
        if signed:
            hu = hu // 2 * 2
        series = Series(hu, signed=signed, slope=slope, edit=padded("SS" if signed else "US", stored))
        write_series(tmp_path, series)
        volume = read_volume(tmp_path)
        assert np.array_equal(volume.array[3:], hu[3:])
        assert (volume.array[:3] == -1024).all()
        assert volume.source.remarks == ("210 padding pixels lie beyond 16-bit HU and were read as -1024 HU",)

    def test_tissue_beyond_16_bits_is_refused(self, tmp_path: Path) -> None:
        hu = self.HU.copy()
        hu[:3] = 65535 - 1024
        write_series(tmp_path, Series(hu, edit=padded("US", 65534)))
        with pytest.raises(NotACT, match="beyond 16-bit HU"):
            read_volume(tmp_path)


def padded(vr: str, value: int) -> Edit:
    return lambda k, header: header.add_new("PixelPaddingValue", vr, value)


@pytest.mark.parametrize(
    ("uid", "text"),
    [("4.90", "cannot be read .JPEG 2000 Image Compression"), ("4.99", "way that is not known")],
)
def test_a_compression_that_cannot_be_read_is_named(tmp_path: Path, uid: str, text: str) -> None:
    path = Coding().write(tmp_path)[0]
    header = pydicom.dcmread(path)
    header.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.90")
    header.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f\xff\x51" + bytes(58) + b"\xff\xd9"])
    header["PixelData"].is_undefined_length = True
    header.save_as(path)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"10008.1.2.4.90", b"10008.1.2." + uid.encode()))
    with pytest.raises(LesionBrushError, match=text):
        read_volume(tmp_path)


def test_slices_may_differ_in_how_they_are_stored(tmp_path: Path) -> None:
    hu = np.random.default_rng(5).integers(-1024, 2000, (33, 35, 4))
    for k, signed in enumerate((False, True, False, True)):
        part = Series(hu[:, :, k : k + 1], signed=signed, intercept=0 if signed else -1024, uid="1.2.3")
        photometric = f"MONOCHROME{k % 2 + 1}"
        edit: Edit = lambda _, header, p=photometric: header.update({"PhotometricInterpretation": p})  # noqa: E731
        moved = replace(part, first_mm=(0, 0, 2.5 * k), names=[f"{k}"], edit=edit)
        write_series(tmp_path, moved)
    assert np.array_equal(read_volume(tmp_path).array, hu)
