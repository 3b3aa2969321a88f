"""Paint: Segment Editor's own widget, set up in the right order, and our few buttons around it."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from LesionBrushLib.logic import Proposal
from LesionBrushLib.panel.paint import EFFECTS
from panel_kit import SHAPE_KJI, Bench, new_ct


def chosen(bench: Bench) -> None:
    bench.ui.volumeSelector.setCurrentNode(new_ct(bench.scene))
    bench.panel.enter()


def test_the_editor_gets_its_node_before_the_scene(bench: Bench) -> None:
    calls = bench.panel.paint.editor.names()
    assert calls.index("setMRMLSegmentEditorNode") < calls.index("setMRMLScene")
    assert calls.index("setMaximumNumberOfUndoStates") < calls.index("setMRMLScene")
    recorded = {call[0]: call[1:] for call in bench.panel.paint.editor._calls}
    assert recorded["setAutoShowSourceVolumeNode"] == (False,)
    assert recorded["setEffectNameOrder"] == (list(EFFECTS),)
    assert recorded["setMaximumNumberOfUndoStates"] == (10,)
    assert not bench.panel.paint.editor.unorderedEffectsVisible


def test_the_segment_editor_modules_own_node_is_left_alone(bench: Bench) -> None:
    other = slicer.vtkMRMLSegmentEditorNode()
    other.SetSingletonTag("SegmentEditor")
    other = bench.scene.AddNode(other)
    chosen(bench)
    assert bench.panel.paint.node is not other
    assert other.GetSegmentationNode() is None


def test_entering_makes_a_place_to_paint(bench: Bench) -> None:
    chosen(bench)
    segmentation = bench.logic.parameters.segmentation
    assert segmentation is not None
    assert bench.scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1
    assert bench.panel.paint.editor.segmentationNode() is segmentation
    assert bench.panel.paint.editor.sourceVolumeNode() is bench.logic.parameters.reference
    assert "segment 'Lesion'" in bench.ui.segmentLabel.text


def test_without_a_ct_nothing_is_made(bench: Bench) -> None:
    bench.panel.enter()
    assert bench.logic.parameters.segmentation is None
    assert not bench.ui.brush10Button.enabled
    assert not bench.ui.proposeButton.enabled


def test_keys_of_the_editor_come_and_go_with_the_module(bench: Bench) -> None:
    chosen(bench)
    assert bench.panel.paint.editor.names().count("installKeyboardShortcuts") == 1
    bench.panel.exit()
    assert bench.panel.paint.editor.names()[-3:] == [
        "setActiveEffect",
        "uninstallKeyboardShortcuts",
        "removeViewObservations",
    ]


def test_brush_presets_are_millimetres_of_a_ball(bench: Bench) -> None:
    chosen(bench)
    bench.ui.brush20Button.click()
    effect = bench.panel.paint.editor.activeEffect()
    assert effect.name == "Paint"
    assert effect.common == {"BrushSphere": 1, "BrushDiameterIsRelative": 0, "BrushAbsoluteDiameter": 20}
    bench.panel.paint.editor.setActiveEffectByName("Erase")
    bench.ui.brush5Button.click()
    assert bench.panel.paint.editor.activeEffect().name == "Erase"
    assert bench.panel.paint.editor.activeEffect().common["BrushAbsoluteDiameter"] == 5


def place(bench: Bench, words: str) -> None:
    box = bench.ui.paintInBox
    box.currentIndex = places(bench).index(words)


def places(bench: Bench) -> list[str]:
    box = bench.ui.paintInBox
    return [box.itemText(n) for n in range(box.count)]


def test_only_lung_is_the_editors_own_intensity_mask(bench: Bench) -> None:
    assert not bench.ui.paintInBox.enabled
    chosen(bench)
    place(bench, "Paint only in lung")
    node = bench.panel.paint.node
    assert node.GetSourceVolumeIntensityMask()
    low, high = node.GetSourceVolumeIntensityMaskRange()
    assert low < -850 < high < -100
    assert bench.logic.parameters.paint_in == "lung"
    place(bench, "Paint anywhere")
    assert not node.GetSourceVolumeIntensityMask()


def test_a_mask_changed_in_the_editor_stays_until_another_place_is_chosen(bench: Bench) -> None:
    chosen(bench)
    place(bench, "Paint only in lung")
    node = bench.panel.paint.node
    node.SetSourceVolumeIntensityMaskRange(-900, -500)
    bench.panel.refresh()
    assert node.GetSourceVolumeIntensityMaskRange() == (-900, -500)
    place(bench, "Paint anywhere")
    assert not node.GetSourceVolumeIntensityMask()


def test_only_lung_comes_back_with_a_scene(bench: Bench) -> None:
    chosen(bench)
    bench.logic.parameters.paint_in = "lung"
    bench.wait(lambda: bench.ui.paintInBox.currentText == "Paint only in lung")
    assert bench.panel.paint.node.GetSourceVolumeIntensityMask()


def test_tissue_at_the_crosshair_and_how_far_it_reaches(bench: Bench) -> None:
    chosen(bench)
    ui, node = bench.ui, bench.panel.paint.node
    assert not ui.likeFrame.isVisibleTo(bench.top)
    bench.scene.GetFirstNodeByClass("vtkMRMLCrosshairNode").SetCrosshairRAS(10, 10, 10)
    place(bench, "Paint only in tissue like that at the crosshair")
    assert node.GetSourceVolumeIntensityMaskRange() == (-880, -820)
    assert ui.likeLabel.text == "-880 to -820 HU"
    ui.likeSlider.value = 100
    assert node.GetSourceVolumeIntensityMaskRange() == (-950, -750)
    slicer.util.updateVolumeFromArray(bench.logic.parameters.reference, np.full(SHAPE_KJI, 110, np.int16))
    ui.likeButton.click()
    assert node.GetSourceVolumeIntensityMaskRange() == (80, 140)


def test_a_crosshair_outside_says_so_and_the_list_goes_back(bench: Bench) -> None:
    chosen(bench)
    bench.scene.GetFirstNodeByClass("vtkMRMLCrosshairNode").SetCrosshairRAS(900, 0, 0)
    place(bench, "Paint only in tissue like that at the crosshair")
    assert "outside the CT" in bench.message
    assert bench.ui.paintInBox.currentText == "Paint anywhere"
    assert not bench.panel.paint.node.GetSourceVolumeIntensityMask()


def test_other_segments_are_offered_and_one_that_goes_lets_the_brush_free(bench: Bench) -> None:
    chosen(bench)
    segments = bench.logic.parameters.segmentation.GetSegmentation()
    liver = segments.AddEmptySegment("", "Liver")
    bench.wait(lambda: "Paint only inside Liver" in places(bench))
    assert "Paint only inside Lesion" not in places(bench)
    place(bench, "Paint only inside Liver")
    node = bench.panel.paint.node
    assert node.GetMaskMode() == slicer.vtkMRMLSegmentationNode.EditAllowedInsideSingleSegment
    assert node.GetMaskSegmentID() == liver
    segments.RemoveSegment(liver)
    bench.wait(lambda: bench.ui.paintInBox.currentText == "Paint anywhere")
    assert node.GetMaskMode() == slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere


def test_painting_enables_the_button(bench: Bench) -> None:
    bench.connect()
    chosen(bench)
    assert "paint a lesion" in bench.ui.reasonLabel.text
    parameters = bench.logic.parameters
    mask = np.zeros(SHAPE_KJI, np.uint8)
    mask[4:6, 4:6, 4:6] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        mask, parameters.segmentation, parameters.segment_id, parameters.reference
    )
    bench.wait(lambda: bench.ui.synthesizeButton.enabled)
    assert bench.ui.reasonLabel.text == ""


def test_another_segment_in_the_editor_is_the_lesion(bench: Bench) -> None:
    chosen(bench)
    segments = bench.logic.parameters.segmentation.GetSegmentation()
    second = segments.AddEmptySegment("", "Second")
    bench.panel.paint.node.SetSelectedSegmentID(second)
    assert bench.logic.parameters.segment_id == second
    bench.wait(lambda: "'Second'" in bench.ui.segmentLabel.text)


def lung_with_body(bench: Bench) -> None:
    """A CT big enough for a proposal: air in the lung, soft tissue around it."""
    node = new_ct(bench.scene)
    hu = np.full((60, 60, 60), 40, np.int16)
    hu[8:52, 8:52, 8:52] = -850
    slicer.util.updateVolumeFromArray(node, hu)
    bench.ui.volumeSelector.setCurrentNode(node)
    bench.panel.enter()
    crosshair = bench.scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    crosshair.SetCrosshairRAS(30, 30, 30)


def test_a_proposal_is_one_undo_state_and_says_its_size(bench: Bench) -> None:
    lung_with_body(bench)
    bench.ui.proposeSlider.value = 12
    assert bench.logic.parameters.lesion_mm == 12
    bench.ui.proposeButton.click()
    assert bench.panel.paint.editor.names().count("saveStateForUndo") == 1
    assert "Proposed a lesion of" in bench.message
    assert " ml" in bench.message
    assert bench.logic.export().voxels > 300


def test_a_proposal_outside_lung_says_what_to_do(bench: Bench) -> None:
    lung_with_body(bench)
    bench.scene.GetFirstNodeByClass("vtkMRMLCrosshairNode").SetCrosshairRAS(2, 2, 2)
    bench.ui.proposeButton.click()
    assert "lung" in bench.message
    assert bench.panel.paint.editor.names().count("saveStateForUndo") == 0


def test_what_the_user_painted_is_never_touched(bench: Bench) -> None:
    lung_with_body(bench)
    parameters = bench.logic.parameters
    mine = parameters.segment_id
    mask = np.zeros((60, 60, 60), np.uint8)
    mask[20:23, 20:23, 20:23] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        mask, parameters.segmentation, mine, parameters.reference
    )
    bench.ui.proposeButton.click()
    assert parameters.segment_id != mine
    kept = slicer.util.arrayFromSegmentBinaryLabelmap(parameters.segmentation, mine, parameters.reference)
    assert np.array_equal(kept, mask)


def test_the_shape_of_a_proposal_is_chosen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen(bench)
    box = bench.ui.shapeBox
    assert [box.itemText(n) for n in range(box.count)] == ["round", "lobulated", "spiculated"]
    assert box.currentText == "lobulated"
    box.currentIndex = 2
    assert bench.logic.parameters.lesion_shape == "spiculated"
    asked = []
    monkeypatch.setattr(bench.logic, "propose", lambda size, seed, shape: asked.append(shape) or proposal())
    bench.ui.proposeButton.click()
    assert asked == ["spiculated"]
    bench.logic.parameters.lesion_shape = "round"  # as a loaded scene says
    bench.panel.refresh()
    assert box.currentText == "round"


def proposal() -> Proposal:
    return Proposal("", 300, 0.5, 0.0)
