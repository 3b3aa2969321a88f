"""Volumes that steer a model, from nodes of a scene to a real server and its record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from job_server import TOKEN, Process
from LesionBrushLib.client import JobClient, voxel_sha256
from LesionBrushLib.logic import LesionBrushLogic
from logic_kit import ball, chest, oblique, straight
from lung_ddpm_kit import install_layout_model
from mrml_kit import World, array_of, paint
from server_kit import make_model, stop

pytest_plugins = "logic_fixtures"
pytestmark = pytest.mark.server
FINE = np.diag((0.7, 0.7, 0.9, 1.0))


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    root = tmp_path_factory.mktemp("steering")
    for name in ("studies", "scratch", "models"):
        (root / name).mkdir()
    make_model(root / "models", system="steered")
    install_layout_model(root / "models", "lung_ddpm")
    server = Process(root, root / "models")
    server.start()
    yield server
    stop(server.running)


def segmentation(world: World, volume: Any, **masks: np.ndarray) -> Any:
    node = world.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Segmentation")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for name, mask in masks.items():
        paint(world, node, node.GetSegmentation().AddEmptySegment(name, name), mask, volume)
    return node


def test_tilted_scans_reach_the_server_voxel_by_voxel(
    world: World, logic: LesionBrushLogic, process: Process
) -> None:
    """CT and lungs on a tilted grid, the map on a straight one, another case on a third."""
    ct, other = world.volume(chest(), oblique()), world.volume(chest(), oblique() @ FINE, "Other")
    chosen = logic.parameters
    chosen.reference, chosen.model = ct, "tiny"
    paint(world, logic.ensure_segmentation(), chosen.segment_id, ball(), ct)
    chosen.choose_input(
        "lungs", segmentation(world, ct, left_lung=ball(20), right_lung=ball(20, (-30.0, 0.0, 0.0)))
    )
    chosen.choose_input("anatomy", world.volume(chest(), straight(), "Map"))
    chosen.choose_input("pathology", other)
    chosen.choose_input("pathology_mask", segmentation(world, other, lesion=ball(6)))
    client = JobClient(process.url, TOKEN)
    sent = logic.export(client.models()["tiny"].takes)
    outcome = client.synthesize(sent.order("tiny", {"steps": 2}))
    hashes = outcome.provenances[0]["inputs_sha256"]
    assert set(hashes) == {"lungs", "anatomy", "pathology", "pathology_mask"}
    for name, steering in sent.inputs.items():
        voxels = steering.array_kji
        if voxels.dtype == np.uint8:  # masks are cut to what is in them
            ends = [(at.min(), at.max() + 1) for at in np.nonzero(voxels)]
            voxels = voxels[tuple(slice(*end) for end in ends)]
        assert hashes[name] == voxel_sha256(np.asfortranarray(voxels.T)), name
    made = logic.receive(outcome.boxes, outcome.provenances, ct, sent.lesion_ijk)
    changed = array_of(made.node) != array_of(ct)
    assert 0 < np.count_nonzero(changed & ball()) <= np.count_nonzero(ball())
    assert not changed[~ball(9 + 6)].any()


def test_both_lungs_come_back_changed(world: World, logic: LesionBrushLogic, process: Process) -> None:
    """A box around both lungs goes into the CT, and nothing but lungs and lesion is other than before."""
    ct = world.volume(chest(), oblique())
    chosen = logic.parameters
    chosen.reference, chosen.model = ct, "lung_ddpm"
    paint(world, logic.ensure_segmentation(), chosen.segment_id, ball(), ct)
    lungs = ball(22) | ball(22, (-30.0, 0.0, 0.0))
    chosen.choose_input("lungs", segmentation(world, ct, lungs=lungs))
    client = JobClient(process.url, TOKEN)
    sent = logic.export(client.models()["lung_ddpm"].takes)
    outcome = client.synthesize(sent.order("lung_ddpm", {"steps": 2, "region": "lungs"}))
    made = logic.receive(outcome.boxes, outcome.provenances, ct, sent.lesion_ijk)
    changed = array_of(made.node) != array_of(ct)
    assert np.count_nonzero(changed) == outcome.provenances[0]["voxels_changed"]
    assert np.count_nonzero(changed & lungs) > 0.5 * np.count_nonzero(lungs)
    assert not changed[~(lungs | ball(9 + 3 + 1.5))].any()
    assert outcome.boxes[0].array.size > 0.1 * changed.size
    assert made.thumbnail(0).std() > 5
    assert np.array_equal(array_of(ct), chest())
