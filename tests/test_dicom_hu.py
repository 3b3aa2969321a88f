"""HU by construction: whatever a slice says of its stored values is what they mean, or it is refused.

The expected HU are made first, and the file from them. What compresses the files is dcmtk or GDCM's own tool.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_fixtures import Edit, Series, write_numbers, write_series
from dicom_kit import missing
from lesionbrush.errors import DamagedFile, LesionBrushError, NotACT, UnsupportedSeries
from lesionbrush.io import read_volume
from pydicom.dataset import Dataset
from pydicom.uid import UID

SHAPE = (33, 35, 2)  # odd, so that 8-bit pixels need a byte of padding


@dataclass(frozen=True)
class Coding:
    """How stored values are written. bits: stored; high: the high bit."""

    allocated: int = 16
    bits: int = 16
    high: int = 15
    signed: bool = False
    photometric: str = "MONOCHROME2"
    slope: str = "1"
    intercept: str = "-1024"

    @property
    def range(self) -> tuple[int, int]:
        half = 1 << (self.bits - 1)
        low, high = (-half, half - 1) if self.signed else (0, 2 * half - 1)
        return max(low, -30000), min(high, 30000)

    def stored(self) -> np.ndarray:
        """The whole range, its ends included."""
        values = np.random.default_rng(self.bits).integers(*self.range, SHAPE, endpoint=True)
        values[0, 0, :], values[-1, -1, :] = self.range
        return values

    def hu(self, stored: np.ndarray) -> np.ndarray:
        """The closed form; slope and intercept as numbers of Python."""
        return np.rint(stored * float(self.slope.replace(",", ".")) + float(self.intercept.replace(",", ".")))

    def write(self, folder: Path) -> list[Path]:
        stored = self.stored()

        def edit(k: int, header: Dataset) -> None:
            header.BitsAllocated, header.BitsStored, header.HighBit = self.allocated, self.bits, self.high
            header.PixelRepresentation = int(self.signed)
            header.PhotometricInterpretation = self.photometric
            cells = (stored[:, :, k].T & ((1 << self.bits) - 1)) << (self.high + 1 - self.bits)
            pixels = cells.astype(f"<u{self.allocated // 8}").tobytes()
            header.PixelData = pixels + b"\0" * (len(pixels) % 2)
            header["PixelData"].VR = "OB" if self.allocated == 8 else "OW"
            write_numbers(header, RescaleSlope=self.slope, RescaleIntercept=self.intercept)

        return write_series(folder, Series(np.zeros(SHAPE), edit=edit))


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


def converted(folder: Path, command: str) -> Path:
    """Every slice of a series, in another transfer syntax."""
    program, *options = command.split()
    if shutil.which(program) is None:
        missing(program)
    other = folder.with_name("converted")
    other.mkdir()
    for path in folder.iterdir():
        subprocess.run(
            [program, *options, str(path), str(other / path.name)], check=True, capture_output=True
        )
    return other


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


@pytest.mark.parametrize("signed", [False, True])
def test_padding_over_all_bits_is_no_tissue(tmp_path: Path, signed: bool) -> None:
    """-2000 in 16 bits, in a series that says 12."""
    coding = Coding(bits=12, high=11, signed=signed, intercept="0" if signed else "-1024")
    for path in coding.write(tmp_path):
        header = pydicom.dcmread(path)
        cells = np.frombuffer(header.PixelData, "<u2").reshape(35, 33).copy()
        cells[:2] = 63536
        header.PixelData = cells.tobytes()
        header.add_new("PixelPaddingValue", "US", 63536)
        header.save_as(path)
    volume = read_volume(tmp_path)
    assert np.array_equal(volume.array[:, 2:], coding.hu(coding.stored())[:, 2:])
    assert (volume.array[:, :2] == (-2000 if signed else -1024)).all()


@pytest.mark.parametrize("command", [BY_DCMTK["JPEG lossless"], BY_DCMTK["JPEG-LS"], BY_DCMTK["RLE"]])
@pytest.mark.parametrize("lost", [2, 40, 400])
def test_a_frame_that_ends_too_early(tmp_path: Path, command: str, lost: int) -> None:
    """The file is whole, and what is in it is not: decoders fill it up."""
    Coding().write(tmp_path / "plain")
    folder = converted(tmp_path / "plain", command)
    path = folder / "slice001.dcm"
    header = pydicom.dcmread(path)
    frame = b"".join(pydicom.encaps.decode_data_sequence(header.PixelData))
    kept = frame[: len(frame) - lost]
    header.PixelData = pydicom.encaps.encapsulate([kept if "rle" in command else kept + bytes(lost)])
    header["PixelData"].is_undefined_length = True
    header.save_as(path)
    with pytest.raises(DamagedFile, match=r"^slice001.dcm"):
        read_volume(folder)


def test_loss_and_rounding_are_said(tmp_path: Path) -> None:
    Coding(slope="0.37").write(tmp_path / "a")
    assert read_volume(tmp_path / "a").source.remarks == (
        "HU were rounded to whole numbers (RescaleSlope 0.37, RescaleIntercept -1024)",
    )
    for path in Coding().write(tmp_path / "b"):
        header = pydicom.dcmread(path)
        header.LossyImageCompression = "01"
        header.save_as(path)
    (remark,) = read_volume(tmp_path / "b").source.remarks
    assert remark.startswith("2 slices were compressed with loss")
