"""Layouts of semantic CT: names of four worlds, the body, resizing, edges, what a network is shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from core_fixtures import grid
from lesionbrush.core.inputs import Layout
from lesionbrush.core.roi import RoiGrid
from lesionbrush.core.volume import Volume
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.io import read_volume
from lesionbrush.files.layouts import read_layout
from lesionbrush.systems.semantic.body import add_tissues, fill_slices, find_body
from lesionbrush.systems.semantic.classes import (
    AIR,
    BODY,
    BONE,
    CLASSES,
    FAT,
    MUSCLE,
    ORGANS,
    UNKNOWN,
    find_classes,
    read_table,
)
from lesionbrush.systems.semantic.layouts import complete, encode, find_edges, on_grid, read_classes
from scipy import ndimage

AMOS = (
    "spleen",
    "right kidney",
    "left kidney",
    "gall bladder",
    "esophagus",
    "liver",
    "stomach",
    "arota",
    "postcava",
    "pancreas",
    "right adrenal gland",
    "left adrenal gland",
    "duodenum",
    "bladder",
    "prostate/uterus",
)
"""As they are spelt in the data set's own table."""
TOTAL_SEGMENTATOR = {
    "spleen": 1,
    "kidney_right": 2,
    "kidney_left": 3,
    "gallbladder": 4,
    "esophagus": 5,
    "liver": 6,
    "stomach": 7,
    "aorta": 8,
    "inferior_vena_cava": 9,
    "pancreas": 10,
    "adrenal_gland_right": 11,
    "adrenal_gland_left": 12,
    "duodenum": 13,
    "urinary_bladder": 14,
    "prostate": 15,
    "portal_vein_and_splenic_vein": BODY,
    "colon": BODY,
    "small_bowel": BODY,
    "vertebrae_L1": BONE,
    "rib_left_10": BONE,
    "hip_left": BONE,
    "gluteus_maximus_left": MUSCLE,
    "iliopsoas_right": MUSCLE,
    "autochthon_left": MUSCLE,
    "lung_upper_lobe_left": AIR,
}
SLICER = {"Right Kidney": 2, "Left adrenal gland": 12, "Inferior vena cava": 9, "Gallbladder": 4, "Liver": 6}
BTCV = {"rkid": 2, "lkid": 3, "IVC": 9, "rad": 11, "lad": 12, "eso": 5}


def layout(labels: np.ndarray, names: dict[int, str]) -> Layout:
    """labels: (I, J, K), the first axis to the right."""
    return Layout(Volume(labels.astype(np.uint8), grid((2.0, 2.0, 4.0))), names)


class TestNames:
    def test_those_of_amos_are_its_codes(self) -> None:
        assert [find_classes(name) for name in AMOS] == [(k,) for k in range(1, 16)]
        assert [find_classes(name) for name in CLASSES] == [(k,) for k in range(len(CLASSES))]

    @pytest.mark.parametrize("world", [TOTAL_SEGMENTATOR, SLICER, BTCV])
    def test_other_worlds_say_the_same_in_other_words(self, world: dict[str, int]) -> None:
        assert {name: find_classes(name) for name in world} == {n: (k,) for n, k in world.items()}

    def test_both_sides_of_what_names_none(self) -> None:
        assert find_classes("Kidneys") == (2, 3)
        assert find_classes("adrenal glands") == (11, 12)

    @pytest.mark.parametrize("name", ["tumour", "ribbon", "lump", "left"])
    def test_what_is_none_is_none(self, name: str) -> None:
        assert find_classes(name) == ()

    def test_the_user_s_table_counts_first(self) -> None:
        table = read_table("Organ A = liver; B=Right Kidney;")
        assert find_classes("organ a", table) == find_classes("Organ A", table) == (6,)
        assert find_classes("B", table) == (2,)

    @pytest.mark.parametrize("text", ["liver", "a = tumour", "= liver"])
    def test_a_table_of_something_else_is_refused(self, text: str) -> None:
        with pytest.raises(InvalidRequest, match=r"classes: .* is no 'name = class' with a class of outside"):
            read_table(text)


class TestReading:
    def test_numbers_do_not_count(self) -> None:
        labels = np.zeros((6, 6, 3), np.uint8)
        labels[1], labels[4] = 40, 7
        found = read_classes(layout(labels, {40: "kidney_left", 7: "Liver", 9: "spleen"}))
        assert set(np.unique(found.labels)) == {0, 3, 6}
        assert found.others == ()

    def test_the_side_of_a_kidney_is_where_it_lies(self) -> None:
        labels = np.zeros((6, 6, 3), np.uint8)
        labels[[1, 4]] = 1
        found = read_classes(layout(labels, {1: "kidneys"})).labels
        assert (found[:, :, 4] == 2).all()
        assert (found[:, :, 1] == 3).all()

    def test_what_is_no_class_is_body_and_is_told(self) -> None:
        labels = np.arange(1, 10, dtype=np.uint8).reshape(9, 1, 1)
        names = {1: "liver", **{k: f"thing {k}" for k in range(2, 10)}}
        found = read_classes(layout(labels, names))
        assert (found.labels == BODY).sum() == 8
        (told,) = found.remarks
        assert told.startswith(
            "the layout's thing 2, thing 3, thing 4, thing 5, thing 6, thing 7 and 2 more:"
        )

    def test_one_without_an_organ_is_refused(self) -> None:
        with pytest.raises(
            InvalidRequest, match=r"^none of tumour is an organ that is known; known are spleen"
        ):
            read_classes(layout(np.ones((2, 2, 2)), {1: "tumour"}))

    @pytest.mark.data
    def test_two_tables_of_one_body_say_the_same(self, data_dir: Path) -> None:
        """TotalSegmentator's classes by name and the same labels in AMOS's codes."""
        folder = data_dir / "example_body"
        total = read_classes(read_layout(folder / "totalsegmentator_v1.nii.gz"))
        codes = read_volume(folder / "amos15.nii.gz")
        amos = read_classes(Layout(codes, dict(enumerate(AMOS, start=1))))
        organs = [np.where(one.labels <= len(ORGANS), one.labels, 0) for one in (total, amos)]
        assert np.array_equal(*organs)
        assert total.others == ()


def phantom() -> np.ndarray:
    """(Z, Y, X) HU at 2 mm: a body of fat with a muscle, a bone, gas, and a table beneath."""
    hu = np.full((3, 60, 60), -1000.0)
    y, x = np.indices((60, 60))
    hu[:, np.hypot(y - 34, x - 30) < 22] = -100
    hu[:, 30:40, 20:30] = 50
    hu[:, 44:50, 24:36] = 700
    hu[:, 45:49, 26:34] = 40
    hu[:, 30:36, 38:44] = -900
    hu[:, 2:4] = 200
    return hu


class TestBody:
    def test_it_holds_its_gas_and_not_the_table(self) -> None:
        body = find_body(phantom(), np.array([4.0, 2.0, 2.0]))
        y, x = np.indices((60, 60))
        assert body[:, np.hypot(y - 34, x - 30) < 20].all()
        assert not body[:, np.hypot(y - 34, x - 30) > 25].any()

    def test_slices_are_filled_as_scipy_does_it(self) -> None:
        inside = np.random.default_rng(0).random((3, 20, 24)) < 0.6
        wanted = np.stack([ndimage.binary_fill_holes(plane) for plane in inside])
        assert np.array_equal(fill_slices(inside), wanted)

    def test_there_is_none_in_air(self) -> None:
        assert not find_body(np.full((2, 8, 8), -1000.0), np.ones(3)).any()

    def test_tissues_part_the_body_and_leave_organs(self) -> None:
        labels = np.full((3, 60, 60), BODY, np.uint8)
        labels[:, 30:33, 20:23] = 6
        found = add_tissues(labels, phantom())[1]
        places = {(31, 21): 6, (38, 28): MUSCLE, (46, 30): BONE, (33, 41): AIR, (20, 30): FAT}
        assert {place: found[place] for place in places} == places

    def test_a_network_without_tissues_hears_body(self) -> None:
        labels = np.zeros((3, 60, 60), np.uint8)
        labels[:, 30:33, 20:23] = 6
        labels[:, 44:50, 24:36] = BONE
        found = complete(labels, phantom(), np.array([4.0, 2.0, 2.0]), tissues=False)
        assert set(np.unique(found)) == {0, 6, BODY}
        parted = complete(labels, phantom(), np.array([4.0, 2.0, 2.0]), tissues=True)
        assert {FAT, MUSCLE, BONE, AIR} <= set(np.unique(parted))


class TestWhatIsShown:
    def test_resized_by_the_nearest_voxel(self) -> None:
        labels = np.zeros((2, 4, 4), np.uint8)
        labels[:, :2] = 6
        coarse = RoiGrid((2, 2, 3), 2.0, (0.0, 0.5, 0.5), slice_mm=4.0)
        found = on_grid(labels, (4.0, 1.0, 1.0), coarse)
        assert found.shape == (2, 2, 3)
        assert found[0].tolist() == [[6, 6, 0], [0, 0, 0]]

    def test_edges_are_one_pixel(self) -> None:
        labels = np.zeros((5, 5), np.uint8)
        labels[2:4, 2:4] = 6
        assert find_edges(labels).astype(int).tolist() == [
            [0, 0, 0, 0, 0],
            [0, 0, 1, 1, 0],
            [0, 1, 0, 1, 0],
            [0, 1, 1, 1, 0],
            [0, 0, 0, 0, 0],
        ]

    def test_a_class_is_its_number_over_the_last_or_a_channel(self) -> None:
        labels = np.array([[[0, 8], [16, UNKNOWN]]], np.uint8)
        one = encode(labels, classes=16, one_hot=False, edges=False)
        assert one.tolist() == [[[[0, 0.5], [1, -1]]]]
        many = encode(labels, classes=16, one_hot=True, edges=True)
        assert many.shape == (1, 18, 2, 2)
        assert many[0, :17].argmax(axis=0).tolist()[0] == [0, 8]
        assert (many[0, :17, 1, 1] == 0).all()
        assert many[0, 17].tolist() == [[1, 1], [1, -1]]
