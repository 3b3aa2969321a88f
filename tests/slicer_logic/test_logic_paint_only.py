"""Where the brush may paint, by Slicer's own Segment Editor logic: what it lets through of a stroke."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import slicer
from LesionBrushLib.logic import LesionBrushLogic
from LesionBrushLib.logic.masks import oriented, segment_mask
from LesionBrushLib.logic.paint_only import LUNG_HU, PaintOnly
from LesionBrushLib.logic.problems import NotReady
from LesionBrushLib.logic.voxels import Grid
from logic_kit import LEFT_LUNG_RAS, TISSUE_HU, ball, chest
from logic_kit import LUNG_HU as LUNG
from mrml_kit import World, array_of, paint

pytest_plugins = "logic_fixtures"
TISSUE_RAS = (0.0, -48.0, 0.0)
"""Behind the lungs."""


class Brush:
    """The Segment Editor's node and logic, on the chosen CT and segment."""

    def __init__(self, world: World, logic: LesionBrushLogic) -> None:
        self.lesion = logic
        self.node = world.scene.AddNewNodeByClass("vtkMRMLSegmentEditorNode", "Editor")
        self.editor = slicer.vtkSlicerSegmentEditorLogic()
        self.editor.SetMRMLScene(world.scene)
        self.editor.SetSegmentEditorNode(self.node)

    def stroke(self, mask: np.ndarray) -> np.ndarray:
        """(k, j, i) bool: what the chosen segment holds after a stroke over this mask."""
        chosen = self.lesion.parameters
        self.editor.SetSegmentationNode(chosen.segmentation)
        self.editor.SetSourceVolumeNode(chosen.reference)
        self.editor.SetCurrentSegmentID(chosen.segment_id)
        self.lesion.paint_only().put(self.node)
        self.editor.UpdateReferenceGeometryImage()
        self.editor.UpdateAlignedSourceVolume()
        self.editor.UpdateMaskLabelmap()
        self.editor.ModifySegmentByLabelmap(
            chosen.segmentation,
            chosen.segment_id,
            oriented(Grid.of(chosen.reference), mask.astype(np.uint8)),
            self.editor.ModificationModeAdd,
            False,
            False,
        )
        return segment_mask(chosen.segmentation, chosen.segment_id, chosen.reference) > 0


@pytest.fixture
def brush(world: World, logic: LesionBrushLogic, ct: Any) -> Brush:
    logic.ensure_segmentation()
    return Brush(world, logic)


def organ(world: World, logic: LesionBrushLogic, mask: np.ndarray, name: str = "Liver") -> str:
    """ID of a segment of the user's beside the lesion."""
    segmentation = logic.ensure_segmentation()
    made = str(segmentation.GetSegmentation().AddEmptySegment("", name))
    paint(world, segmentation, made, mask, logic.parameters.reference)
    return made


STROKE = ball(20.0, (30.0, 30.0, 0.0))
"""Over lung and the wall behind it."""


def test_anywhere_takes_all_of_a_stroke(brush: Brush) -> None:
    assert np.array_equal(brush.stroke(STROKE), STROKE)


def test_only_lung_takes_its_hu(brush: Brush, logic: LesionBrushLogic, ct: Any) -> None:
    logic.paint_in("lung")
    low, high = LUNG_HU
    assert np.array_equal(brush.stroke(STROKE), STROKE & (array_of(ct) >= low) & (array_of(ct) <= high))


@pytest.mark.parametrize(("ras_mm", "hu"), [(TISSUE_RAS, TISSUE_HU), (LEFT_LUNG_RAS, LUNG)])
def test_tissue_like_that_at_a_point(
    brush: Brush, logic: LesionBrushLogic, ct: Any, ras_mm: tuple[float, ...], hu: int
) -> None:
    """Its noise has a standard deviation of 12 HU: nearly all of the tissue, and none of the other."""
    logic.paint_in("like", ras_mm=ras_mm)
    assert abs(logic.parameters.like_hu - hu) < 8
    assert 30 <= logic.parameters.like_width_hu <= 60
    taken, same = brush.stroke(STROKE), STROKE & (np.abs(chest() - hu) < 100)
    assert not (taken & ~same).any()
    assert taken.sum() > 0.97 * same.sum()


def test_the_reach_is_the_users(brush: Brush, logic: LesionBrushLogic, ct: Any) -> None:
    logic.paint_in("like", ras_mm=TISSUE_RAS)
    logic.parameters.like_width_hu = 5.0
    taken = brush.stroke(STROKE)
    level_hu = logic.parameters.like_hu
    assert np.array_equal(taken, STROKE & (np.abs(array_of(ct) - level_hu) <= 5))


def test_the_crosshair_says_which_tissue(world: World, logic: LesionBrushLogic, ct: Any) -> None:
    world.nodes("vtkMRMLCrosshairNode")[0].SetCrosshairRAS(*TISSUE_RAS)
    logic.paint_in("like")
    assert abs(logic.parameters.like_hu - TISSUE_HU) < 8


def test_inside_a_segment_which_keeps_its_voxels(
    world: World, brush: Brush, logic: LesionBrushLogic, ct: Any
) -> None:
    liver = ball(14.0, (30.0, 40.0, 0.0))
    one = organ(world, logic, liver)
    logic.paint_in("segment", one)
    assert np.array_equal(brush.stroke(STROKE), STROKE & liver)
    assert np.array_equal(segment_mask(logic.parameters.segmentation, one, ct) > 0, liver)
    more = ball(8.0, (30.0, 40.0, 0.0))
    assert np.array_equal(brush.stroke(more), (STROKE & liver) | more)


def test_back_to_anywhere_takes_the_masks_away(
    world: World, brush: Brush, logic: LesionBrushLogic, ct: Any
) -> None:
    logic.paint_in("segment", organ(world, logic, ball(5.0)))
    logic.paint_only().put(brush.node)
    logic.paint_in("lung")
    logic.paint_only().put(brush.node)
    assert brush.node.GetMaskMode() == slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere
    assert brush.node.GetSourceVolumeIntensityMask()
    logic.paint_in("")
    assert np.array_equal(brush.stroke(STROKE), STROKE)


def test_a_mask_mode_of_the_users_own_is_left_alone(brush: Brush, logic: LesionBrushLogic) -> None:
    own = slicer.vtkMRMLSegmentationNode.EditAllowedOutsideAllSegments
    brush.node.SetMaskMode(own)
    logic.paint_in("lung")
    logic.paint_only().put(brush.node)
    assert brush.node.GetMaskMode() == own


def test_a_segment_that_is_gone_or_is_the_lesion_holds_nobody(
    world: World, logic: LesionBrushLogic, ct: Any
) -> None:
    one = organ(world, logic, ball(5.0))
    logic.paint_in("segment", one)
    lesion, logic.parameters.segment_id = logic.parameters.segment_id, one
    assert logic.paint_only() == PaintOnly()
    logic.parameters.segment_id = lesion
    assert logic.paint_only() == PaintOnly(segment_id=one)
    logic.parameters.segmentation.GetSegmentation().RemoveSegment(one)
    assert logic.paint_only() == PaintOnly()


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (("bone",), "'bone'"),
        (("segment", "nobody"), "no segment 'nobody'"),
        (("segment",), "no segment ''"),
        (("like", "", (500.0, 0.0, 0.0)), "outside the CT"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    logic: LesionBrushLogic, ct: Any, asked: tuple[Any, ...], says: str
) -> None:
    logic.paint_in("lung")
    with pytest.raises(NotReady, match=says):
        logic.paint_in(*asked)
    assert logic.parameters.paint_in == "lung"


def test_without_a_ct_there_is_no_tissue(logic: LesionBrushLogic) -> None:
    with pytest.raises(NotReady, match="choose a CT"):
        logic.paint_in("like")
