"""A lesion with one click: in the lung, of the asked size, and never over what the user painted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from LesionBrushLib.logic import LesionBrushLogic
from LesionBrushLib.logic.masks import segment_mask
from LesionBrushLib.logic.problems import NotReady, OutsideLung, OutsideOrgan
from LesionBrushLib.logic.propose import grown
from logic_kit import LEFT_LUNG_RAS, LUNG_HU, ball, chest, oblique, straight
from mrml_kit import World, array_of, paint
from scipy.ndimage import distance_transform_edt

pytest_plugins = "logic_fixtures"


def mask_of(logic: LesionBrushLogic, segment_id: str) -> np.ndarray:
    return segment_mask(logic.parameters.segmentation, segment_id, logic.parameters.reference) > 0


@pytest.mark.parametrize("grid", [straight, oblique])
@pytest.mark.parametrize("shape", ["round", "lobulated", "spiculated"])
def test_it_has_the_asked_volume_and_lies_at_the_point(
    world: World, logic: LesionBrushLogic, grid: Any, shape: str
) -> None:
    matrix = grid()
    logic.parameters.reference = world.volume(chest(), matrix)
    k, j, i = 16, 45, 70  # in the lung, whichever way the volume is turned
    proposal = logic.propose(16.0, 5, shape, (matrix @ (i, j, k, 1))[:3])
    found = np.argwhere(mask_of(logic, proposal.segment_id))
    assert np.linalg.norm((found.mean(0) - (k, j, i)) * (2.5, 1.5, 1.5)) < 3
    assert proposal.voxels == len(found)
    assert proposal.volume_ml == pytest.approx(4 / 3 * np.pi * 0.8**3, rel=0.12)
    assert 0 <= proposal.cut < 0.1


def test_the_same_seed_is_the_same_lesion_and_another_is_not(logic: LesionBrushLogic, ct: Any) -> None:
    masks = []
    for seed in (1, 1, 2):
        proposal = logic.propose(16.0, seed, ras_mm=LEFT_LUNG_RAS)
        masks.append(mask_of(logic, proposal.segment_id))
    assert np.array_equal(masks[0], masks[1])
    assert not np.array_equal(masks[0], masks[2])


def test_at_the_wall_it_is_cut_to_the_lung(logic: LesionBrushLogic, ct: Any) -> None:
    proposal = logic.propose(20.0, 3, ras_mm=(-47.0, 0.0, 0.0))
    mask = mask_of(logic, proposal.segment_id)
    assert 0.05 < proposal.cut < 0.6
    tissue = np.count_nonzero(array_of(ct)[mask] > -400)
    assert tissue < 0.03 * np.count_nonzero(mask)


def test_a_vessel_inside_it_is_no_hole(logic: LesionBrushLogic, ct: Any) -> None:
    proposal = logic.propose(24.0, 3, ras_mm=(-22.0, 6.0, 0.0))  # the vessel is at 18 mm, front
    mask = mask_of(logic, proposal.segment_id)
    assert np.count_nonzero(mask & (array_of(ct) > LUNG_HU / 2)) > 30


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ((0.0, 0.0, 0.0), "not in aerated lung"),
        ((0.0, 62.0, 0.0), "in air"),
        ((500.0, 0.0, 0.0), "outside the CT"),
    ],
)
def test_outside_the_lung_it_says_why(logic: LesionBrushLogic, ct: Any, where: Any, says: str) -> None:
    with pytest.raises(OutsideLung, match=says):
        logic.propose(16.0, 1, ras_mm=where)
    assert logic.parameters.segmentation is None  # nothing was made


def test_a_cushion_is_no_lung(world: World, logic: LesionBrushLogic) -> None:
    hu = chest()
    hu[:, 78:] = -800
    logic.parameters.reference = world.volume(hu, straight())
    with pytest.raises(OutsideLung, match="not enclosed by the body"):
        logic.propose(8.0, 1, ras_mm=(0.0, -58.0, 0.0))


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (1.5, 1.5, 2.5), (0.7, 0.8, 5.0)])
def test_growing_is_exact(spacing_mm: tuple[float, float, float]) -> None:
    mask = np.random.default_rng(2).random((12, 20, 22)) > 0.995
    distance_mm = distance_transform_edt(~mask, sampling=spacing_mm[::-1])
    assert np.array_equal(grown(mask, np.array(spacing_mm), 4.0), distance_mm <= 4.0)


def test_most_of_it_in_the_wall_is_refused(logic: LesionBrushLogic, ct: Any) -> None:
    with pytest.raises(OutsideLung, match="smaller size"):
        logic.propose(80.0, 1, ras_mm=(-30.0, 38.0, 0.0))


def test_impossible_wishes_are_refused(logic: LesionBrushLogic, ct: Any) -> None:
    with pytest.raises(NotReady, match=r"0\.5 mm"):
        logic.propose(0.5, 1, ras_mm=LEFT_LUNG_RAS)
    with pytest.raises(NotReady, match="unknown shape"):
        logic.propose(10.0, 1, "square", LEFT_LUNG_RAS)


def test_it_is_put_at_the_crosshair(world: World, logic: LesionBrushLogic, ct: Any) -> None:
    world.nodes("vtkMRMLCrosshairNode")[0].SetCrosshairRAS(*LEFT_LUNG_RAS)
    proposal = logic.propose(12.0, 1)
    centre = np.argwhere(mask_of(logic, proposal.segment_id)).mean(0)[::-1]
    assert np.linalg.norm((straight() @ (*centre, 1))[:3] - LEFT_LUNG_RAS) < 3


def test_under_a_transform_it_is_still_at_the_crosshair(
    world: World, logic: LesionBrushLogic, ct: Any
) -> None:
    from test_logic_masks import moved_by

    ct.SetAndObserveTransformNodeID(moved_by(world, 40.0, -25.0, 10.0).GetID())
    proposal = logic.propose(12.0, 1, ras_mm=np.add(LEFT_LUNG_RAS, (40.0, -25.0, 10.0)))
    centre = np.argwhere(mask_of(logic, proposal.segment_id)).mean(0)[::-1]
    assert np.linalg.norm((straight() @ (*centre, 1))[:3] - LEFT_LUNG_RAS) < 3


def test_proposing_again_replaces_an_untouched_proposal(logic: LesionBrushLogic, ct: Any) -> None:
    small = logic.propose(10.0, 1, ras_mm=LEFT_LUNG_RAS)
    large = logic.propose(20.0, 1, ras_mm=LEFT_LUNG_RAS)
    assert large.segment_id == small.segment_id
    assert np.count_nonzero(mask_of(logic, large.segment_id)) == large.voxels
    assert logic.parameters.segmentation.GetSegmentation().GetNumberOfSegments() == 1


def test_what_the_user_painted_stays(
    world: World, logic: LesionBrushLogic, ct: Any, lesion: np.ndarray
) -> None:
    painted = logic.parameters.segment_id
    proposal = logic.propose(18.0, 1, ras_mm=(-30.0, 0.0, 0.0))
    assert proposal.segment_id != painted
    assert np.array_equal(mask_of(logic, painted), lesion)
    touched = proposal.segment_id
    paint(world, logic.parameters.segmentation, touched, ball(4.0, (30.0, 15.0, 0.0)), ct)
    assert logic.propose(18.0, 2, ras_mm=(-30.0, 0.0, 0.0)).segment_id not in (painted, touched)
    assert np.array_equal(mask_of(logic, painted), lesion)


def test_one_undo_state_per_proposal(logic: LesionBrushLogic, ct: Any) -> None:
    """With the segmentation's own history, which is what the Segment Editor uses."""
    import slicer

    history = slicer.vtkSegmentationHistory()
    segmentation = logic.ensure_segmentation()
    history.SetSegmentation(segmentation.GetSegmentation())
    logic.save_undo = history.SaveState
    first = logic.propose(10.0, 1, ras_mm=LEFT_LUNG_RAS)
    before = mask_of(logic, first.segment_id)
    logic.propose(20.0, 1, ras_mm=LEFT_LUNG_RAS)
    assert history.GetNumberOfStates() == 2
    history.RestorePreviousState()
    assert np.array_equal(mask_of(logic, first.segment_id), before)
    history.RestorePreviousState()
    with pytest.raises(Exception, match="empty"):
        mask_of(logic, first.segment_id)


def test_a_refusal_saves_no_undo_state(logic: LesionBrushLogic, ct: Any) -> None:
    calls: list[int] = []
    logic.save_undo = lambda: calls.append(1)
    with pytest.raises(OutsideLung):
        logic.propose(16.0, 1, ras_mm=(0.0, 0.0, 0.0))
    assert calls == []


LIVER_MM, LIVER_RAS = (0.0, 20.0, 0.0), (0.0, -20.0, 0.0)


def organ(world: World, logic: LesionBrushLogic, mask: np.ndarray, name: str = "Liver") -> str:
    """A segment of the user's that the brush is held to."""
    segmentation = logic.ensure_segmentation()
    made = str(segmentation.GetSegmentation().AddEmptySegment("", name))
    paint(world, segmentation, made, mask, logic.parameters.reference)
    logic.paint_in("segment", made)
    return made


def test_any_segment_takes_a_lesion_with_a_margin_to_its_border(
    world: World, logic: LesionBrushLogic, ct: Any
) -> None:
    """In soft tissue, where none was proposed before; the organ itself keeps its voxels."""
    liver = ball(22.0, LIVER_MM)
    one = organ(world, logic, liver)
    proposal = logic.propose(18.0, 3, ras_mm=LIVER_RAS)
    mask = mask_of(logic, proposal.segment_id)
    assert (proposal.segment_id != one, proposal.cut, proposal.where) == (True, 0.0, "Liver")
    assert proposal.volume_ml == pytest.approx(4 / 3 * np.pi * 0.9**3, rel=0.12)
    assert np.array_equal(mask_of(logic, one), liver)
    spacing_mm = (2.5, 1.5, 1.5)
    assert distance_transform_edt(liver, sampling=spacing_mm)[mask].min() > 3.0


def test_near_the_border_it_is_cut_to_the_margin(world: World, logic: LesionBrushLogic, ct: Any) -> None:
    liver = ball(22.0, LIVER_MM)
    organ(world, logic, liver)
    proposal = logic.propose(18.0, 3, ras_mm=(12.0, -20.0, 0.0))
    mask = mask_of(logic, proposal.segment_id)
    assert 0.02 < proposal.cut < 0.5
    assert distance_transform_edt(liver, sampling=(2.5, 1.5, 1.5))[mask].min() > 3.0


def test_vessels_that_a_segment_leaves_out_are_no_border(
    world: World, logic: LesionBrushLogic, ct: Any
) -> None:
    liver = ball(22.0, LIVER_MM)
    liver[:, 58, :] = False  # a sheet as thin as a vessel, through the crosshair
    organ(world, logic, liver)
    proposal = logic.propose(18.0, 3, ras_mm=LIVER_RAS)
    assert proposal.cut == 0.0
    assert mask_of(logic, proposal.segment_id)[:, 58].any()


@pytest.mark.parametrize(
    ("size_mm", "ras_mm", "says"),
    [
        (18.0, LEFT_LUNG_RAS, "the crosshair is not in Liver"),
        (18.0, (900.0, 0.0, 0.0), "the crosshair is not in Liver"),
        (60.0, LIVER_RAS, r"does not fit into Liver.*up to 3[78] mm fit here"),
        (30.0, (20.0, -20.0, 0.0), "none fits here"),
    ],
)
def test_where_there_is_no_room_in_a_segment_it_says_what_fits(
    world: World, logic: LesionBrushLogic, ct: Any, size_mm: float, ras_mm: Any, says: str
) -> None:
    organ(world, logic, ball(22.0, LIVER_MM))
    calls: list[int] = []
    logic.save_undo = lambda: calls.append(1)
    with pytest.raises(OutsideOrgan, match=says):
        logic.propose(size_mm, 1, ras_mm=ras_mm)
    assert calls == []


def test_an_empty_segment_takes_none(world: World, logic: LesionBrushLogic, ct: Any) -> None:
    organ(world, logic, np.zeros_like(ball()))
    with pytest.raises(NotReady, match="Liver is empty"):
        logic.propose(18.0, 1, ras_mm=LIVER_RAS)


def test_without_a_segment_it_is_lung_as_ever(world: World, logic: LesionBrushLogic, ct: Any) -> None:
    organ(world, logic, ball(22.0, LIVER_MM))
    logic.paint_in("")
    assert logic.propose(16.0, 5, ras_mm=LEFT_LUNG_RAS).where == "lung"
    with pytest.raises(OutsideLung):
        logic.propose(16.0, 5, ras_mm=LIVER_RAS)
