"""What an image says to be: CT in HU is read, all else is said to be what it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dicom_fixtures import Edit, Series, write_series
from lesionbrush.errors import LesionBrushError, NotACT
from lesionbrush.files.io import read_volume
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

HU = np.random.default_rng(0).integers(-1000, 2000, (6, 5, 3))


def kind(*values: str, unit: str | None = None) -> Edit:
    """ImageType DERIVED\\PRIMARY\\AXIAL and more. unit: RescaleType; None: none."""
    return lambda k, header: header.update(
        {"ImageType": ["DERIVED", "PRIMARY", *values], "RescaleType": unit}
    )


def read(folder: Path, edit: Edit) -> np.ndarray:
    write_series(folder, Series(HU, edit=edit))
    return read_volume(folder).array


CT = ("AXIAL", "MPR", "VMI", "CT_SOM7 SPI", "NO_IODINE", "IODINE_REMOVED", "DE_IODINE_VNC", "IODINE_ENHANCED")
SCOUTS = ("LOCALIZER", "SCOUT", "TOPOGRAM", "SCANOSCOPE", "SURVIEW")
PICTURES = ("SCREEN SAVE", "DOSE_INFO", "VRT")
MAPS = (
    "MAT_SPECIFIC", "EFF_ATOMIC_NUM", "Z EFFECTIVE", "ZEFF", "RHO", "ELECTRON DENSITY", "IODINE",
    "IODINE_MAP", "URIC_ACID", "CBF", "RCBV", "PBV", "BLOOD_FLOW", "PERMEABILITY", "MTT", "TMAX",
)  # fmt: skip
DOUBTFUL = ("PERFUSION", "SUBTRACTION", "SUB", "MAT_REMOVED", "MAT_MODIFIED")


@pytest.mark.parametrize("unit", ["HU", None])
@pytest.mark.parametrize("value", CT)
def test_a_ct(tmp_path: Path, value: str, unit: str | None) -> None:
    assert np.array_equal(read(tmp_path, kind(value, unit=unit)), HU)


@pytest.mark.parametrize("value", DOUBTFUL)
def test_a_ct_where_the_file_says_hu(tmp_path: Path, value: str) -> None:
    assert np.array_equal(read(tmp_path / "a", kind(value, unit="HU")), HU)
    with pytest.raises(NotACT, match=rf"{value}\) and does not say that it is in HU"):
        read(tmp_path / "b", kind(value))


@pytest.mark.parametrize("unit", ["HU", None])
@pytest.mark.parametrize(("value", "text"), [
    *((value, "is a map computed from CT") for value in MAPS),
    *((value, "holds 3 localizer images") for value in SCOUTS),
    *((value, "is a picture made from a CT") for value in PICTURES),
])  # fmt: skip
def test_no_ct(tmp_path: Path, value: str, text: str, unit: str | None) -> None:
    with pytest.raises(NotACT, match=text):
        read(tmp_path, kind("AXIAL", value, unit=unit))


@pytest.mark.parametrize("unit", ["HU", "hu", "Hounsfield units", "[hnsf'U]", "HU\\HU", " HU ", "\tHU\r\n"])
def test_names_of_hu(tmp_path: Path, unit: str) -> None:
    assert np.array_equal(read(tmp_path, lambda k, header: header.update({"RescaleType": unit})), HU)


@pytest.mark.parametrize("unit", ["%", "HU*", "0.1 HU", "HU/10", "10^-3", "1000", "MGML", "US", "HU\\MGML"])
def test_other_units(tmp_path: Path, unit: str) -> None:
    with pytest.raises(NotACT, match=r"not HU \(RescaleType .* in slice000.dcm\)"):
        read(tmp_path, lambda k, header: header.update({"RescaleType": unit}))


def mapped(unit: str, slope: float | None = None, intercept: float | None = None) -> Edit:
    def edit(k: int, header: Dataset) -> None:
        code, mapping = Dataset(), Dataset()
        code.CodeValue = unit
        mapping.MeasurementUnitsCodeSequence = Sequence([code])
        if slope is not None:
            mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = slope, intercept
        header.RealWorldValueMappingSequence = Sequence([mapping])

    return edit


@pytest.mark.parametrize("unit", ["[hnsf'U]", "HU", "hnsf'U", "[HNSF'U]"])
def test_a_mapping_that_says_the_same(tmp_path: Path, unit: str) -> None:
    assert np.array_equal(read(tmp_path, mapped(unit, 1.0, -1024.0)), HU)


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (
            mapped("[hnsf'U]", 2.0, -2048.0),
            "states two HU for each value: RescaleSlope 1.0, Real",
        ),
        (mapped("[hnsf'U]", 1.0, 0.0), "RescaleIntercept -1024.0, RealWorldValueIntercept 0.0"),
        (mapped("mg/ml"), "maps its values to mg/ml"),
    ],
)
def test_a_mapping_that_says_something_else(tmp_path: Path, edit: Edit, text: str) -> None:
    with pytest.raises(NotACT, match=text):
        read(tmp_path, edit)


@pytest.mark.parametrize(
    "changes",
    [
        {"PhotometricInterpretation": "monochrome2"},
        {"Modality": "ct"},
        {"ModalityLUTSequence": Sequence([])},
        {"RescaleSlope": "1\t", "RescaleIntercept": "-1024\r\n"},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Invalid value")
def test_small_sloppiness(tmp_path: Path, changes: dict[str, object]) -> None:
    assert np.array_equal(read(tmp_path, lambda k, header: header.update(changes)), HU)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2.1"}, "is an enhanced CT"),
        ({"Modality": "SEG"}, r"modality SEG, .*slice000.dcm.*save the segmentation as NRRD or NIfTI"),
    ],
)
def test_what_to_do_with_others(tmp_path: Path, changes: dict[str, object], text: str) -> None:
    with pytest.raises(LesionBrushError, match=text):
        read(tmp_path, lambda k, header: header.update(changes))


@pytest.mark.parametrize("value", ["PERFUSION", "DOSE", "SUBTRACTION"])
def test_how_an_original_was_taken_makes_it_no_map(tmp_path: Path, value: str) -> None:
    edit: Edit = lambda k, header: header.update({"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", value]})  # noqa: E731
    assert np.array_equal(read(tmp_path, edit), HU)
