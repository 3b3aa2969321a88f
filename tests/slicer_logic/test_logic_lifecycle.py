"""Scenes saved, loaded and closed, nodes deleted, the module gone: all of it during a comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from LesionBrushLib.logic import LesionBrushLogic
from LesionBrushLib.logic.compose import difference
from LesionBrushLib.logic.layout import LAYOUT_ID, WINDOWS
from logic_kit import answer, arrangement, ball, chest, display_state, helpers, straight
from mrml_kit import World, array_of, boot, paint
from test_logic_parameters import open_archive

pytest_plugins = "logic_fixtures"


def test_a_scene_saved_while_comparing_opens_as_the_users_own(
    world: World, logic: LesionBrushLogic, ct: Any, synthetic: Any, tmp_path: Path
) -> None:
    """No event says that a scene is saved: neither Commit nor WriteToMRB invokes one."""
    before = display_state(logic.parameters.segmentation)
    logic.compare(True)
    archive = tmp_path / "scene.mrb"
    assert world.scene.WriteToMRB(str(archive))
    assert logic.comparison.active

    again = boot()
    other = LesionBrushLogic(again.scene, again.application)
    try:
        open_archive(again, archive, tmp_path / "opened")
        segmentation = other.parameters.segmentation
        assert display_state(segmentation) == before
        assert arrangement(again) != LAYOUT_ID
        assert helpers(again) == []
        volumes = {node.GetName() for node in again.nodes("vtkMRMLScalarVolumeNode")}
        assert volumes == {"Chest CT", synthetic.GetName()}
        views = [node.GetLayoutName() for node in again.nodes("vtkMRMLSliceNode")]
        assert not [name for name in views if name.startswith("LesionBrush")]
        other.compare(True)
        other.compare(False)
        assert display_state(segmentation) == before
    finally:
        other.close()
    logic.compare(False)
    assert world.nodes("vtkMRMLLayoutNode")[0].GetSaveWithScene()


def test_closing_the_scene_while_comparing_goes_back(
    world: World, logic: LesionBrushLogic, ct: Any, synthetic: Any
) -> None:
    former = arrangement(world)
    logic.compare(True)
    world.scene.Clear(0)
    assert not logic.comparison.active
    assert arrangement(world) == former
    assert helpers(world) == []
    logic.parameters.reference = world.volume(chest(), straight())
    logic.compare(True)
    assert logic.comparison.active


def test_deleting_the_ct_ends_the_comparison(
    world: World, logic: LesionBrushLogic, ct: Any, synthetic: Any
) -> None:
    logic.compare(True)
    world.scene.RemoveNode(ct)
    assert not logic.comparison.active
    assert helpers(world) == []


def test_deleting_the_result_shows_the_ct_alone(
    world: World, logic: LesionBrushLogic, ct: Any, synthetic: Any
) -> None:
    logic.compare(True)
    world.scene.RemoveNode(synthetic)
    assert logic.comparison.active
    assert logic.comparison.synthetic is None
    assert logic.comparison.rows.node(WINDOWS[0], "Synthetic").GetImageData() is ct.GetImageData()


def test_closing_the_module_leaves_no_observer_behind(
    world: World, logic: LesionBrushLogic, ct: Any, synthetic: Any
) -> None:
    logic.compare(True)
    logic.close()
    told: list[str] = []
    logic.on_change = told.append
    paint(world, logic.parameters.segmentation, logic.parameters.segment_id, ball(4.0), ct)
    ct.Modified()
    world.volume(chest(), straight())
    assert told == []
    assert helpers(world) == []


def test_another_ct_chosen_while_comparing_comes_up_without_the_others_result(
    world: World, logic: LesionBrushLogic, ct: Any, synthetic: Any
) -> None:
    other = world.volume(chest() + 1, straight(), "Other CT")
    logic.compare(True)
    logic.parameters.reference = other
    assert logic.comparison.reference is other
    assert logic.comparison.synthetic is None
    logic.parameters.reference = ct
    assert logic.comparison.synthetic is synthetic


def test_a_second_lesion_goes_into_the_first_result(
    world: World, logic: LesionBrushLogic, ct: Any, lesion: np.ndarray, synthetic: Any
) -> None:
    logic.parameters.reference = synthetic
    sent = logic.export()
    logic.next()  # the other variant comes up in another node: what was sent stays
    assert np.array_equal(array_of(synthetic), sent.hu_kji)
    second = ball(6.0, (-30.0, 0.0, 0.0))
    made = logic.receive(*answer(synthetic, second, 99), reference=synthetic)
    assert synthetic.GetScene() is world.scene
    both = array_of(made.node)
    assert set(np.unique(both[lesion])) == {60}
    assert set(np.unique(both[second])) == {99}


def test_a_loaded_session_can_be_compared_with_its_difference(
    world: World, logic: LesionBrushLogic, ct: Any, lesion: np.ndarray, synthetic: Any, tmp_path: Path
) -> None:
    archive = tmp_path / "session.mrb"
    assert world.scene.WriteToMRB(str(archive))
    again = boot()
    other = LesionBrushLogic(again.scene, again.application)
    try:
        open_archive(again, archive, tmp_path / "opened")
        other.parameters.difference = True
        other.compare(True)
        assert other.variants is None
        assert other.comparison.difference
        hu, grid = difference(other.parameters.reference, other.parameters.synthetic)
        assert np.count_nonzero(hu) == np.count_nonzero(lesion)
        assert grid.shape_ijk == hu.shape[::-1]
    finally:
        other.close()


def test_there_is_no_difference_to_show_between_equal_volumes(
    world: World, logic: LesionBrushLogic, ct: Any
) -> None:
    assert difference(ct, world.volume(chest(), straight())) is None
    logic.compare(True)
    logic.set_difference(True)
    assert not logic.comparison.difference


def test_undo_of_the_segment_editor_takes_a_proposal_back(
    world: World, logic: LesionBrushLogic, ct: Any
) -> None:
    """The application's own editor logic, whose SaveStateForUndo the widget hands over."""
    import slicer

    editor = slicer.vtkSlicerSegmentEditorLogic()
    editor.SetMRMLScene(world.scene)
    editor.SetSegmentEditorNode(world.scene.AddNewNodeByClass("vtkMRMLSegmentEditorNode", "Editor"))
    segmentation = logic.ensure_segmentation()
    editor.SetSegmentationNode(segmentation)
    editor.SetSourceVolumeNode(ct)
    editor.SetMaximumNumberOfUndoStates(10)
    logic.save_undo = editor.SaveStateForUndo
    logic.propose(12.0, 1, ras_mm=(-30.0, 0.0, 0.0))
    assert logic.export().voxels > 50
    editor.Undo()
    assert "the chosen segment is empty: paint a lesion, or propose one" in logic.ready()
    editor.Redo()
    assert logic.export().voxels > 50
