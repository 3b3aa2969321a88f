"""The comparison: its layout, its helper nodes, what is linked, and how all of it goes away again."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import psutil
import pytest
from LesionBrushLib.logic import LesionBrushLogic
from LesionBrushLib.logic.layout import LAYOUT_ID, VIEW_GROUP, VIEW_NAMES, WINDOWS, description
from LesionBrushLib.logic.problems import NoLayout, NotReady
from logic_kit import answer, arrangement, chest, display_state, helpers, offered, straight
from mrml_kit import World, array_of

pytest_plugins = "logic_fixtures"


def test_the_layout_is_well_formed_and_holds_six_views_of_one_group() -> None:
    views = ET.fromstring(description()).findall(".//view")
    assert [view.get("singletontag") for view in views] == list(VIEW_NAMES)
    for view in views:
        properties = {part.get("name"): part.text for part in view.findall("property")}
        assert properties["orientation"] == "Axial"
        assert properties["viewgroup"] == str(VIEW_GROUP)
    assert len({view.find("property[@name='viewlabel']").text for view in views}) == 6
    rows = ET.fromstring(description()).findall("./item/layout")
    assert [row.get("type") for row in rows] == ["horizontal"] * 3


def test_in_and_back_again_leaves_no_trace(
    world: World, logic: LesionBrushLogic, ct: Any, synthetic: Any
) -> None:
    segmentation = logic.parameters.segmentation
    before, shown = display_state(segmentation), arrangement(world)
    logic.compare(True)
    assert arrangement(world) == LAYOUT_ID
    assert len(helpers(world)) == 6 + 3 + 1
    logic.compare(False)
    assert arrangement(world) == shown
    assert helpers(world) == []
    assert display_state(segmentation) == before
    assert np.array_equal(array_of(ct), chest())


def test_the_former_layout_is_the_one_before_not_a_fixed_one(
    world: World, logic: LesionBrushLogic, ct: Any
) -> None:
    layout = world.nodes("vtkMRMLLayoutNode")[0]
    layout.SetViewArrangement(layout.SlicerLayoutFourUpView)
    logic.compare(True)
    logic.compare(True)
    logic.compare(False)
    assert arrangement(world) == layout.SlicerLayoutFourUpView
    logic.compare(True)
    layout.SetViewArrangement(layout.SlicerLayoutOneUpRedSliceView)
    logic.compare(False)
    assert arrangement(world) == layout.SlicerLayoutOneUpRedSliceView


def test_helper_nodes_share_the_voxels(
    world: World, logic: LesionBrushLogic, ct: Any, synthetic: Any
) -> None:
    logic.compare(True)
    volumes = [node for node in helpers(world) if node.IsA("vtkMRMLScalarVolumeNode")]
    assert len(volumes) == 6
    images = {id(node.GetImageData()) for node in volumes}
    assert images == {id(ct.GetImageData()), id(synthetic.GetImageData())}
    assert all(node.GetHideFromEditors() and not node.GetSaveWithScene() for node in helpers(world))
    assert offered(world) == [ct, synthetic]
    displays = [node.GetDisplayNode() for node in volumes]
    assert len({display.GetID() for display in displays}) == 3


def resident_mb() -> float:
    """Memory this process holds now."""
    return float(psutil.Process().memory_info().rss) / 2**20


@pytest.fixture
def large(world: World, logic: LesionBrushLogic) -> Any:
    """The chosen reference: 100 MB, all of it touched."""
    node = world.volume(np.full((200, 512, 512), -800, np.int16), straight(), "Large CT")
    logic.parameters.reference = node
    return node


def test_a_copy_would_be_seen(world: World, large: Any) -> None:
    before = resident_mb()
    copy = world.volume(array_of(large), straight())
    assert resident_mb() - before > 90
    assert copy is not None


def test_showing_a_large_ct_in_six_windows_costs_no_memory(logic: LesionBrushLogic, large: Any) -> None:
    before = resident_mb()
    logic.compare(True)
    assert resident_mb() - before < 3


def test_ten_variants_take_the_memory_of_one(logic: LesionBrushLogic, large: Any) -> None:
    mask = np.zeros((200, 512, 512), bool)
    mask[50:55, 200:230, 200:230] = True
    boxes, records = answer(large, mask, *range(10))
    before = resident_mb()
    logic.receive(boxes, records)
    assert 90 < resident_mb() - before < 125
    logic.compare(True)
    for _ in range(10):
        logic.next()
    assert resident_mb() - before < 125


def test_rows_have_their_window_and_a_drag_acts_on_the_row(
    logic: LesionBrushLogic, ct: Any, synthetic: Any
) -> None:
    logic.compare(True)
    rows = logic.comparison.rows
    for window in WINDOWS:
        display = rows.display(window)
        assert (display.GetWindow(), display.GetLevel()) == (window.width_hu, window.level_hu)
        assert rows.node(window, "Reference").GetDisplayNode() is display
        assert rows.node(window, "Synthetic").GetDisplayNode() is display
    rows.display(WINDOWS[0]).SetWindowLevel(900, -500)
    logic.next()
    assert rows.node(WINDOWS[0], "Synthetic").GetDisplayNode().GetWindow() == 900
    logic.comparison.reset_windows()
    assert rows.display(WINDOWS[0]).GetWindow() == WINDOWS[0].width_hu
    assert ct.GetDisplayNode().GetWindow() != 900


def test_the_outline_is_ours_and_the_users_display_keeps_out(
    world: World, logic: LesionBrushLogic, ct: Any, synthetic: Any
) -> None:
    theirs = logic.parameters.segmentation.GetDisplayNode()
    fill = theirs.GetVisibility2DFill()
    logic.compare(True)
    ours = [view.GetID() for view in logic.comparison.layout.slice_nodes()]
    red = next(n.GetID() for n in world.nodes("vtkMRMLSliceNode") if n.GetLayoutName() == "Red")
    assert not any(theirs.IsDisplayableInView(view) for view in ours)
    assert theirs.IsDisplayableInView(red)
    assert theirs.GetVisibility2DFill() == fill
    logic.set_outline(False)
    assert not logic.comparison._outline.display.GetVisibility()
    logic.set_outline(True)
    assert logic.comparison._outline.display.GetVisibility()
    assert logic.parameters.segmentation.GetDisplayNode() is theirs


def test_the_segment_editor_takes_our_views_for_paintable(
    world: World, logic: LesionBrushLogic, ct: Any, synthetic: Any
) -> None:
    import slicer

    editor = slicer.vtkSlicerSegmentEditorLogic()
    editor.SetMRMLScene(world.scene)
    editor.SetSegmentEditorNode(world.scene.AddNewNodeByClass("vtkMRMLSegmentEditorNode", "Editor"))
    editor.SetSegmentationNode(logic.parameters.segmentation)
    logic.compare(True)
    for view in logic.comparison.layout.slice_nodes():
        assert editor.IsSegmentationDisplayableInView(view)


def test_a_transform_set_later_moves_the_comparison_too(
    world: World, logic: LesionBrushLogic, ct: Any, synthetic: Any
) -> None:
    logic.compare(True)
    transform = world.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "T")
    ct.SetAndObserveTransformNodeID(transform.GetID())
    assert logic.comparison.rows.node(WINDOWS[1], "Reference").GetTransformNodeID() == transform.GetID()


def test_a_new_answer_comes_up_in_the_right_column(
    logic: LesionBrushLogic, ct: Any, lesion: np.ndarray
) -> None:
    logic.compare(True)
    assert not logic.comparison.flicker()  # nothing to flicker with
    logic.receive(*answer(ct, lesion, 60))
    right = logic.comparison.rows.node(WINDOWS[0], "Synthetic")
    assert right.GetImageData() is logic.variants.node.GetImageData()
    assert right.GetName().startswith("SYNTHETIC lung_lesion seed 7")
    assert logic.comparison.flicker()
    assert right.GetImageData() is ct.GetImageData()
    assert not right.GetName().startswith("SYNTHETIC")
    assert not logic.comparison.flicker()


def test_a_refused_comparison_changes_nothing(world: World, logic: LesionBrushLogic) -> None:
    former = arrangement(world)
    with pytest.raises(NotReady, match="choose a CT"):
        logic.compare(True)
    logic.parameters.reference = world.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty")
    with pytest.raises(NotReady, match="nothing to compare"):
        logic.compare(True)
    assert arrangement(world) == former
    assert helpers(world) == []


def test_without_a_layout_it_says_so(world: World, logic: LesionBrushLogic, ct: Any) -> None:
    world.layout.SetMRMLScene(None)
    for node in world.nodes("vtkMRMLLayoutNode"):
        world.scene.RemoveNode(node)
    with pytest.raises(NoLayout, match="main window"):
        logic.compare(True)
    assert not logic.comparison.active


def test_orientation_is_one_for_all_and_checked(logic: LesionBrushLogic, ct: Any, synthetic: Any) -> None:
    logic.compare(True)
    logic.comparison.orientation = "Coronal"
    assert {node.GetOrientation() for node in logic.comparison.layout.slice_nodes()} == {"Coronal"}
    with pytest.raises(NotReady, match="Oblique"):
        logic.comparison.orientation = "Oblique"
