"""Volumes beside CT and mask, from nodes of a scene to what is sent: each on the grid it belongs to."""

from __future__ import annotations

import gzip
from typing import Any

import numpy as np
import pytest
import slicer
import vtk
from LesionBrushLib.client.answers import ModelFacts, Take
from LesionBrushLib.client.boxes import voxel_sha256
from LesionBrushLib.client.inputs import Layout
from LesionBrushLib.client.nifti import read_nifti
from LesionBrushLib.logic import LesionBrushLogic
from LesionBrushLib.logic.problems import EmptyMask, NotACT, NotReady
from LesionBrushLib.logic.steering import AIR_HU, Steering
from logic_kit import LUNG_HU, ball, chest, oblique, straight
from mrml_kit import World, array_of, paint

pytest_plugins = "logic_fixtures"
NAMES = ("lungs", "anatomy", "pathology", "pathology_mask")
SMALL = (12, 30, 34)
RIGHT, LEFT = ball(8, (-30.0, 0.0, 0.0)), ball(8, (30.0, 0.0, 0.0))


def takes(*names: str) -> tuple[Take, ...]:
    """Of a server that says no more than names."""
    return ModelFacts("a model", {"inputs": names}, {}).takes


KNOWN = takes(*NAMES)


def choose(logic: LesionBrushLogic, **nodes: Any) -> None:
    for name, node in nodes.items():
        logic.parameters.choose_input(name, node)


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
    choose(ready, anatomy=ct, lungs=segmentation(world, ct, lung=LEFT))
    assert ready.export().uploads() == {}
    assert set(ready.export(takes("anatomy")).uploads()) == {"anatomy"}
    assert set(ready.export(takes("lungs", "anatomy", "from the future")).uploads()) == {"lungs", "anatomy"}
    assert ready.export(KNOWN).voxels == ready.export().voxels


def test_lungs_are_all_segments_that_say_so(ready: LesionBrushLogic, world: World, ct: Any) -> None:
    trachea = ball(4, (0.0, -20.0, 0.0))
    some = segmentation(world, ct, right_lung=RIGHT, Left_Lung=LEFT, trachea=trachea, lung_of_nobody=None)
    choose(ready, lungs=some)
    assert np.array_equal(ready.export(takes("lungs")).inputs["lungs"].array_kji > 0, RIGHT | LEFT)
    choose(ready, lungs=segmentation(world, ct, one=RIGHT, two=LEFT))
    assert np.array_equal(ready.export(takes("lungs")).inputs["lungs"].array_kji > 0, RIGHT | LEFT)
    ready.parameters.input_node("lungs").GetDisplayNode().SetSegmentVisibility("two", False)
    assert np.array_equal(ready.export(takes("lungs")).inputs["lungs"].array_kji > 0, RIGHT)
    ready.parameters.input_node("lungs").GetDisplayNode().SetSegmentVisibility("one", False)
    with pytest.raises(EmptyMask, match="Segmentation is empty, or all of it is hidden"):
        ready.export(takes("lungs"))


def test_lungs_of_a_label_volume_have_any_label(ready: LesionBrushLogic, world: World) -> None:
    choose(ready, lungs=label_volume(world, RIGHT + 2 * LEFT.astype(np.uint8), straight()))
    sent = ready.export(takes("lungs"))
    assert np.array_equal(sent.inputs["lungs"].array_kji > 0, RIGHT | LEFT)
    upload = sent.uploads()["lungs"]
    assert upload.format == "nii.gz"
    assert len(upload.source) < 20_000


def test_a_label_volume_on_another_grid_is_put_on_the_ct(ready: LesionBrushLogic, world: World) -> None:
    fine = np.repeat(np.repeat(np.repeat(LEFT, 2, 0), 2, 1), 2, 2)
    scale = np.diag((0.5, 0.5, 0.5, 1.0))
    scale[:3, 3] = -0.25
    choose(ready, lungs=label_volume(world, fine, straight() @ scale))
    assert np.array_equal(ready.export(takes("lungs")).inputs["lungs"].array_kji > 0, LEFT)
    ready.parameters.input_node("lungs").SetAndObserveTransformNodeID(shifted(world, 0.0, 0.0, 5.0).GetID())
    assert np.array_equal(ready.export(takes("lungs")).inputs["lungs"].array_kji > 0, np.roll(LEFT, 2, 0))
    ready.parameters.input_node("lungs").SetAndObserveTransformNodeID(shifted(world, 0.0, 0.0, 900.0).GetID())
    with pytest.raises(EmptyMask, match="Labels lies outside Chest CT"):
        ready.export(takes("lungs"))


def test_an_anatomy_map_on_the_grid_of_the_ct_is_sent_bit_by_bit(
    ready: LesionBrushLogic, world: World
) -> None:
    choose(ready, anatomy=world.volume(chest() // 2, straight(), "Map"))
    upload = ready.export(takes("anatomy")).uploads()["anatomy"]
    assert np.array_equal(read_nifti(upload.source)[0].T, chest() // 2)


def test_a_coarser_anatomy_map_is_interpolated(ready: LesionBrushLogic, world: World, ct: Any) -> None:
    """A ramp is met exactly where it is; beyond it lies air."""
    ramp = np.broadcast_to(-600 + 40 * np.arange(20), (*SMALL[:2], 20)).astype(np.int16)
    coarse = straight() @ np.diag((2.0, 2.0, 2.0, 1.0))
    choose(ready, anatomy=world.volume(ramp, coarse, "Map"))
    sent = ready.export(takes("anatomy")).inputs["anatomy"]
    assert sent.array_kji.dtype == np.int16
    assert np.array_equal(sent.grid.ijk_to_ras, straight())
    assert np.array_equal(sent.array_kji[3, 7, :39], -600 + 20 * np.arange(39))
    assert np.all(sent.array_kji[:, :, 45:] == AIR_HU)
    ready.parameters.input_node("anatomy").SetAndObserveTransformNodeID(
        shifted(world, -3.0, 0.0, 0.0).GetID()
    )
    assert ready.export(takes("anatomy")).inputs["anatomy"].array_kji[3, 7, 10] == -600 + 20 * 8
    ready.parameters.input_node("anatomy").SetAndObserveTransformNodeID(
        shifted(world, 0.0, 0.0, 900.0).GetID()
    )
    with pytest.raises(NotReady, match="Map lies outside Chest CT"):
        ready.export(takes("anatomy"))


def test_an_anatomy_map_has_hu(ready: LesionBrushLogic, world: World) -> None:
    choose(ready, anatomy=world.volume(np.full((4, 4, 4), 0.5, np.float32), straight(), "Map"))
    with pytest.raises(NotACT, match="Map has no value below 0"):
        ready.export(takes("anatomy"))


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
    choose(ready, pathology=volume)
    choose(ready, pathology_mask=painted if kind == "segment" else label_volume(world, mask, grid))
    sent = ready.export(KNOWN)
    assert np.array_equal(sent.inputs["pathology_mask"].array_kji > 0, mask)
    for steering in sent.inputs.values():
        assert np.allclose(steering.grid.ijk_to_ras, grid)
    upload = sent.uploads()["pathology"]
    assert voxel_sha256(read_nifti(upload.source)[0]) == voxel_sha256(array_of(volume).T)
    box = gzip.decompress(sent.uploads()["pathology_mask"].source)
    assert len(box) == 352 + np.count_nonzero(mask)


def test_half_of_a_pair_is_missing_the_other_half(
    ready: LesionBrushLogic, world: World, other: tuple[Any, np.ndarray]
) -> None:
    volume, mask = other
    ready.parameters.model = "mddpm"
    assert ready.ready(KNOWN) == []
    choose(ready, pathology=volume)
    assert ready.ready() == ready.ready(takes("anatomy")) == []
    (lacking,) = ready.ready(KNOWN)
    assert (
        lacking
        == "choose Pathology mask as well (the lesion in the CT of that other case), or none as Pathology"
    )
    with pytest.raises(NotReady, match="choose Pathology mask as well"):
        ready.export(KNOWN)
    choose(ready, pathology=None, pathology_mask=segmentation(world, volume, a=mask))
    (lacking,) = ready.ready(KNOWN)
    assert "choose Pathology as well (the CT of another case" in lacking
    choose(ready, pathology=volume)
    assert ready.ready(KNOWN) == []


def test_two_lesions_of_the_other_case_are_one_too_many(
    ready: LesionBrushLogic, world: World, other: tuple[Any, np.ndarray]
) -> None:
    volume, mask = other
    choose(ready, pathology=volume)
    choose(ready, pathology_mask=segmentation(world, volume, a=mask, b=np.roll(mask, 9, 2)))
    with pytest.raises(NotReady, match="Segmentation holds 2 lesions: hide"):
        ready.export(KNOWN)
    ready.parameters.input_node("pathology_mask").GetDisplayNode().SetSegmentVisibility("b", False)
    assert np.array_equal(ready.export(KNOWN).inputs["pathology_mask"].array_kji > 0, mask)
    two = mask + 2 * np.roll(mask, 9, 2).astype(np.uint8)
    choose(ready, pathology_mask=label_volume(world, two, oblique()))
    with pytest.raises(NotReady, match="Labels holds 2 lesions"):
        ready.export(KNOWN)
    choose(ready, pathology_mask=label_volume(world, 0 * two, oblique()))
    with pytest.raises(EmptyMask, match="Labels is empty"):
        ready.export(KNOWN)


def test_a_deleted_volume_is_no_longer_chosen(ready: LesionBrushLogic, world: World) -> None:
    choose(ready, anatomy=world.volume(chest(), straight(), "Map"))
    world.scene.RemoveNode(ready.parameters.input_node("anatomy"))
    assert ready.parameters.input_node("anatomy") is None
    assert ready.export(KNOWN).uploads() == {}


def test_a_node_without_voxels_is_named(ready: LesionBrushLogic, world: World) -> None:
    for name, kind in (("anatomy", "vtkMRMLScalarVolumeNode"), ("lungs", "vtkMRMLLabelMapVolumeNode")):
        choose(ready, **{name: world.scene.AddNewNodeByClass(kind, "Hollow")})
        with pytest.raises((NotReady, NotACT), match="Hollow"):
            ready.export(takes(name))


def test_a_scene_keeps_them(ready: LesionBrushLogic, world: World, ct: Any) -> None:
    from LesionBrushLib.logic.parameters import Parameters

    choose(ready, anatomy=ct, pathology=ct)
    again = Parameters(slicer.mrmlScene)
    assert again.input_node("anatomy") is again.input_node("pathology") is ct
    assert again.input_node("lungs") is again.input_node("pathology_mask") is None


def test_scenes_from_before_inputs_had_names_of_their_own_still_open(world: World, ct: Any) -> None:
    from LesionBrushLib.logic.parameters import Parameters

    node = Parameters(world.scene).node
    for name in NAMES:
        node.SetNodeReferenceID(f"LesionBrush.{name}", ct.GetID())
    again = Parameters(world.scene)
    assert all(again.input_node(name) is ct for name in NAMES)
    again.choose_input("lungs", None)
    assert Parameters(world.scene).input_node("lungs") is None


ORGANS = Take("organs", "layout", "organs by their names")


def named_labels(world: World, labels: np.ndarray, ijk_to_ras: np.ndarray, **names: int) -> Any:
    """A label volume whose colors have names."""
    node = label_volume(world, labels, ijk_to_ras)
    colours = world.scene.AddNewNodeByClass("vtkMRMLColorTableNode", "Names")
    colours.SetTypeToUser()
    colours.SetNumberOfColors(4)
    for name, label in names.items():
        colours.SetColor(label, name, 1.0, 0.0, 0.0, 1.0)
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetAndObserveColorNodeID(colours.GetID())
    return node


def exported_layout(logic: LesionBrushLogic, take: Take = ORGANS) -> Steering:
    found = logic.export((take,)).inputs[take.name]
    assert isinstance(found, Steering)
    return found


def test_a_layout_is_all_segments_by_their_names(ready: LesionBrushLogic, world: World, ct: Any) -> None:
    """Hidden ones too; the later one where two overlap; on the grid of the CT, and not cut."""
    inner = ball(4, (30.0, 0.0, 0.0))
    node = segmentation(world, ct, right_lung=RIGHT, nothing=None, left_lung=LEFT, nodule=inner)
    node.GetDisplayNode().SetSegmentVisibility("right_lung", False)
    choose(ready, organs=node)
    sent = exported_layout(ready)
    assert sent.names == {1: "right lung", 3: "left lung", 4: "nodule"}
    assert np.array_equal(sent.array_kji == 1, RIGHT)
    assert np.array_equal(sent.array_kji == 4, inner)
    assert np.array_equal(sent.array_kji == 3, LEFT & ~inner)
    upload = ready.export((ORGANS,)).uploads()["organs"]
    assert isinstance(upload, Layout)
    assert upload.names == sent.names
    voxels, affine = read_nifti(upload.labels.source)
    assert np.array_equal(voxels.T, sent.array_kji)
    assert np.allclose(affine, straight(), atol=1e-4)


def test_a_layout_of_labels_has_the_names_of_its_colors(ready: LesionBrushLogic, world: World) -> None:
    labels = RIGHT + 3 * LEFT.astype(np.uint8)
    choose(ready, organs=named_labels(world, labels, straight(), liver=1, spleen=3))
    sent = exported_layout(ready)
    assert sent.names == {1: "liver", 3: "spleen"}
    assert np.array_equal(sent.array_kji, labels)
    choose(ready, organs=named_labels(world, labels, straight(), liver=1))
    with pytest.raises(NotReady, match="label 3 of Labels has no name, and names decide"):
        exported_layout(ready)
    choose(ready, organs=label_volume(world, labels, straight()))
    with pytest.raises(NotReady, match="label 1 of Labels has no name"):
        exported_layout(ready)
    choose(ready, organs=named_labels(world, 0 * labels, straight(), liver=1))
    with pytest.raises(EmptyMask, match="Labels is empty, or lies outside Chest CT"):
        exported_layout(ready)


def test_a_layout_on_another_grid_keeps_its_labels(ready: LesionBrushLogic, world: World) -> None:
    """The nearest label counts; none is made up between two."""
    labels = np.repeat(np.repeat(np.repeat(RIGHT + 3 * LEFT.astype(np.uint8), 2, 0), 2, 1), 2, 2)
    scale = np.diag((0.5, 0.5, 0.5, 1.0))
    scale[:3, 3] = -0.25
    choose(ready, organs=named_labels(world, labels, straight() @ scale, liver=1, spleen=3))
    sent = exported_layout(ready)
    assert set(np.unique(sent.array_kji)) == {0, 1, 3}
    assert np.array_equal(sent.array_kji == 3, LEFT)


def test_without_a_ct_each_lies_on_its_own_grid(ready: LesionBrushLogic, world: World, ct: Any) -> None:
    """As a segmentation file does, whose CT is not here; also what would belong to the grid of the CT."""
    grid = oblique()
    volume = world.volume(chest(), grid, "Gone")
    layout = segmentation(world, volume, liver=RIGHT)
    world.scene.RemoveNode(volume)
    labels = label_volume(world, LEFT, grid)
    choose(ready, organs=layout, body=labels, lungs=layout, prior=ct)
    wanted = (ORGANS, Take("body", "mask"), Take("lungs", "mask"), Take("prior", "volume"))
    sent = ready.export_inputs(wanted).inputs
    for name in ("organs", "body", "lungs"):
        assert np.allclose(sent[name].grid.ijk_to_ras, grid, atol=1e-6), name
    assert np.array_equal(sent["organs"].array_kji > 0, RIGHT)
    assert np.array_equal(sent["body"].array_kji > 0, LEFT)
    assert np.allclose(sent["prior"].grid.ijk_to_ras, straight())
    order = ready.export_inputs(wanted).order("a model", {"seed": 1})
    assert (order.mask, order.reference, set(order.inputs)) == (None, None, set(sent))


def test_a_segmentation_of_no_grid_is_named(ready: LesionBrushLogic, world: World) -> None:
    node = world.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Surfaces")
    choose(ready, organs=node)
    with pytest.raises(NotReady, match="Surfaces has no grid: choose a segmentation made on a CT"):
        ready.export_inputs((ORGANS,))


def test_a_mask_may_lie_on_a_layout(ready: LesionBrushLogic, world: World) -> None:
    """On the grid of another input, whatever that is; one lesion alone."""
    volume = world.volume(chest(), oblique(), "Other")
    choose(ready, organs=segmentation(world, volume, liver=RIGHT), spot=label_volume(world, LEFT, oblique()))
    spot = Take("spot", "mask", "a spot in the organs", on="organs")
    sent = ready.export((ORGANS, spot)).inputs["spot"]
    assert np.allclose(sent.grid.ijk_to_ras, oblique(), atol=1e-6)
    assert np.array_equal(sent.array_kji > 0, LEFT)
    choose(ready, spot=label_volume(world, LEFT + 2 * RIGHT.astype(np.uint8), oblique()))
    with pytest.raises(NotReady, match="Labels holds 2 lesions"):
        ready.export((ORGANS, spot))


def test_a_text_is_sent_as_it_was_written(ready: LesionBrushLogic) -> None:
    report = Take("report", "text", "what is seen", required=True)
    ready.parameters.model = "a model"
    assert ready.ready((report,)) == ["write Report: what is seen"]
    ready.parameters.texts = {"report": "  ", "other": "words"}
    with pytest.raises(NotReady, match="write Report"):
        ready.export((report,))
    ready.parameters.texts = {"report": "A nodule\nof 9 mm."}
    assert ready.ready((report,)) == []
    assert ready.export((report,)).uploads() == {"report": "A nodule\nof 9 mm."}


def test_what_is_required_has_to_be_chosen(ready: LesionBrushLogic, ct: Any) -> None:
    prior = Take("earlier_ct", "volume", "the CT of a year ago", required=True)
    assert ready.ready((prior,), whole=True) == ["choose Earlier ct: the CT of a year ago"]
    with pytest.raises(NotReady, match="choose Earlier ct"):
        ready.export_inputs((prior,))
    choose(ready, earlier_ct=ct)
    assert ready.ready((prior,), whole=True) == []
