"""A whole new CT from a real server into a scene, a lesion painted into it, and what the records say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from job_server import TOKEN, Process
from LesionBrushLib.client import Client, JobClient, Layout, Order, ServerError, WrongInput, labels_upload
from LesionBrushLib.logic import LesionBrushLogic
from LesionBrushLib.logic.masks import segment_mask
from LesionBrushLib.logic.whole import labels_of
from mrml_kit import World, array_of, paint
from server_kit import make_model, make_noise_model, stop

pytest_plugins = "logic_fixtures"
pytestmark = pytest.mark.server
SHAPE = (40, 36, 24)
AFFINE = np.diag((1.5, 1.5, 2.5, 1.0))


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    root = tmp_path_factory.mktemp("whole")
    for name in ("studies", "scratch", "models"):
        (root / name).mkdir()
    make_model(root / "models")
    make_noise_model(root / "models")
    server = Process(root, root / "models")
    server.start()
    yield server
    stop(server.running)


@pytest.fixture
def client(process: Process) -> JobClient:
    return JobClient(process.url, TOKEN)


def wanted(**params: object) -> Order:
    """On a grid that the layout gives."""
    tissues = Layout(labels_upload(np.ones(SHAPE, np.uint8, order="F"), AFFINE), {1: "soft tissue"})
    inputs = {"tissues": tissues, "report": "a nodule of 9 mm"}
    return Order("noise", params={"seed": 3, **params}, inputs=inputs)


def test_a_lesion_in_a_generated_ct_stays_generated(
    client: JobClient, logic: LesionBrushLogic, world: World
) -> None:
    facts = client.models()
    assert facts["noise"].makes_volumes
    assert [take.kind for take in facts["noise"].takes] == ["layout", "text"]
    outcome = client.synthesize(wanted(variants=2))
    node = logic.receive_whole(outcome.volumes, outcome.provenances).node
    assert node.GetName() == "SYNTHETIC GENERATED noise seed 3"
    assert array_of(node).shape == SHAPE[::-1]
    assert set(outcome.provenances[0]["inputs_sha256"]) == {"tissues", "report"}
    data = labels_of(node).GetSegmentation()
    lesion = next(
        key for key in map(data.GetNthSegmentID, (0, 1)) if data.GetSegment(key).GetName() == "lesion"
    )
    assert np.count_nonzero(segment_mask(labels_of(node), lesion, node)) == 4 * 3 * 2

    logic.parameters.reference = node
    mask = np.zeros(SHAPE[::-1], bool)
    mask[8:14, 10:20, 12:22] = True
    paint(world, logic.ensure_segmentation(), logic.parameters.segment_id, mask, node)
    order = logic.export(facts["tiny"].takes).order("tiny", {"steps": 2})
    assert order.record == outcome.provenances[0]
    made = client.synthesize(order)
    (record,) = made.provenances
    assert record["generated"]
    assert record["made_from"] == outcome.provenances[0]
    edit = logic.receive(made.boxes, made.provenances).node
    assert edit.GetName().startswith("SYNTHETIC GENERATED tiny")
    assert (array_of(edit) != array_of(node)).any()


def test_it_is_accepted_and_comes_in_files(client: JobClient, process: Process, tmp_path: Path) -> None:
    outcome = client.synthesize(wanted(variants=2), fetch=False)
    assert (outcome.volumes, outcome.numbers) == ([], (1, 2))
    image = client.accept(outcome.job_id, 2)
    assert image in client.images()
    with pytest.raises(ServerError) as error:
        client.box(outcome.job_id, 3)
    assert error.value.code == "unknown_variant"
    files = Client(process.url, TOKEN)
    result = files.infer("noise", out_path=tmp_path / "ct.nrrd", params={"seed": 3}, report="nothing")
    assert result.provenance["generated"]
    assert result.path.stat().st_size > 1000


def test_without_labels_there_are_none(client: JobClient) -> None:
    (made,) = client.synthesize(wanted(labels="none")).volumes
    assert made.labels is None
    (made,) = client.synthesize(wanted(labels="body")).volumes
    assert made.labels is not None
    assert 1 in made.labels.names


def test_client_and_server_refuse_alike(client: JobClient, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = labels_upload(np.ones((2, 2, 2), np.uint8), AFFINE)
    order = Order("noise", mask, mask)
    with pytest.raises(WrongInput, match="makes whole CTs: leave out mask and CT"):
        client.synthesize(order)
    monkeypatch.setattr(client, "_fitting", lambda order, cancelled: order)
    with pytest.raises(ServerError, match="makes whole CTs: leave out the mask"):
        client.submit(Order("noise", mask))
