"""Organ names of several programs: which say the same, and which do not."""

from __future__ import annotations

import pytest
from lesionbrush.transfer.names import OrganName, match_names


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("right kidney", "kidney_right"),
        ("Right Kidney", "kidney_right"),
        ("RightKidney", "kidney_right"),
        ("kidney (R)", "right kidney"),
        ("gall bladder", "gallbladder"),
        ("Oesophagus", "esophagus"),
        ("lung_upper_lobe_left", "left upper lung lobe"),
        ("Lungs", "lung"),
        ("肝臓", "肝臓"),
    ],
)
def test_the_same_organ_in_other_words(one: str, other: str) -> None:
    assert OrganName.of(one) == OrganName.of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("right kidney", "left kidney"),
        ("kidney_cyst_left", "kidney_left"),
        ("liver", "liver_vessels"),
        ("lung_upper_lobe_left", "lung_lower_lobe_left"),
        ("vertebrae_L1", "vertebrae_L2"),
        ("肝臓", "脾臓"),
        ("left", "right"),
    ],
)
def test_another_organ(one: str, other: str) -> None:
    assert OrganName.of(one) != OrganName.of(other)


def test_sides() -> None:
    assert OrganName.of("kidney_left").is_opposite(OrganName.of("Right kidney"))
    assert not OrganName.of("kidney_left").is_opposite(OrganName.of("left kidney"))
    assert not OrganName.of("kidney").is_opposite(OrganName.of("left kidney"))
    assert not OrganName.of("liver").is_opposite(OrganName.of("liver"))
    assert not OrganName.of("left").is_opposite(OrganName.of("right"))
    assert OrganName.of("vertebrae_L1").side is None


def test_the_same_side_comes_first() -> None:
    names = ["liver", "kidney_left", "kidney_right", "spleen"]
    assert match_names("left kidney", names) == ["kidney_left", "kidney_right"]
    assert match_names("right kidney", names) == ["kidney_right", "kidney_left"]
    assert match_names("kidneys", names) == ["kidney_left", "kidney_right"]
    assert match_names("right kidney", names, other_side=False) == ["kidney_right"]
    assert match_names("right kidney", ["kidney"], other_side=False) == ["kidney"]
    assert match_names("pancreas", names) == []
