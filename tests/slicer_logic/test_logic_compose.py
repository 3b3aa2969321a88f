"""Results in the scene: the right voxels, under the right CT, and nothing of the user's touched."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lesionbrush.files.io import read_volume
from LesionBrushLib.logic import LesionBrushLogic
from LesionBrushLib.logic.compose import REFERENCE_ROLE, provenance_of
from LesionBrushLib.logic.problems import BrokenBox, CannotSave, NoSuchVariant, NotReady, OtherReference
from logic_kit import LESION_HU, answer, chest, oblique, offered, straight
from mrml_kit import World, array_of

pytest_plugins = "logic_fixtures"


def synthetics(world: World, ct: Any) -> list[str]:
    """Names of what was made from a CT."""
    return [node.GetName() for node in offered(world) if node.GetNodeReference(REFERENCE_ROLE) is ct]


def test_it_is_the_ct_with_the_lesion_and_nothing_else(ct: Any, lesion: np.ndarray, synthetic: Any) -> None:
    expected = chest()
    expected[lesion] = LESION_HU
    assert np.array_equal(array_of(synthetic), expected)
    assert np.array_equal(array_of(ct), chest())
    assert array_of(synthetic).dtype == np.int16


def test_name_mark_record_and_place(world: World, ct: Any, synthetic: Any) -> None:
    assert synthetic.GetName() == "SYNTHETIC lung_lesion seed 7"
    assert provenance_of(synthetic) == {"model": "lung_lesion", "seed": 7}
    assert synthetic.GetNodeReference("LesionBrush.reference") is ct
    tree = world.nodes("vtkMRMLSubjectHierarchyNode")[0]
    item = tree.GetItemByDataNode(synthetic)
    assert tree.GetItemDataNode(tree.GetItemParent(item)) is ct


@pytest.mark.parametrize("stored", ["int16", "float64"])
def test_it_lies_on_the_grid_and_under_the_transform_of_the_ct(
    world: World, logic: LesionBrushLogic, stored: str
) -> None:
    import vtk

    transform = world.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "T")
    volume = world.volume(chest().astype(stored), oblique())
    volume.SetAndObserveTransformNodeID(transform.GetID())
    logic.parameters.reference = volume
    node = logic.receive(*answer(volume, chest() == 0, 5)).node
    own, reference = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(own)
    volume.GetIJKToRASMatrix(reference)
    assert [own.GetElement(r, c) for r in range(4) for c in range(4)] == [
        reference.GetElement(r, c) for r in range(4) for c in range(4)
    ]
    assert node.GetTransformNodeID() == transform.GetID()
    assert np.array_equal(array_of(node)[chest() != 0], chest()[chest() != 0])


def test_another_ct_is_refused_and_the_last_result_stays(
    world: World, logic: LesionBrushLogic, ct: Any, lesion: np.ndarray, synthetic: Any
) -> None:
    other = world.volume(chest() + 1, straight(), "Other CT")
    last, nodes = logic.variants, world.scene.GetNumberOfNodes()
    with pytest.raises(OtherReference, match="Other CT is not the CT"):
        logic.receive(*answer(ct, lesion, 99), reference=other)
    assert logic.variants is last
    assert logic.parameters.synthetic is synthetic
    assert world.scene.GetNumberOfNodes() == nodes


def test_a_ct_changed_in_one_voxel_is_refused(logic: LesionBrushLogic, ct: Any, lesion: np.ndarray) -> None:
    boxes, records = answer(ct, lesion, 99)
    array_of(ct)[0, 0, 0] += 1
    with pytest.raises(OtherReference, match="changed"):
        logic.receive(boxes, records)


@pytest.mark.parametrize("offset", [(-1, 0, 0), (0, 0, 31), (95, 0, 0)])
def test_a_box_beyond_the_ct_is_refused(
    logic: LesionBrushLogic, ct: Any, lesion: np.ndarray, offset: tuple[int, int, int]
) -> None:
    boxes, records = answer(ct, lesion, 99)
    with pytest.raises(BrokenBox, match="does not fit"):
        logic.receive([replace(boxes[0], offset=offset)], records)


def test_an_answer_without_results_or_of_another_type_is_refused(
    logic: LesionBrushLogic, ct: Any, lesion: np.ndarray
) -> None:
    boxes, records = answer(ct, lesion, 99)
    with pytest.raises(BrokenBox, match="0 results"):
        logic.receive([], [])
    with pytest.raises(BrokenBox, match="1 results and 0 records"):
        logic.receive(boxes, [])
    with pytest.raises(BrokenBox, match="float32"):
        logic.receive([replace(boxes[0], array=boxes[0].array.astype(np.float32))], records)


def test_variants_share_one_volume(
    world: World, logic: LesionBrushLogic, ct: Any, lesion: np.ndarray
) -> None:
    values = (60, 300, -200)
    logic.receive(*answer(ct, lesion, *values))
    for index in (0, 1, 2, 1, 0):
        logic.show(index)
        assert set(np.unique(array_of(logic.variants.node)[lesion])) == {values[index]}
        assert np.array_equal(array_of(logic.variants.node)[~lesion], chest()[~lesion])
        assert synthetics(world, ct) == [f"SYNTHETIC lung_lesion seed {7 + index}"]


def test_boxes_in_different_places_do_not_leave_traces(
    logic: LesionBrushLogic, ct: Any, lesion: np.ndarray
) -> None:
    elsewhere = np.roll(lesion, -40, 2)
    first, second = answer(ct, lesion, 60), answer(ct, elsewhere, 300)
    logic.receive(first[0] + second[0], first[1] + second[1])
    logic.next()
    expected = chest()
    expected[elsewhere] = 300
    assert np.array_equal(array_of(logic.variants.node), expected)


def test_next_and_previous_go_round_and_skip_what_was_discarded(
    logic: LesionBrushLogic, ct: Any, lesion: np.ndarray
) -> None:
    logic.receive(*answer(ct, lesion, 1, 2, 3))
    logic.previous()
    assert logic.variants.index == 2
    assert logic.variants.current.title == "variant 3 of 3, seed 9"
    logic.discard(2)
    assert logic.variants.index == 0
    assert logic.variants.left == [0, 1]
    logic.previous()
    assert logic.variants.index == 1
    with pytest.raises(NoSuchVariant, match="variant 3 was discarded"):
        logic.show(2)
    with pytest.raises(NoSuchVariant, match="no variant 9"):
        logic.show(8)


def test_the_last_one_discarded_takes_its_volume_along(
    world: World, logic: LesionBrushLogic, ct: Any, lesion: np.ndarray
) -> None:
    logic.receive(*answer(ct, lesion, 1))
    logic.discard(0)
    assert synthetics(world, ct) == []
    assert logic.parameters.synthetic is None
    assert logic.parameters.segmentation is not None
    with pytest.raises(NoSuchVariant, match="all variants were discarded"):
        logic.next()


def test_an_accepted_variant_stays_when_others_and_new_answers_come(
    world: World, logic: LesionBrushLogic, ct: Any, lesion: np.ndarray
) -> None:
    logic.receive(*answer(ct, lesion, 1, 2))
    kept = logic.accepted(0, "case-17")
    assert logic.variants[0].state == "accepted"
    assert logic.variants[0].image_id == "case-17"
    logic.next()
    assert set(np.unique(array_of(kept)[lesion])) == {1}
    assert set(np.unique(array_of(logic.variants.node)[lesion])) == {2}
    assert len(synthetics(world, ct)) == 2
    logic.show(0)
    assert logic.variants.node is kept
    logic.receive(*answer(ct, lesion, 3))
    assert len(synthetics(world, ct)) == 2
    assert kept.GetScene() is not None


@pytest.mark.parametrize("name", ["out.nii.gz", "out.nii", "out.nrrd", "out.mha"])
def test_saved_files_are_exact_and_carry_their_record(
    logic: LesionBrushLogic, synthetic: Any, tmp_path: Path, name: str
) -> None:
    volume, record = logic.save(0, tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted((name, "out.provenance.json"))
    assert json.loads(record.read_text())["seed"] == 7
    read = read_volume(volume)
    assert np.array_equal(read.array.T, array_of(synthetic))
    assert np.allclose(read.affine, straight(), atol=1e-4)
    assert logic.variants[0].state == "saved"
    assert synthetic.GetStorageNode() is None  # saving the scene still asks the user where to


@pytest.mark.parametrize(("name", "says"), [("x.png", "unknown file type"), ("no/where/x.nii", "no folder")])
def test_a_file_that_cannot_be_written_leaves_nothing(
    logic: LesionBrushLogic, synthetic: Any, tmp_path: Path, name: str, says: str
) -> None:
    with pytest.raises(CannotSave, match=says):
        logic.save(0, tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    assert logic.variants[0].state == "new"


def test_a_deleted_volume_comes_back_when_its_variant_is_shown(
    world: World, logic: LesionBrushLogic, synthetic: Any, lesion: np.ndarray
) -> None:
    world.scene.RemoveNode(synthetic)
    assert logic.parameters.synthetic is None
    logic.show(1)
    assert set(np.unique(array_of(logic.variants.node)[lesion])) == {300}
    assert np.array_equal(array_of(logic.variants.node)[~lesion], chest()[~lesion])


def test_thumbnails_show_the_lesion_bright_in_the_middle(logic: LesionBrushLogic, synthetic: Any) -> None:
    picture = logic.variants.thumbnail(0, 64)
    assert picture.shape == (64, 64, 3)
    assert picture.dtype == np.uint8
    assert picture.flags.c_contiguous
    bright = round((LESION_HU + 600 + 750) / 1500 * 255)
    assert abs(int(picture[32, 32, 0]) - bright) <= 1
    assert picture[32, 3, 0] < 110  # lung beside it


def test_what_is_missing_is_said(world: World, logic: LesionBrushLogic) -> None:
    assert logic.ready()[0] == "choose a CT"
    assert offered(world) == []
    logic.parameters.reference = world.volume(chest(), straight())
    logic.ensure_segmentation()
    assert "the chosen segment is empty: paint a lesion, or propose one" in logic.ready()
    logic.parameters.model = "lung_lesion"
    logic.propose(10.0, 1, ras_mm=(-30.0, 0.0, 0.0))
    assert logic.ready() == []
    with pytest.raises(NoSuchVariant, match="no result yet"):
        logic.next()
    logic.parameters.segmentation = None
    with pytest.raises(NotReady, match="paint a lesion"):
        logic.export()
