"""What a slice does not say of its values is not guessed: it is refused, with the tag and its value."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dicom_fixtures import Edit, Series, write_numbers, write_series
from lesionbrush.errors import DamagedFile, LesionBrushError, NotACT, UnsupportedSeries
from lesionbrush.files.io import read_volume
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

SHAPE = (33, 35, 2)


def some(**values: object) -> Edit:
    """An edit that sets tags of the second slice."""
    return lambda k, header: header.update(values) if k == 1 else None


def without(*keywords: str) -> Edit:
    def edit(k: int, header: Dataset) -> None:
        for keyword in keywords if k == 1 else ():
            del header[keyword]

    return edit


def numbers(**values: str) -> Edit:
    return lambda k, header: write_numbers(header, **values) if k == 1 else None


def lookup_table(k: int, header: Dataset) -> None:
    header.ModalityLUTSequence = Sequence([Dataset()])


def mapping_to_concentration(k: int, header: Dataset) -> None:
    unit, mapping = Dataset(), Dataset()
    unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "mg/ml", "UCUM", "mg/ml"
    mapping.MeasurementUnitsCodeSequence = Sequence([unit])
    header.RealWorldValueMappingSequence = Sequence([mapping])


REFUSED: dict[str, tuple[Edit, type[LesionBrushError], str]] = {
    "no slope": (without("RescaleSlope"), NotACT, "slice001.dcm has no RescaleSlope"),
    "no intercept": (without("RescaleIntercept"), NotACT, "slice001.dcm has no RescaleIntercept"),
    "neither": (without("RescaleSlope", "RescaleIntercept"), NotACT, "slice001.dcm has no RescaleSlope"),
    "words": (numbers(RescaleSlope="abc"), NotACT, "slice001.dcm has RescaleSlope 'abc': one number"),
    "two": (numbers(RescaleSlope="1\\2"), NotACT, "one number is needed"),
    "nan": (numbers(RescaleIntercept="nan"), NotACT, "RescaleIntercept 'nan'"),
    "underscore": (numbers(RescaleIntercept="1_0"), NotACT, "RescaleIntercept '1_0'"),
    "zero": (numbers(RescaleSlope="0.0"), NotACT, "RescaleSlope 0 and RescaleIntercept -1024"),
    "thousands": (numbers(RescaleIntercept="-1,024"), NotACT, "which is -1.024 or -1024: write it with"),
    "lookup table": (lookup_table, NotACT, "ModalityLUTSequence"),
    "iodine": (some(RescaleType="MGML"), NotACT, "in mg/ml, .*not HU .RescaleType MGML in slice001"),
    "Z effective": (some(RescaleType="Z_EFF"), NotACT, "effective atomic number, not HU"),
    "unspecified": (some(RescaleType="US"), NotACT, "a unit that the file leaves unspecified"),
    "another unit": (some(RescaleType="mg/cc"), NotACT, "'mg/cc', not HU"),
    "mapped": (mapping_to_concentration, NotACT, "maps its values to mg/ml"),
    "iodine by type": (
        some(ImageType=["DERIVED", "PRIMARY", "AXIAL", "MAT_SPECIFIC"]), NotACT, "slice001.dcm is a map",
    ),
    "perfusion": (some(ImageType=["DERIVED", "PRIMARY", "AXIAL", "CBF"]), NotACT, "holds no HU"),
    "water taken out": (
        some(ImageType=["DERIVED", "PRIMARY", "AXIAL", "MAT_REMOVED"], RescaleType=""), NotACT,
        "does not say that it is in HU",
    ),
    "secondary capture": (
        some(SOPClassUID=UID("1.2.840.10008.5.1.4.1.1.7")), NotACT, "is stored as Secondary Capture",
    ),
    "PET": (some(Modality="PT"), NotACT, "modality PT"),
    "palette": (some(PhotometricInterpretation="PALETTE COLOR"), UnsupportedSeries, "PALETTE COLOR"),
    "bits": (some(BitsAllocated=12), UnsupportedSeries, "BitsAllocated 12; 8, 16 and 32"),
    "more stored than allocated": (some(BitsStored=20), DamagedFile, "BitsStored 20, HighBit 15"),
    "high bit": (some(HighBit=16), DamagedFile, "contradicts itself: .* BitsStored 16, HighBit 16"),
    "sign": (some(PixelRepresentation=2), DamagedFile, "PixelRepresentation 2"),
    "no sign": (without("PixelRepresentation"), NotACT, "slice001.dcm has no usable PixelRepresentation"),
    "no bits": (without("BitsStored"), NotACT, "no usable BitsStored"),
    "no pixels": (without("PixelData"), DamagedFile, "slice001.dcm holds no pixels"),
    "too many pixels": (
        lambda k, header: setattr(header, "PixelData", header.PixelData + b"\1" * 40), DamagedFile,
        r"holds 2350 bytes of pixels, its header says 2310",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("edit", "error", "text"), REFUSED.values(), ids=REFUSED)
@pytest.mark.filterwarnings("ignore:Invalid value")
def test_what_a_file_does_not_say_is_refused(
    tmp_path: Path, edit: Edit, error: type[LesionBrushError], text: str
) -> None:
    """One slice is enough, and is named; no pixel of any other has been looked at by then."""
    write_series(tmp_path, Series(np.full(SHAPE, 40), edit=edit))
    with pytest.raises(error, match=text):
        read_volume(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"RescaleType": None},
        {"RescaleType": "hu "},
        {"RescaleType": "Hounsfield Units"},
        {"ImageType": ["DERIVED", "SECONDARY", "MPR"]},
        {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "VMI"]},
        {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "MAT_REMOVED"], "RescaleType": "HU"},
        {"HighBit": None},
        {"PhotometricInterpretation": None},
        {"SOPClassUID": None},
    ],
    ids=str,
)
def test_what_changes_no_hu_is_read(tmp_path: Path, changes: dict[str, object]) -> None:
    hu = np.random.default_rng(3).integers(-1024, 2000, SHAPE)
    write_series(tmp_path, Series(hu, edit=lambda k, header: header.update(changes)))
    assert np.array_equal(read_volume(tmp_path).array, hu)
