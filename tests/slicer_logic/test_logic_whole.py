"""Whole new CTs in the scene: marked, switched, compared alone or beside, and painted into."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import vtk
from LesionBrushLib.client.orders import GeneratedCT, Labels
from LesionBrushLib.logic import LesionBrushLogic
from LesionBrushLib.logic.compose import is_synthetic, provenance_of
from LesionBrushLib.logic.masks import segment_mask
from LesionBrushLib.logic.problems import BrokenBox, NotReady
from LesionBrushLib.logic.whole import labels_of, pair
from logic_kit import LESION_HU, answer, ball, chest, offered, straight
from mrml_kit import World, array_of, paint

pytest_plugins = "logic_fixtures"
NAMES = {1: "left lung", 2: "nodule", 9: "of nobody"}


def affine(shift_mm: float = 0.0) -> np.ndarray:
    moved = straight()
    moved[0, 3] += shift_mm
    return moved


def organs() -> np.ndarray:
    """(k, j, i) uint8: a lung, and a nodule in it."""
    labels = ball(20).astype(np.uint8)
    labels[ball(6)] = 2
    return labels


def volumes(count: int = 2, shift_mm: float = 0.0, labelled: bool = True) -> list[GeneratedCT]:
    """Each 10 HU brighter than the one before."""
    known = Labels(np.asfortranarray(organs().T), NAMES) if labelled else None
    arrays = [np.asfortranarray((chest() + 10 * n).T) for n in range(count)]
    return [GeneratedCT(array, affine(shift_mm), known) for array in arrays]


def records(count: int = 2) -> list[dict[str, Any]]:
    said = {"model": "chests", "synthetic": True, "generated": True, "reference_sha256": None}
    return [{**said, "seed": 7 + n} for n in range(count)]


@pytest.fixture
def made(logic: LesionBrushLogic, world: World) -> Any:
    """The node of two variants; there is no CT."""
    return logic.receive_whole(volumes(), records()).node


def test_it_is_a_new_volume_that_says_what_it_is(logic: LesionBrushLogic, world: World, made: Any) -> None:
    matrix = vtk.vtkMatrix4x4()
    made.GetIJKToRASMatrix(matrix)
    found = np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])
    assert np.allclose(found, affine(), atol=1e-6)
    assert array_of(made).dtype == np.int16
    assert np.array_equal(array_of(made), chest())
    assert made.GetName() == "SYNTHETIC GENERATED chests seed 7"
    assert is_synthetic(made)
    assert provenance_of(made) == records()[0]
    assert logic.parameters.synthetic is made
    assert offered(world) == [made]


def test_what_is_where_is_a_segmentation_with_names(world: World, made: Any) -> None:
    data = labels_of(made).GetSegmentation()
    ids = [data.GetNthSegmentID(n) for n in range(data.GetNumberOfSegments())]
    assert [data.GetSegment(key).GetName() for key in ids] == ["left lung", "nodule"]
    for label, key in enumerate(ids, 1):
        assert np.array_equal(segment_mask(labels_of(made), key, made) > 0, organs() == label)
    assert data.GetNumberOfLayers() == 1


def test_variants_switch_in_one_node(logic: LesionBrushLogic, world: World, made: Any) -> None:
    logic.next()
    assert logic.variants is not None
    assert logic.variants.node is made
    assert np.array_equal(array_of(made), chest() + 10)
    assert made.GetName().endswith("seed 8")
    logic.previous()
    assert np.array_equal(array_of(made), chest())
    assert len(world.nodes("vtkMRMLSegmentationNode")) == 1
    assert logic.variants.thumbnail(1).std() > 5
    logic.accepted(0, "case-1")
    logic.next()
    assert logic.variants.node is not made
    assert len(world.nodes("vtkMRMLSegmentationNode")) == 2


def test_discarded_or_followed_by_another_it_goes_with_its_labels(
    logic: LesionBrushLogic, world: World, made: Any
) -> None:
    logic.receive_whole(volumes(1, labelled=False), records(1))
    assert len(offered(world)) == 1
    assert world.nodes("vtkMRMLSegmentationNode") == []
    assert logic.variants is not None
    assert labels_of(logic.variants.node) is None
    logic.discard(0)
    assert offered(world) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (volumes(1) + volumes(1, shift_mm=3.0), "the variants do not lie on one grid: generate again"),
        (
            [GeneratedCT(volumes(1)[0].array, affine(), Labels(np.ones((2, 2, 2), np.uint8), {1: "a"}))],
            r"the CT has \(100, 90, 32\) voxels and its labels \(2, 2, 2\)",
        ),
        ([], "the answer holds 0 results and 0 records"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    logic: LesionBrushLogic, made: Any, changed: list[GeneratedCT], words: str
) -> None:
    """And the last result stays."""
    with pytest.raises(BrokenBox, match=words):
        logic.receive_whole(changed, records(len(changed)))
    assert np.array_equal(array_of(made), chest())


def test_it_is_compared_alone(logic: LesionBrushLogic, world: World, made: Any) -> None:
    logic.compare(True)
    comparison = logic.comparison
    assert (comparison.reference, comparison.synthetic) == (made, None)
    logic.next()
    assert comparison.active
    assert np.array_equal(array_of(comparison.reference), chest() + 10)
    logic.set_difference(True)
    assert not comparison.difference
    logic.discard(1)
    logic.discard(0)
    assert not comparison.active
    with pytest.raises(NotReady, match="choose a CT first"):
        logic.compare(True)


def test_it_is_compared_beside_a_ct_that_lies_there(logic: LesionBrushLogic, ct: Any) -> None:
    logic.compare(True)
    made = logic.receive_whole(volumes(), records()).node
    assert (logic.comparison.reference, logic.comparison.synthetic) == (ct, made)
    assert pair(ct, made) == (ct, made)
    assert pair(made, made) == (made, None)
    elsewhere = logic.receive_whole(volumes(1, shift_mm=900.0), records(1)).node
    assert (logic.comparison.reference, logic.comparison.synthetic) == (elsewhere, None)


def test_an_edit_is_not_shown_beside_another_ct(
    logic: LesionBrushLogic, world: World, synthetic: Any, ct: Any
) -> None:
    other = world.volume(chest(), straight(), "Other")
    assert pair(ct, synthetic) == (ct, synthetic)
    assert pair(other, synthetic) == (other, None)
    assert pair(other, None) == (other, None)


@pytest.fixture
def painted(logic: LesionBrushLogic, world: World, made: Any) -> np.ndarray:
    """A lesion in the generated CT, which is the reference now."""
    logic.parameters.reference = made
    paint(world, logic.ensure_segmentation(), logic.parameters.segment_id, ball(), made)
    return ball()


def test_a_lesion_is_painted_into_it_and_its_record_goes_along(
    logic: LesionBrushLogic, made: Any, painted: np.ndarray
) -> None:
    order = logic.export().order("lung", {"seed": 1})
    assert order.record == records()[0]
    assert logic.export().order("lung", {}, "an-image-of-the-server").record is None
    boxes, _ = answer(made, painted, LESION_HU)
    record = {**records(1)[0], "model": "lung", "reference_sha256": "0" * 64, "made_from": order.record}
    edit = logic.receive(boxes, [record]).node
    assert edit.GetName() == "SYNTHETIC GENERATED lung seed 7"
    assert pair(made, edit) == (made, edit)
    logic.parameters.reference = edit
    assert logic.export().record == record


def test_an_edit_of_a_real_ct_as_reference_has_its_record(
    logic: LesionBrushLogic, synthetic: Any, ct: Any
) -> None:
    assert logic.export().record is None
    logic.parameters.reference = synthetic
    assert logic.export().record == {"model": "lung_lesion", "seed": 7}


def test_what_is_painted_into_does_not_change_with_the_variants(
    logic: LesionBrushLogic, made: Any, painted: np.ndarray
) -> None:
    logic.next()
    assert np.array_equal(array_of(made), chest())
    assert logic.variants is not None
    assert np.array_equal(array_of(logic.variants.node), chest() + 10)
    logic.receive_whole(volumes(1), records(1))
    assert np.array_equal(array_of(made), chest())
    assert logic.parameters.reference is made


def test_labels_that_are_worked_on_stay(logic: LesionBrushLogic, world: World, made: Any) -> None:
    mine = logic.parameters.segmentation = labels_of(made)
    logic.receive_whole(volumes(1), records(1))
    assert logic.parameters.segmentation is mine
    assert len(offered(world)) == 2


def test_a_saved_scene_brings_it_back(logic: LesionBrushLogic, made: Any) -> None:
    """The record is on the node, so that what it is needs no server."""
    logic.variants = None
    assert pair(None, logic.parameters.synthetic) == (made, None)
    assert provenance_of(made)["generated"]


def test_its_mark_is_in_the_views(logic: LesionBrushLogic, made: Any, open_views: Any) -> None:
    open_views((120, 120))
    logic.compare(True)
    for name in logic.comparison.view_names:
        assert logic.marks.text(name) == "SYNTHETIC GENERATED\nchests seed 7"
