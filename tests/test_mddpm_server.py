"""mDDPM in 2D and 3D over a real server, with tiny random weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from job_server import TOKEN, Process
from lesionbrush.files.io import write_volume
from LesionBrushLib.client import JobClient, Order, Outcome, ServerError, Upload, ct_upload, mask_upload
from mddpm_kit import INPUTS, install_guided
from server_kit import STORED, affine, edit_region, make_ct, make_mask, stop

pytestmark = pytest.mark.server
BOTH = pytest.mark.parametrize("system", ["mddpm", "mddpm_3d"])
OTHER_LESION = np.zeros((20, 18, 16), np.uint8)
OTHER_LESION[8:13, 7:11, 5:9] = 1
OTHER_CT = np.where(OTHER_LESION > 0, 35, -870).astype(np.int16)
OTHER_AFFINE = np.diag((-2.0, 2.0, 2.0, 1.0))


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    root = tmp_path_factory.mktemp("mddpm")
    for name in ("studies", "scratch", "models"):
        (root / name).mkdir()
    install_guided(root / "models", "mddpm")
    install_guided(root / "models", "mddpm_3d")
    write_volume(make_ct(), root / "studies" / f"{STORED}.nii.gz")
    server = Process(root, root / "models")
    server.start()
    yield server
    stop(server.running)


@pytest.fixture
def client(process: Process) -> JobClient:
    return JobClient(process.url, TOKEN)


def pathology() -> dict[str, Upload]:
    return {
        "pathology": ct_upload(OTHER_CT, OTHER_AFFINE),
        "pathology_mask": mask_upload(OTHER_LESION, OTHER_AFFINE),
    }


def asked(client: JobClient, system: str, inputs: dict[str, Upload], **params: Any) -> Outcome:
    mask = mask_upload(make_mask().array, affine())
    return client.synthesize(Order(system, mask, STORED, {"steps": 2, "seed": 5, **params}, inputs))


@BOTH
def test_a_lesion_of_another_case_is_put_in_and_nothing_else_changes(client: JobClient, system: str) -> None:
    assert tuple(take.name for take in client.models()[system].takes) == INPUTS
    first, again = (asked(client, system, pathology()) for _ in range(2))
    record = first.provenances[0]
    assert set(record["inputs_sha256"]) == {"pathology", "pathology_mask"}
    assert record["request"]["pathology"] == {"factor": 2, "stop": 0.0}
    (box,), (same,) = first.boxes, again.boxes
    assert np.array_equal(box.array, same.array)
    changed = np.zeros(make_ct().shape, bool)
    changed[box.place] = box.array != make_ct().array[box.place]
    assert not changed[~edit_region()].any()
    assert (box.array > -400).any()


@BOTH
@pytest.mark.parametrize(
    ("inputs", "params", "said"),
    [
        ({}, {}, "something to follow"),
        (pathology(), {"pathology": {"factor": 7}}, "pathology.factor: 7 does not divide"),
        (pathology(), {"pathology": {"factor": 256}}, "pathology.factor: 256 does not divide"),
        (pathology(), {"anatomy": {"factor": 4}}, "send the volume 'anatomy'"),
        (pathology(), {"pathology": {"stop": 2}}, "stop"),
    ],
)
def test_conditions_that_cannot_be_are_refused_with_a_reason(
    client: JobClient, system: str, inputs: dict[str, Upload], params: dict[str, Any], said: str
) -> None:
    with pytest.raises(ServerError, match=said) as error:
        asked(client, system, inputs, **params)
    assert error.value.code == "invalid_request"


@BOTH
def test_a_guidance_image_of_another_size_is_refused(client: JobClient, system: str) -> None:
    with pytest.raises(ServerError, match="anatomy") as error:
        asked(client, system, {"anatomy": ct_upload(OTHER_CT, OTHER_AFFINE)})
    assert error.value.code == "geometry_mismatch"
