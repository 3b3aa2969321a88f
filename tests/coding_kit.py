"""Series whose stored values, and so whose HU, are known by construction, in every way of storing them."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from dicom_fixtures import Series, write_numbers, write_series
from dicom_kit import missing
from pydicom.dataset import Dataset

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
            header.StudyInstanceUID, header.FrameOfReferenceUID = "1.2.3", "1.2.4"  # else GDCM makes some up
            cells = (stored[:, :, k].T & ((1 << self.bits) - 1)) << (self.high + 1 - self.bits)
            pixels = cells.astype(f"<u{self.allocated // 8}").tobytes()
            header.PixelData = pixels + b"\0" * (len(pixels) % 2)
            header["PixelData"].VR = "OB" if self.allocated == 8 else "OW"
            write_numbers(header, RescaleSlope=self.slope, RescaleIntercept=self.intercept)

        return write_series(folder, Series(np.zeros(SHAPE), edit=edit))


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
