"""Volumes beside CT and mask, from nodes of a scene to what is sent: each on the grid it belongs to."""

from __future__ import annotations

import gzip
from typing import Any

import numpy as np
import pytest
import slicer
import vtk
from LesionBrushLib.client.boxes import voxel_sha256
from LesionBrushLib.client.uploads import nifti_voxels
from LesionBrushLib.logic import LesionBrushLogic
from LesionBrushLib.logic.problems import EmptyMask, NotACT, NotReady
from LesionBrushLib.logic.steering import AIR_HU, KNOWN
from logic_kit import LUNG_HU, ball, chest, oblique, straight
from mrml_kit import World, array_of, paint

pytest_plugins = "logic_fixtures"
SMALL = (12, 30, 34)
RIGHT, LEFT = ball(8, (-30.0, 0.0, 0.0)), ball(8, (30.0, 0.0, 0.0))


def label_volume(world: World, mask: np.ndarray, ijk_to_ras: np.ndarray, name: str = "Labels") -> Any:
    made = world.volume(mask.astype(np.uint8), ijk_to_ras, name)
    node = world.scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", name)
    node.SetAndObserveImageData(made.GetImageData())
    node.CopyOrientation(made)
    world.scene.RemoveNode(made)
    return node


def segmentation(world: World, volume: Any, **segments: np.ndarray | None) -> Any:
    """One segment per name; None: an empty one."""
    node = world.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Segmentation")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for name, mask in segments.items():
        segment = node.GetSegmentation().AddEmptySegment(name, name.replace("_", " "))
        if mask is not None:
            paint(world, node, segment, mask, volume)
    return node


def shifted(world: World, *mm: float) -> Any:
    node = world.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Moved")
    matrix = vtk.vtkMatrix4x4()
    for row, value in enumerate(mm):
        matrix.SetElement(row, 3, value)
    node.SetMatrixTransformToParent(matrix)
    return node


@pytest.fixture
def ready(logic: LesionBrushLogic, ct: Any, lesion: np.ndarray) -> LesionBrushLogic:
    """A CT and a painted lesion."""
    return logic


def test_what_the_model_does_not_take_stays_here(ready: LesionBrushLogic, world: World, ct: Any) -> None:
    ready.parameters.anatomy, ready.parameters.lungs = ct, segmentation(world, ct, lung=LEFT)
    assert ready.export().uploads() == {}
    assert set(ready.export(("anatomy",)).uploads()) == {"anatomy"}
    assert set(ready.export(("lungs", "anatomy", "from the future")).uploads()) == {"lungs", "anatomy"}
    assert ready.export(KNOWN).voxels == ready.export().voxels


def test_lungs_are_all_segments_that_say_so(ready: LesionBrushLogic, world: World, ct: Any) -> None:
    trachea = ball(4, (0.0, -20.0, 0.0))
    ready.parameters.lungs = segmentation(
        world, ct, right_lung=RIGHT, Left_Lung=LEFT, trachea=trachea, lung_of_nobody=None
    )
    assert np.array_equal(ready.export(("lungs",)).inputs["lungs"].array_kji > 0, RIGHT | LEFT)
    ready.parameters.lungs = segmentation(world, ct, one=RIGHT, two=LEFT)
    assert np.array_equal(ready.export(("lungs",)).inputs["lungs"].array_kji > 0, RIGHT | LEFT)
    ready.parameters.lungs.GetDisplayNode().SetSegmentVisibility("two", False)
    assert np.array_equal(ready.export(("lungs",)).inputs["lungs"].array_kji > 0, RIGHT)
    ready.parameters.lungs.GetDisplayNode().SetSegmentVisibility("one", False)
    with pytest.raises(EmptyMask, match="Segmentation is empty, or all of it is hidden"):
        ready.export(("lungs",))


def test_lungs_of_a_label_volume_have_any_label(ready: LesionBrushLogic, world: World) -> None:
    ready.parameters.lungs = label_volume(world, RIGHT + 2 * LEFT.astype(np.uint8), straight())
    sent = ready.export(("lungs",))
    assert np.array_equal(sent.inputs["lungs"].array_kji > 0, RIGHT | LEFT)
    upload = sent.uploads()["lungs"]
    assert upload.format == "nii.gz"
    assert len(upload.source) < 20_000


def test_a_label_volume_on_another_grid_is_put_on_the_ct(ready: LesionBrushLogic, world: World) -> None:
    fine = np.repeat(np.repeat(np.repeat(LEFT, 2, 0), 2, 1), 2, 2)
    scale = np.diag((0.5, 0.5, 0.5, 1.0))
    scale[:3, 3] = -0.25
    ready.parameters.lungs = label_volume(world, fine, straight() @ scale)
    assert np.array_equal(ready.export(("lungs",)).inputs["lungs"].array_kji > 0, LEFT)
    ready.parameters.lungs.SetAndObserveTransformNodeID(shifted(world, 0.0, 0.0, 5.0).GetID())
    assert np.array_equal(ready.export(("lungs",)).inputs["lungs"].array_kji > 0, np.roll(LEFT, 2, 0))
    ready.parameters.lungs.SetAndObserveTransformNodeID(shifted(world, 0.0, 0.0, 900.0).GetID())
    with pytest.raises(EmptyMask, match="Labels lies outside Chest CT"):
        ready.export(("lungs",))


def test_an_anatomy_map_on_the_grid_of_the_ct_is_sent_bit_by_bit(
    ready: LesionBrushLogic, world: World
) -> None:
    ready.parameters.anatomy = world.volume(chest() // 2, straight(), "Map")
    upload = ready.export(("anatomy",)).uploads()["anatomy"]
    shape = array_of(ready.parameters.anatomy).shape[::-1]
    assert np.array_equal(nifti_voxels(upload.source, shape).T, chest() // 2)


def test_a_coarser_anatomy_map_is_interpolated(ready: LesionBrushLogic, world: World, ct: Any) -> None:
    """A ramp is met exactly where it is; beyond it lies air."""
    ramp = np.broadcast_to(-600 + 40 * np.arange(20), (*SMALL[:2], 20)).astype(np.int16)
    coarse = straight() @ np.diag((2.0, 2.0, 2.0, 1.0))
    ready.parameters.anatomy = world.volume(ramp, coarse, "Map")
    sent = ready.export(("anatomy",)).inputs["anatomy"]
    assert sent.array_kji.dtype == np.int16
    assert np.array_equal(sent.grid.ijk_to_ras, straight())
    assert np.array_equal(sent.array_kji[3, 7, :39], -600 + 20 * np.arange(39))
    assert np.all(sent.array_kji[:, :, 45:] == AIR_HU)
    ready.parameters.anatomy.SetAndObserveTransformNodeID(shifted(world, -3.0, 0.0, 0.0).GetID())
    assert ready.export(("anatomy",)).inputs["anatomy"].array_kji[3, 7, 10] == -600 + 20 * 8
    ready.parameters.anatomy.SetAndObserveTransformNodeID(shifted(world, 0.0, 0.0, 900.0).GetID())
    with pytest.raises(NotReady, match="Map lies outside Chest CT"):
        ready.export(("anatomy",))


def test_an_anatomy_map_has_hu(ready: LesionBrushLogic, world: World) -> None:
    ready.parameters.anatomy = world.volume(np.full((4, 4, 4), 0.5, np.float32), straight(), "Map")
    with pytest.raises(NotACT, match="Map has no value below 0"):
        ready.export(("anatomy",))


@pytest.fixture
def other(world: World) -> tuple[Any, np.ndarray]:
    """Another case, on a grid of its own, and where its lesion is."""
    hu = np.full(SMALL, LUNG_HU, np.int16)
    mask = np.zeros(SMALL, bool)
    mask[4:8, 10:15, 11:18] = True
    hu[mask] = 20
    return world.volume(hu, oblique() @ np.diag((0.7, 0.7, 0.9, 1.0)), "Other case"), mask


@pytest.mark.parametrize("kind", ["segment", "labels"])
def test_another_case_comes_with_its_lesion_on_its_own_grid(
    ready: LesionBrushLogic, world: World, other: tuple[Any, np.ndarray], kind: str
) -> None:
    volume, mask = other
    grid = oblique() @ np.diag((0.7, 0.7, 0.9, 1.0))
    painted = segmentation(world, volume, lesion=mask, empty=None)
    ready.parameters.pathology = volume
    ready.parameters.pathology_mask = painted if kind == "segment" else label_volume(world, mask, grid)
    sent = ready.export(KNOWN)
    assert np.array_equal(sent.inputs["pathology_mask"].array_kji > 0, mask)
    for steering in sent.inputs.values():
        assert np.allclose(steering.grid.ijk_to_ras, grid)
    upload = sent.uploads()["pathology"]
    assert voxel_sha256(nifti_voxels(upload.source, SMALL[::-1])) == voxel_sha256(array_of(volume).T)
    box = gzip.decompress(sent.uploads()["pathology_mask"].source)
    assert len(box) == 352 + np.count_nonzero(mask)


def test_half_of_a_pair_is_missing_the_other_half(
    ready: LesionBrushLogic, world: World, other: tuple[Any, np.ndarray]
) -> None:
    volume, mask = other
    ready.parameters.model = "mddpm"
    assert ready.ready(KNOWN) == []
    ready.parameters.pathology = volume
    assert ready.ready() == ready.ready(("anatomy",)) == []
    (lacking,) = ready.ready(KNOWN)
    assert "choose the lesion in the pathology CT" in lacking
    with pytest.raises(NotReady, match="choose the lesion in the pathology CT"):
        ready.export(KNOWN)
    ready.parameters.pathology, ready.parameters.pathology_mask = None, segmentation(world, volume, a=mask)
    (lacking,) = ready.ready(KNOWN)
    assert "choose the CT of the pathology mask" in lacking
    ready.parameters.pathology = volume
    assert ready.ready(KNOWN) == []


def test_two_lesions_of_the_other_case_are_one_too_many(
    ready: LesionBrushLogic, world: World, other: tuple[Any, np.ndarray]
) -> None:
    volume, mask = other
    ready.parameters.pathology = volume
    ready.parameters.pathology_mask = segmentation(world, volume, a=mask, b=np.roll(mask, 9, 2))
    with pytest.raises(NotReady, match="Segmentation holds 2 lesions: hide"):
        ready.export(KNOWN)
    ready.parameters.pathology_mask.GetDisplayNode().SetSegmentVisibility("b", False)
    assert np.array_equal(ready.export(KNOWN).inputs["pathology_mask"].array_kji > 0, mask)
    two = mask + 2 * np.roll(mask, 9, 2).astype(np.uint8)
    ready.parameters.pathology_mask = label_volume(world, two, oblique())
    with pytest.raises(NotReady, match="Labels holds 2 lesions"):
        ready.export(KNOWN)
    ready.parameters.pathology_mask = label_volume(world, 0 * two, oblique())
    with pytest.raises(EmptyMask, match="Labels is empty"):
        ready.export(KNOWN)


def test_a_deleted_volume_is_no_longer_chosen(ready: LesionBrushLogic, world: World) -> None:
    ready.parameters.anatomy = world.volume(chest(), straight(), "Map")
    world.scene.RemoveNode(ready.parameters.anatomy)
    assert ready.parameters.anatomy is None
    assert ready.export(KNOWN).uploads() == {}


def test_a_node_without_voxels_is_named(ready: LesionBrushLogic, world: World) -> None:
    for name, kind in (("anatomy", "vtkMRMLScalarVolumeNode"), ("lungs", "vtkMRMLLabelMapVolumeNode")):
        setattr(ready.parameters, name, world.scene.AddNewNodeByClass(kind, "Hollow"))
        with pytest.raises((NotReady, NotACT), match="Hollow"):
            ready.export((name,))


def test_a_scene_keeps_them(ready: LesionBrushLogic, world: World, ct: Any) -> None:
    from LesionBrushLib.logic.parameters import Parameters

    ready.parameters.anatomy = ready.parameters.pathology = ct
    again = Parameters(slicer.mrmlScene)
    assert again.anatomy is again.pathology is ct
    assert again.lungs is again.pathology_mask is None
