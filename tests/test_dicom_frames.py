"""Padding, loss, and frames that are not whole: what compression brings into a series."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from coding_kit import Coding, converted
from lesionbrush.errors import DamagedFile
from lesionbrush.files.io import read_volume


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


@pytest.mark.parametrize("command", ["dcmcjpeg +e1", "dcmcjpls +el", "dcmcrle"])
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


@pytest.mark.parametrize("command", ["dcmcjpeg +e1", "dcmcjpls +el", "dcmcrle"])
@pytest.mark.parametrize("overlaid", [False, True])
def test_padding_over_all_bits_in_every_compression(tmp_path: Path, command: str, overlaid: bool) -> None:
    """The codestream has 16 bits, the header says 12."""
    coding = Coding()
    for path in coding.write(tmp_path / "plain"):
        header = pydicom.dcmread(path)
        cells = np.frombuffer(header.PixelData, "<u2").reshape(35, 33) & 0x0FFF
        cells[:2] = 63536
        header.PixelData = cells.tobytes()
        header.save_as(path)
    folder = converted(tmp_path / "plain", command)
    for path in folder.iterdir():
        header = pydicom.dcmread(path)
        header.BitsStored, header.HighBit = 12, 11
        header.add_new("PixelPaddingValue", "US", 63536)
        if overlaid:
            header.add_new((0x6000, 0x0100), "US", 16)
        header.save_as(path)
    volume = read_volume(folder)
    assert np.array_equal(volume.array[:, 2:], (coding.stored()[:, 2:] & 0x0FFF) - 1024)
    assert (volume.array[:, :2] == -1024).all()
    assert "132 padding pixels" in volume.source.remarks[-1]


def test_an_edge_that_loss_made_too_bright_is_the_brightest(tmp_path: Path) -> None:
    for path in Coding(bits=12, high=11).write(tmp_path):
        header = pydicom.dcmread(path)
        cells = np.frombuffer(header.PixelData, "<u2").reshape(35, 33).copy()
        cells[:2] = 4100
        header.PixelData, header.LossyImageCompression = cells.tobytes(), "01"
        header.save_as(path)
    assert (read_volume(tmp_path).array[:, :2] == 4095 - 1024).all()
