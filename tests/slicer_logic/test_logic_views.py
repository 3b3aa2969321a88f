"""The views as pixels: HU windows, outline, lesion, difference, the SYNTHETIC mark, linking."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from LesionBrushLib.logic import LesionBrushLogic
from LesionBrushLib.logic.layout import VIEW_NAMES, WINDOWS, view_name
from logic_kit import LESION_HU, LUNG_HU, answer, ball, chest, oblique
from mrml_kit import SliceView, World, paint

pytest_plugins = "logic_fixtures"

Views = dict[str, SliceView]
RULER_HU = (-1350, -1000, -600, -160, -50, 40, 150, 240, 400, 900, 1300)
CENTRE_RAS = (-30.0, 0.0, 0.0)  # of the lesion


def grey(hu: float, window: Any) -> float:
    """What a display of this window makes of a HU."""
    return float(np.clip((hu - window.level_hu) / window.width_hu + 0.5, 0, 1) * 255)


def left(window: Any) -> str:
    return view_name(window, "Reference")


def right(window: Any) -> str:
    return view_name(window, "Synthetic")


@pytest.fixture
def comparing(logic: LesionBrushLogic, synthetic: Any, open_views: Callable[..., Views]) -> Views:
    """The six views with a result of LESION_HU, on the lesion, without an outline."""
    views = open_views()
    logic.compare(True)
    logic.set_outline(False)
    logic.jump_to_lesion(80.0)
    return views


def test_known_hu_have_the_grey_of_their_window(
    world: World, logic: LesionBrushLogic, open_views: Callable[..., Views]
) -> None:
    hu = np.full((5, 60, 10 * len(RULER_HU)), -1000, np.int16)
    for n, value in enumerate(RULER_HU):
        hu[:, :, 10 * n : 10 * n + 10] = value
    matrix = np.diag((-1.0, -1.0, 1.0, 1.0))
    logic.parameters.reference = world.volume(hu, matrix)
    views = open_views()
    logic.compare(True)
    logic.comparison.fit()
    for window in WINDOWS:
        for name in (left(window), right(window)):
            picture = views[name].grab()
            for n, value in enumerate(RULER_HU):
                pixel = picture[views[name].pixel_of((-(10.0 * n + 4.5), -30.0, 2.0))]
                assert np.ptp(pixel) == 0
                assert abs(float(pixel[0]) - grey(value, window)) <= 1.0, (name, value)


def test_the_lesion_is_on_the_right_and_not_on_the_left(comparing: Views) -> None:
    for window in WINDOWS:
        for name, hu in ((left(window), LUNG_HU), (right(window), LESION_HU)):
            view = comparing[name]
            row, column = view.pixel_of(CENTRE_RAS)
            patch = view.grab()[row - 5 : row + 6, column - 5 : column + 6, 0]
            assert abs(float(patch.mean()) - grey(hu, window)) < 4, name


def test_the_patients_left_is_on_the_right_and_front_is_up(comparing: Views) -> None:
    view = comparing[VIEW_NAMES[0]]
    row, column = view.pixel_of((-20.0, 20.0, 0.0))
    middle_row, middle_column = view.pixel_of(CENTRE_RAS)
    assert column < middle_column or row < middle_row
    assert view.pixel_of((-40.0, 0.0, 0.0))[1] > middle_column
    assert view.pixel_of((-30.0, 15.0, 0.0))[0] < middle_row


def test_the_outline_is_drawn_around_the_mask_and_can_be_switched_off(
    logic: LesionBrushLogic, comparing: Views
) -> None:
    plain = {name: view.grab() for name, view in comparing.items()}
    logic.set_outline(True)
    for name, view in comparing.items():
        coloured = np.ptp(view.grab().astype(int), axis=2) > 40
        mark = np.zeros(coloured.shape, bool)
        mark[-40:] = True  # the corner with the mark
        rows, columns = np.nonzero(coloured & ~mark)
        middle = view.pixel_of(CENTRE_RAS)
        away_mm = np.hypot(rows - middle[0], columns - middle[1]) * 80 / 240
        assert len(away_mm) > 60, name
        assert np.all(np.abs(away_mm - 9.0) < 2.6), name
        assert np.array_equal(view.grab()[middle], plain[name][middle])  # no fill
    logic.set_outline(False)
    for name, view in comparing.items():
        assert np.array_equal(view.grab(), plain[name]), name


def test_painting_while_comparing_shows_at_once(
    world: World, logic: LesionBrushLogic, ct: Any, comparing: Views
) -> None:
    logic.set_outline(True)
    before = {name: view.grab() for name, view in comparing.items()}
    paint(world, logic.parameters.segmentation, logic.parameters.segment_id, ball(5.0, (30.0, 18.0, 0.0)), ct)
    for name, view in comparing.items():
        assert np.any(view.grab() != before[name]), name


def test_synthetic_is_written_where_a_synthetic_ct_is_shown_and_nowhere_else(
    logic: LesionBrushLogic, comparing: Views
) -> None:
    for window in WINDOWS:
        assert logic.marks.text(right(window)) == "SYNTHETIC\nlung_lesion seed 7"
        assert logic.marks.text(left(window)) == ""
        corner = comparing[right(window)].grab()[-40:, 100:].astype(int)
        assert np.count_nonzero((corner[..., 0] - corner[..., 2]) > 100) > 80  # orange letters
        corner = comparing[left(window)].grab()[-40:, 100:].astype(int)
        assert np.count_nonzero((corner[..., 0] - corner[..., 2]) > 100) == 0
    logic.next()
    assert logic.marks.text(right(WINDOWS[0])) == "SYNTHETIC\nlung_lesion seed 8"


def test_a_synthetic_ct_in_any_other_view_is_marked_too(
    world: World, logic: LesionBrushLogic, ct: Any, synthetic: Any, open_views: Callable[..., Views]
) -> None:
    open_views()
    red = SliceView(world, "Red")
    told: list[str] = []
    logic.on_change = told.append
    logic.marks.attach(red.renderer, red.node)
    logic.marks.attach(red.renderer, red.node)
    red.composite.SetBackgroundVolumeID(synthetic.GetID())
    assert logic.marks.text("Red").startswith("SYNTHETIC")
    assert "marks" in told
    red.composite.SetBackgroundVolumeID(ct.GetID())
    assert logic.marks.text("Red") == ""
    red.composite.SetForegroundVolumeID(synthetic.GetID())
    assert logic.marks.text("Red").startswith("SYNTHETIC")
    logic.marks.detach_all()
    assert logic.marks.text("Red") == ""


def test_flicker_shows_the_reference_on_the_right_without_the_mark(
    logic: LesionBrushLogic, comparing: Views
) -> None:
    original = comparing[left(WINDOWS[0])].grab()
    synthetic = comparing[right(WINDOWS[0])].grab()
    assert logic.comparison.flicker()
    assert logic.marks.text(right(WINDOWS[0])) == ""
    assert np.array_equal(comparing[right(WINDOWS[0])].grab(), original)
    assert not logic.comparison.flicker()
    assert np.array_equal(comparing[right(WINDOWS[0])].grab(), synthetic)


def test_the_difference_is_red_where_the_result_is_brighter(
    logic: LesionBrushLogic, comparing: Views
) -> None:
    before = {name: view.grab() for name, view in comparing.items()}
    logic.set_difference(True)
    for window in WINDOWS:
        assert np.array_equal(comparing[left(window)].grab(), before[left(window)])
        view = comparing[right(window)]
        red, _, blue = view.grab()[view.pixel_of(CENTRE_RAS)].astype(int)
        assert red - blue > 80
        beside = view.pixel_of((-30.0, 30.0, 0.0))
        assert np.array_equal(view.grab()[beside], before[right(window)][beside])
    logic.set_difference(False)
    for name, view in comparing.items():
        assert np.array_equal(view.grab(), before[name]), name


def test_the_window_tool_drags_the_row_not_the_difference(
    world: World, logic: LesionBrushLogic, ct: Any, synthetic: Any, comparing: Views
) -> None:
    logic.set_difference(True)
    for window in WINDOWS:
        edited = comparing[right(window)].logic
        assert edited.GetEditableLayerAtWorldPosition(CENTRE_RAS) == edited.LayerBackground
    red = SliceView(world, "Red")
    red.composite.SetBackgroundVolumeID(ct.GetID())
    red.composite.SetForegroundVolumeID(synthetic.GetID())
    red.composite.SetForegroundOpacity(1.0)
    assert red.logic.GetEditableLayerAtWorldPosition(CENTRE_RAS) == red.logic.LayerForeground


def test_a_darker_result_is_blue(
    logic: LesionBrushLogic, ct: Any, lesion: np.ndarray, open_views: Callable[..., Views]
) -> None:
    views = open_views()
    logic.receive(*answer(ct, lesion, -1000))
    logic.compare(True)
    logic.set_outline(False)
    logic.set_difference(True)
    logic.jump_to_lesion(80.0)
    view = views[right(WINDOWS[0])]
    red, _, blue = view.grab()[view.pixel_of(CENTRE_RAS)].astype(int)
    assert blue - red > 50


def test_scroll_zoom_and_pan_of_one_view_move_all_six(comparing: Views) -> None:
    first = comparing[VIEW_NAMES[0]]
    first.scroll(5.0)
    assert len({round(view.logic.GetSliceOffset(), 3) for view in comparing.values()}) == 1
    node = first.node
    first.logic.StartSliceNodeInteraction(node.FieldOfViewFlag | node.XYZOriginFlag)
    node.SetFieldOfView(50.0, 50.0, node.GetFieldOfView()[2])
    node.SetXYZOrigin(12.0, -7.0, 0.0)
    first.logic.EndSliceNodeInteraction()
    assert {tuple(np.round(view.node.GetFieldOfView()[:2], 3)) for view in comparing.values()} == {
        (50.0, 50.0)
    }
    assert {tuple(view.node.GetXYZOrigin()) for view in comparing.values()} == {(12.0, -7.0, 0.0)}


def test_views_of_other_layouts_neither_lead_nor_follow(world: World, comparing: Views) -> None:
    red = SliceView(world, "Red")
    red.composite.SetLinkedControl(1)
    red.composite.SetHotLinkedControl(1)
    was = red.logic.GetSliceOffset()
    comparing[VIEW_NAMES[0]].scroll(5.0)
    assert red.logic.GetSliceOffset() == was
    ours = comparing[VIEW_NAMES[0]].logic.GetSliceOffset()
    red.scroll(9.0)
    assert comparing[VIEW_NAMES[0]].logic.GetSliceOffset() == ours


def test_a_volume_chosen_in_one_of_our_views_is_put_right(
    world: World, logic: LesionBrushLogic, comparing: Views
) -> None:
    """As the Segment Editor does with its source volume, or a drag from the data tree."""
    before = {name: view.grab() for name, view in comparing.items()}
    other = world.volume(chest() + 500, name="Other")
    view = comparing[right(WINDOWS[1])]
    view.composite.SetBackgroundVolumeID(other.GetID())
    view.composite.SetLabelVolumeID(other.GetID())
    for name, shown in comparing.items():
        assert np.array_equal(shown.grab(), before[name]), name


def test_a_new_variant_shows_without_being_asked_for(logic: LesionBrushLogic, comparing: Views) -> None:
    view = comparing[right(WINDOWS[2])]
    logic.next()
    assert abs(float(view.grab()[view.pixel_of(CENTRE_RAS)][0]) - grey(300, WINDOWS[2])) < 2


def test_an_oblique_ct_is_shown_in_its_own_planes(
    world: World, logic: LesionBrushLogic, open_views: Callable[..., Views]
) -> None:
    volume = world.volume(chest(), oblique())
    logic.parameters.reference = volume
    segmentation = logic.ensure_segmentation()
    paint(world, segmentation, logic.parameters.segment_id, ball(), volume)
    logic.receive(*answer(volume, ball(), LESION_HU))
    views = open_views()
    logic.compare(True)
    logic.set_outline(False)
    logic.jump_to_lesion(80.0)
    middle = (np.array(chest().shape[::-1]) - 1) / 2 + np.array((30.0, 0.0, 0.0)) / (1.5, 1.5, 2.5)
    for window in WINDOWS:
        view = views[right(window)]
        normal = [view.node.GetSliceToRAS().GetElement(row, 2) for row in range(3)]
        along_k = oblique()[:3, 2] / np.linalg.norm(oblique()[:3, 2])
        assert abs(np.dot(normal, along_k)) == pytest.approx(1.0, abs=1e-3)
        pixel = view.grab()[view.pixel_of((oblique() @ (*middle, 1))[:3])]
        assert abs(float(pixel[0]) - grey(LESION_HU, window)) < 4


def test_fit_shows_the_whole_ct(logic: LesionBrushLogic, comparing: Views) -> None:
    logic.comparison.fit()
    for view in comparing.values():
        rows, columns = zip(view.pixel_of((-74.0, 66.0, 0.0)), view.pixel_of((74.0, -66.0, 0.0)), strict=True)
        assert min(rows + columns) >= 0
        assert max(rows + columns) < 240
