"""Painted segments become masks on the grid of the CT, whatever they were painted on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import vtk
from LesionBrushLib.logic.masks import segment_mask
from LesionBrushLib.logic.problems import EmptyMask, NotReady
from logic_kit import ball, chest, oblique, straight
from mrml_kit import World, paint

pytest_plugins = "logic_fixtures"


def painted(world: World, volume: Any, mask: np.ndarray) -> tuple[Any, str]:
    """A segmentation on the grid of a volume, with this mask in its only segment."""
    segmentation = world.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Segmentation")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    segment = segmentation.GetSegmentation().AddEmptySegment("", "Lesion")
    paint(world, segmentation, segment, mask, volume)
    return segmentation, segment


def moved_by(world: World, *mm: float) -> Any:
    node = world.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Moved")
    matrix = vtk.vtkMatrix4x4()
    for row, value in enumerate(mm):
        matrix.SetElement(row, 3, value)
    node.SetMatrixTransformToParent(matrix)
    return node


@pytest.mark.parametrize("grid", [straight, oblique])
def test_painted_on_the_ct_it_comes_back_voxel_by_voxel(world: World, grid: Any) -> None:
    volume = world.volume(chest(), grid())
    segmentation, segment = painted(world, volume, ball())
    before = world.scene.GetNumberOfNodes()
    mask = segment_mask(segmentation, segment, volume)
    assert mask.dtype == np.uint8
    assert np.array_equal(mask > 0, ball())
    assert world.scene.GetNumberOfNodes() == before


@pytest.mark.parametrize("grid", [straight, oblique])
def test_painted_twice_as_fine_it_keeps_place_and_volume(world: World, grid: Any) -> None:
    volume = world.volume(chest(), grid(), "CT")
    scale = np.diag((0.5, 0.5, 0.5, 1.0))
    scale[:3, 3] = -0.25
    fine = world.volume(np.repeat(np.repeat(np.repeat(chest(), 2, 0), 2, 1), 2, 2), grid() @ scale, "Fine")
    sharp = np.repeat(np.repeat(np.repeat(ball(), 2, 0), 2, 1), 2, 2)
    segmentation, segment = painted(world, fine, sharp)
    assert np.array_equal(segment_mask(segmentation, segment, volume) > 0, ball())


def test_painted_on_a_tilted_grid_it_lies_where_it_was_painted(world: World) -> None:
    volume, tilted = world.volume(chest(), straight(), "CT"), world.volume(chest(), oblique(), "Tilted")
    segmentation, segment = painted(world, tilted, ball(12.0, (0.0, 0.0, 0.0)))
    mask = segment_mask(segmentation, segment, volume) > 0
    expected = ball(12.0, (0.0, 0.0, 0.0))  # a ball in the middle is the same ball however it is turned
    assert np.count_nonzero(mask ^ expected) < 0.12 * np.count_nonzero(expected)
    assert abs(np.count_nonzero(mask) / np.count_nonzero(expected) - 1) < 0.05


def test_a_ct_and_its_mask_under_one_transform_are_as_without(world: World) -> None:
    volume = world.volume(chest(), oblique())
    segmentation, segment = painted(world, volume, ball())
    transform = moved_by(world, 7.3, -11.1, 4.9)
    for node in (volume, segmentation):
        node.SetAndObserveTransformNodeID(transform.GetID())
    assert np.array_equal(segment_mask(segmentation, segment, volume) > 0, ball())


def test_a_transform_of_one_of_them_moves_the_mask(world: World) -> None:
    volume = world.volume(chest(), straight())
    segmentation, segment = painted(world, volume, ball())
    segmentation.SetAndObserveTransformNodeID(moved_by(world, -3.0, 0.0, 5.0).GetID())
    expected = np.roll(ball(), (2, 0, 2), (0, 1, 2))  # 3 mm to the left: 2 voxels of i; 5 mm up: 2 of k
    assert np.array_equal(segment_mask(segmentation, segment, volume) > 0, expected)
    segmentation.SetAndObserveTransformNodeID(None)
    volume.SetAndObserveTransformNodeID(moved_by(world, 3.0, 0.0, -5.0).GetID())
    assert np.array_equal(segment_mask(segmentation, segment, volume) > 0, expected)


def test_a_surface_alone_becomes_a_mask(world: World) -> None:
    volume = world.volume(chest(), straight())
    segmentation, segment = painted(world, volume, ball())
    segmentation.CreateClosedSurfaceRepresentation()
    data = segmentation.GetSegmentation()
    data.SetSourceRepresentationName("Closed surface")
    data.RemoveRepresentation("Binary labelmap")
    mask = segment_mask(segmentation, segment, volume) > 0
    assert np.count_nonzero(mask ^ ball()) < 0.25 * np.count_nonzero(ball())
    assert not data.ContainsRepresentation("Binary labelmap")


def test_an_empty_a_missing_and_a_distant_segment_are_refused(world: World) -> None:
    volume = world.volume(chest(), straight(), "Chest CT")
    segmentation, segment = painted(world, volume, ball())
    empty = segmentation.GetSegmentation().AddEmptySegment("", "Nothing")
    with pytest.raises(EmptyMask, match="Nothing is empty"):
        segment_mask(segmentation, empty, volume)
    with pytest.raises(NotReady, match="no such segment"):
        segment_mask(segmentation, "gone", volume)
    segmentation.SetAndObserveTransformNodeID(moved_by(world, 0.0, 0.0, 900.0).GetID())
    with pytest.raises(EmptyMask, match="outside Chest CT"):
        segment_mask(segmentation, segment, volume)


def test_one_segment_of_several_on_one_layer(world: World) -> None:
    volume = world.volume(chest(), straight())
    segmentation, first = painted(world, volume, ball())
    second = segmentation.GetSegmentation().AddEmptySegment("", "Other")
    paint(world, segmentation, second, ball(6.0, (-30.0, 0.0, 0.0)), volume)
    assert segmentation.GetSegmentation().GetNumberOfLayers() == 1
    assert np.array_equal(segment_mask(segmentation, first, volume) > 0, ball())
