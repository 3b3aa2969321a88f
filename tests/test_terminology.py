"""Segments of 3D Slicer by their SNOMED CT codes, whatever they are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from core_fixtures import grid
from lesionbrush.core.volume import Volume
from lesionbrush.errors import InvalidRequest, NotACT
from lesionbrush.files.layouts import read_layout
from lesionbrush.files.terminology import ORGANS_BY_CODE, name_of_segment, name_without_code
from lesionbrush.systems.semantic.classes import BODY, OUTSIDE, find_classes
from slicer_files import write_segmentation

PLACE = "~Anatomic codes - DICOM master list~^^~^^|"
EMPTY = Volume(np.zeros((8, 7, 6), np.uint8), grid((2.0, 2.0, 3.0)))


def tags(code: str, meaning: str, side: str = "^^", scheme: str = "SCT") -> str:
    """As Slicer 5 writes them."""
    kind = "SCT^123037004^Anatomical Structure"
    entry = f"Segmentation category and type - 3D Slicer General Anatomy list~{kind}"
    return f"Segmentation.Status:inprogress|TerminologyEntry:{entry}~{scheme}^{code}^{meaning}~{side}{PLACE}"


RIGHT, LEFT = "SCT^24028007^Right", "SCT^7771000^Left"


@pytest.mark.parametrize(
    ("name", "said", "found"),
    [
        ("Segment_1", tags("10200004", "Liver"), "liver"),
        ("Segment_2", tags("64033007", "Kidney", RIGHT), "right kidney"),
        ("x", tags("23451007", "Adrenal gland", LEFT), "left adrenal gland"),
        ("Kidney, left one", tags("64033007", "Kidney"), "left kidney"),
        ("thing", tags("64033007", "Kidney"), "kidney"),
        ("Liver", tags("10200004", "Liver"), "liver"),
        ("Pankreas", tags("85756007", "Tissue"), "Pankreas"),
        ("my liver", tags("T-62000", "Liver", scheme="SRT"), "my liver"),
        ("liver mass", tags("4147007", "Mass"), "liver mass"),
        ("spleen", "", "spleen"),
        ("spleen", "TerminologyEntry:|", "spleen"),
    ],
)
def test_the_code_counts_where_it_is_that_of_an_organ(name: str, said: str, found: str) -> None:
    assert name_of_segment(name, said) == found


def test_all_codes_are_organs_that_semantic_ct_knows() -> None:
    for organ in ORGANS_BY_CODE.values():
        numbers = find_classes(organ)
        assert numbers
        assert all(OUTSIDE < number < BODY for number in numbers), organ


def test_a_code_behind_a_name_is_read_from_a_table() -> None:
    assert name_without_code("Segment_1 [SCT 64033007 24028007]") == "right kidney"
    assert name_without_code("Segment_1 [SCT 10200004]") == "liver"
    assert name_without_code("knee [SCT 72696002]") == "knee"
    assert name_without_code("liver [old]") == "liver [old]"


def test_names_and_codes_that_differ_are_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"'Spleen' has the code of liver \(SCT 10200004\)"):
        name_of_segment("Spleen", tags("10200004", "Liver"))
    with pytest.raises(InvalidRequest, match="'left kidney' has the code of the right kidney"):
        name_of_segment("left kidney", tags("64033007", "Kidney", RIGHT))


def two_organs() -> dict[str, np.ndarray]:
    one, other = np.zeros((2, *EMPTY.shape), bool)
    one[1:3], other[5:7] = True, True
    return {"Segment_1": one, "Segment_2": other}


def test_a_file_of_slicer_is_understood_by_its_codes(tmp_path: Path) -> None:
    coded = {
        "Segment_1": tags("10200004", "Liver"),
        "Segment_2": tags("64033007", "Kidney", LEFT),
    }
    layout = read_layout(write_segmentation(tmp_path / "a.seg.nrrd", EMPTY, two_organs(), coded))
    assert layout.names == {1: "liver", 2: "left kidney"}
    assert np.array_equal(layout.mask("liver"), two_organs()["Segment_1"])


def test_overlapping_segments_are_refused_with_what_to_do(tmp_path: Path) -> None:
    segments = {**two_organs(), "lobe": two_organs()["Segment_1"]}
    path = write_segmentation(tmp_path / "b.seg.nrrd", EMPTY, segments)
    with pytest.raises(NotACT, match=r"overlap \(Segment_1, Segment_2, lobe\).*for a layout of all of them"):
        read_layout(path)
