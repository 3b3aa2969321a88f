"""Layouts changed by numbers: where organs are and how large, by arithmetic; and what cannot be a patient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_kit import Command
from core_fixtures import ball, grid
from lesionbrush.cli.layout_sheet import most_telling
from lesionbrush.core.inputs import Layout
from lesionbrush.core.volume import Volume
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.io import read_volume, write_volume
from lesionbrush.files.layouts import read_layout, write_layout
from lesionbrush.montage import AXIAL
from lesionbrush.systems.semantic.layout_edits.changes import ChangedLayout, LayoutWish, change_layout
from lesionbrush.systems.semantic.layout_edits.checks import (
    LayoutLimits,
    list_given,
    list_volumes,
    require_possible,
)
from lesionbrush.systems.semantic.layout_edits.organs import find_organs
from PIL import Image
from semantic_kit import NAMES, make_abdomen
from test_promise import TURNS

pytest_plugins = "cli_fixtures"
NONE = (0.0, 0.0, 0.0)
STEP_MM = (3.0, 3.0, 4.0)
MIDDLES = {1: (12, 30, 20), 3: (12, 14, 20), 6: (36, 26, 20)}
RADII_MM = {1: 18.0, 3: 15.0, 6: 30.0}
CALLED = {1: "spleen", 3: "left kidney", 6: "liver", 9: "body"}


def three_balls(turn: str = "RAS") -> Layout:
    """Spleen, left kidney and liver as balls in a body that ends 2 voxels before the volume."""
    empty = Volume(np.zeros((52, 44, 40), np.uint8), grid(STEP_MM, TURNS[turn]))
    labels = np.zeros(empty.shape, np.uint8)
    labels[2:-2, 2:-2, 2:-2] = 9
    for number, middle in MIDDLES.items():
        labels[ball(empty, middle, RADII_MM[number]).array > 0] = number
    return Layout(empty.with_array(labels), CALLED)


def changed_by(layout: Layout | None = None, seed: int = 0, body: Any = None, **wish: Any) -> ChangedLayout:
    asked = LayoutWish(**wish)
    return change_layout(layout or three_balls(), asked, np.random.default_rng(seed), body)


def middle_mm(layout: Layout, name: str) -> np.ndarray:
    affine = layout.labels.affine
    places: np.ndarray = np.argwhere(layout.mask(name)) @ affine[:3, :3].T + affine[:3, 3]
    return places.mean(axis=0)


class TestChanges:
    @pytest.mark.parametrize("turn", ["RAS", "sagittal"])
    @pytest.mark.parametrize(("factor", "move"), [(1.3, NONE), (0.5, NONE), (1.0, (6.0, 7.0, -5.0))])
    def test_an_organ_has_the_volume_and_the_place_that_were_asked_for(
        self, turn: str, factor: float, move: tuple[float, float, float]
    ) -> None:
        before = three_balls(turn)
        found = changed_by(before, scale={"left kidney": factor}, move={"left kidney": move})
        after = found.layout
        sizes = [np.count_nonzero(one.mask("left kidney")) for one in (before, after)]
        assert sizes[1] == pytest.approx(factor * sizes[0], abs=1)
        apart = middle_mm(after, "left kidney") - middle_mm(before, "left kidney")
        np.testing.assert_allclose(apart, move, atol=0.7)
        for name in ("liver", "spleen"):
            assert np.array_equal(after.mask(name), before.mask(name))
        assert np.array_equal(after.labels.array > 0, before.labels.array > 0)  # what it left is body
        require_possible(found, LayoutLimits())

    def test_both_parts_of_a_label_grow_where_they_are(self) -> None:
        labels = three_balls().labels
        pair = Layout(
            labels.with_array(np.where(labels.array == 1, 3, labels.array)), {**CALLED, 3: "kidney"}
        )
        after = changed_by(pair, scale={"kidneys": 1.5}).layout.mask("kidney")
        low, high = after[:, :22], after[:, 22:]
        for half, number in ((low, 3), (high, 1)):
            size = np.count_nonzero(three_balls().labels.array == number)
            assert np.count_nonzero(half) == pytest.approx(1.5 * size, rel=0.01)

    def test_removed_is_body(self) -> None:
        after = changed_by(remove=("spleen",)).layout
        assert not after.mask("spleen").any()
        assert np.all(after.labels.array[three_balls().mask("spleen")] == 9)

    def test_a_mirror_changes_sides_in_names_too(self) -> None:
        before = three_balls()
        found = changed_by(before, mirror=True)
        assert found.layout.names == {**CALLED, 3: "right kidney"}
        after = middle_mm(found.layout, "right kidney") - middle_mm(before, "body")
        was = middle_mm(before, "left kidney") - middle_mm(before, "body")
        np.testing.assert_allclose(after[1:], was[1:], atol=0.1)
        assert after[0] > 0 > was[0]  # to the right
        again = change_layout(found.layout, LayoutWish(mirror=True), np.random.default_rng(0))
        assert np.array_equal(again.layout.labels.array, before.labels.array)
        assert again.layout.names == before.names

    def test_a_mirror_changes_numbers_where_both_sides_are_there(self) -> None:
        both = Layout(three_balls().labels, {**CALLED, 1: "Right_Kidney"})
        after = changed_by(both, mirror=True).layout
        assert after.names == both.names
        assert np.count_nonzero(after.labels.array == 1) == np.count_nonzero(both.labels.array == 3)

    def test_a_deformation_is_smooth_small_and_the_same_for_the_same_seed(self) -> None:
        before, found = three_balls(), changed_by(deform_mm=6.0, seed=3)
        assert np.array_equal(
            found.layout.labels.array, changed_by(deform_mm=6.0, seed=3).layout.labels.array
        )
        other = changed_by(deform_mm=6.0, seed=4).layout.labels.array
        assert not np.array_equal(found.layout.labels.array, other)
        for name in ("liver", "spleen", "left kidney"):
            apart = np.abs(middle_mm(found.layout, name) - middle_mm(before, name)).max()
            assert 0 < apart < 6.0
        require_possible(found, LayoutLimits(volume=0.25))

    def test_volumes_and_what_gave_way_are_told(self) -> None:
        found = changed_by(move={"liver": (-36.0, -14.0, 0.0)})
        (sentence,) = [text for text in list_given(found) if text.startswith("left kidney")]
        covered = np.count_nonzero(three_balls().mask("left kidney")) - np.count_nonzero(
            found.layout.mask("left kidney")
        )
        ml = covered * float(np.prod(STEP_MM)) / 1000
        assert sentence.startswith(f"left kidney gives way to liver: {ml:.1f} ml, ")
        volumes = {one.name: one for one in list_volumes(found)}
        assert volumes["left kidney"].before_ml - volumes["left kidney"].after_ml == pytest.approx(ml)
        assert volumes["body"].asked is None

    def test_names_are_understood_in_other_words(self) -> None:
        layout = Layout(three_balls().labels, {1: "postcava", 3: "kidney_left", 6: "Liver", 9: "body"})
        assert find_organs("IVC", layout) == ["postcava"]
        assert find_organs("left kidney", layout) == find_organs("kidneys", layout) == ["kidney_left"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("wish", "said"),
        [
            (
                {"scale": {"heart": 1.2}},
                "heart: no such organ in the layout; it has left kidney, liver, spleen",
            ),
            ({"move": {"right kidney": (1, 0, 0)}}, "right kidney: no such organ"),
            ({"scale": {"liver": 9.0}}, r"scale liver=9: 0.2 to 5 times its volume"),
            ({"scale": {"liver": float("nan")}}, "scale liver=nan"),
            ({"move": {"liver": (float("inf"), 0, 0)}}, "move liver"),
            ({"deform_mm": 13.0}, "deform 13: 0 to 12 mm; more would fold tissue over"),
            ({"move": {"liver": (500.0, 0.0, 0.0)}}, "500 mm, of 200 at most"),
        ],
    )
    def test_what_makes_no_sense(self, wish: dict[str, Any], said: str) -> None:
        with pytest.raises(InvalidRequest, match=said):
            changed_by(**wish)

    @pytest.mark.parametrize(
        ("wish", "said"),
        [
            ({"move": {"spleen": (0.0, 30.0, 0.0)}}, r"spleen: \d+\.\d% of it would lie outside the body"),
            ({"move": {"spleen": (0.0, 60.0, 0.0)}}, r"spleen: nothing of its \d+ ml is left"),
            (
                {"move": {"liver": (-48.0, -21.0, 0.0)}},
                r"liver: covers \d+\.\d% of left kidney, which may give",
            ),
            ({"move": {"liver": (-72.0, -36.0, 0.0)}}, r"left kidney: nothing of its \d+ ml is left"),
        ],
    )
    def test_what_cannot_be_a_patient(self, wish: dict[str, Any], said: str) -> None:
        with pytest.raises(InvalidRequest, match=said):
            require_possible(changed_by(**wish), LayoutLimits())

    def test_an_organ_that_is_cut_in_two(self) -> None:
        labels = three_balls().labels.array.copy()
        labels[labels == 3] = 9
        labels[20:22, 12:40, 10:31] = 3  # a plate beside the liver, and then through it
        plate = Layout(three_balls().labels.with_array(labels), CALLED)
        found = changed_by(plate, move={"left kidney": (48.0, 0.0, 0.0)})
        with pytest.raises(InvalidRequest, match=r"liver: broken into 2 parts, of 1 before"):
            require_possible(found, LayoutLimits(give_way=1, outside=1, volume=1))

    def test_a_volume_that_misses_what_was_asked(self) -> None:
        with pytest.raises(InvalidRequest, match=r"ml are \d\.\d\d times its .*; asked for are 1, to 1%"):
            require_possible(changed_by(deform_mm=10.0), LayoutLimits(volume=0.01, outside=1))

    def test_an_organ_that_the_volume_cuts(self) -> None:
        cut = three_balls().labels
        layout = Layout(Volume(cut.array[:, :, :20], cut.affine), CALLED)
        with pytest.raises(InvalidRequest, match="liver: the end of the volume cuts it"):
            changed_by(layout, scale={"liver": 0.9})

    def test_a_body_that_is_given_is_not_left(self) -> None:
        before = three_balls()
        organs = Layout(
            before.labels.with_array(np.where(before.labels.array == 9, 0, before.labels.array)), CALLED
        )
        body = before.labels.array != 0
        for wish in ({"move": {"spleen": (0.0, 21.0, 0.0)}}, {"deform_mm": 12.0, "seed": 1}):
            found = changed_by(organs, body=body, **wish)
            assert not found.layout.labels.array[~body].any()
        with pytest.raises(InvalidRequest, match=r"spleen: .* outside the body"):
            require_possible(changed_by(organs, body=body, move={"spleen": (0.0, 21.0, 0.0)}), LayoutLimits())

    def test_shares_are_shares(self) -> None:
        with pytest.raises(InvalidRequest, match="give-way 10: a share from 0 to 1"):
            require_possible(changed_by(remove=("spleen",)), LayoutLimits(give_way=10))


def test_the_picture_is_where_a_small_organ_changed_too() -> None:
    """A hundred voxels of a large one in slice 2 are outweighed by all ten of a small one in slice 7."""
    numbers = np.zeros((12, 12, 9), np.uint16)
    numbers[:10, :10, 2] = 1
    numbers[:10, :10, 3] = 1
    numbers[0, :10, 7] = 2
    assert most_telling(Volume(numbers, grid((1.0, 1.0, 1.0))), AXIAL) == 7


class TestCommand:
    @pytest.fixture
    def files(self, tmp_path: Path) -> Path:
        ct, labels = make_abdomen()
        write_volume(ct, tmp_path / "ct.nii.gz")
        write_layout(Layout(labels, NAMES), tmp_path / "before.nii.gz")
        return tmp_path

    def test_writes_a_layout_with_its_names_a_table_and_a_picture(
        self, command: Command, files: Path
    ) -> None:
        wish = ("--scale", "spleen=1.2", "--move", "right kidney=0,0,5", "--remove", "left kidney")
        more = ("--ct", files / "ct.nii.gz", "--montage", files / "both.png", "-o", files / "after.nii.gz")
        outcome = command("layout", files / "before.nii.gz", *wish, *more)
        assert (outcome.code, outcome.err) == (0, "")
        after, before = read_layout(files / "after.nii.gz"), read_layout(files / "before.nii.gz")
        assert after.names == NAMES
        assert not after.mask("left kidney").any()
        sizes = [np.count_nonzero(one.mask("spleen")) for one in (before, after)]
        assert sizes[1] == round(1.2 * sizes[0])
        assert outcome.out.splitlines()[-3:] == [
            str(files / n) for n in ("after.nii.gz", "after.json", "both.png")
        ]
        (line,) = [text for text in outcome.out.splitlines() if text.startswith("spleen ")]
        assert line.split()[-2:] == ["1.20", "1.20"]
        with Image.open(files / "both.png") as picture:
            assert picture.width > 700

    def test_with_the_tissues_of_the_ct(self, command: Command, files: Path) -> None:
        wish = ("--tissues", "--scale", "spleen=1.2", "--remove", "left kidney")
        more = ("--ct", files / "ct.nii.gz", "-o", files / "after.nii.gz")
        outcome = command("layout", files / "before.nii.gz", *wish, *more)
        assert (outcome.code, outcome.err) == (0, "")
        ct, before = read_volume(files / "ct.nii.gz").array, read_layout(files / "before.nii.gz")
        after = read_layout(files / "after.nii.gz")
        assert {"body", "fat", "muscle", "bone"} <= set(after.names.values())
        assert ct[after.mask("fat")].max() < 0 < ct[after.mask("muscle")].min() + 60
        assert ct[after.mask("bone")].min() > 200
        left, liver = before.mask("left kidney"), before.mask("liver")
        assert np.array_equal(after.mask("liver"), liver)
        assert after.mask("body")[left & ~after.mask("spleen")].all()
        assert not after.labels.array[ct < -800].any()

    @pytest.mark.parametrize(
        ("wish", "said"),
        [
            (("--move", "spleen=-60,0,0"), "spleen: "),
            (
                ("--move", "spleen=5"),
                "'5' is not three numbers of mm, to the patient's right, front and head",
            ),
            (("--scale", "spleen=big"), "--scale spleen: 'big' is no number"),
            (("--scale", "spleen"), "--scale spleen: write ORGAN=VALUE"),
            (("--scale", "spleen=1", "--scale", "spleen=2"), "--scale: spleen is given twice"),
            ((), "nothing is to be changed"),
            (
                ("--names", '{"1": "liver"}', "--mirror"),
                "have no name: names decide what a layout means; send a table of them as --names",
            ),
        ],
    )
    def test_what_it_refuses_is_not_written(
        self, command: Command, files: Path, wish: tuple[str, ...], said: str
    ) -> None:
        more = ("--ct", files / "ct.nii.gz", "-o", files / "after.nii.gz")
        outcome = command("layout", files / "before.nii.gz", *wish, *more)
        assert outcome.code == 2
        assert said in outcome.one_line
        assert not (files / "after.nii.gz").exists()

    def test_tissues_without_a_ct(self, command: Command, files: Path) -> None:
        outcome = command("layout", files / "before.nii.gz", "--tissues", "-o", files / "after.nii.gz")
        assert outcome.code == 2
        assert "--tissues are those of a CT: name it as --ct" in outcome.one_line
