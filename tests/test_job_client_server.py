"""The job client against a real server of this project: a process of its own, a small model, a token."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_fixtures import Series, write_series
from job_server import TOKEN, Process
from lesionbrush.files.io import read_volume, write_volume
from LesionBrushLib.client import (
    Cancelled,
    JobClient,
    JobStatus,
    Order,
    Patience,
    ServerError,
    Upload,
    Watch,
    WrongReference,
    compose,
    ct_upload,
    mask_upload,
    voxel_sha256,
)
from pydicom import dcmread
from relay import Relay
from server_kit import (
    MODEL,
    SPACING_MM,
    STORED,
    affine,
    edit_region,
    make_ct,
    make_mask,
    make_model,
    stop,
)

pytestmark = pytest.mark.server
LONG = {"steps": 900, "sampler": "ddpm"}
PATIENT = Patience(silent_s=20.0, lost_s=60.0, first_wait_s=0.05)


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    root = tmp_path_factory.mktemp("jobs")
    for name in ("studies", "scratch", "models"):
        (root / name).mkdir()
    make_model(root / "models")
    write_volume(make_ct(), root / "studies" / f"{STORED}.nii.gz")
    server = Process(root, root / "models")
    server.start()
    yield server
    stop(server.running)


@pytest.fixture
def client(process: Process) -> Iterator[JobClient]:
    client = JobClient(process.url, TOKEN, patience=PATIENT)
    yield client
    assert client.test_connection().ok


def order(**params: Any) -> Order:
    mask = mask_upload(make_mask().array, affine())
    reference = ct_upload(make_ct().array, affine())
    return Order(MODEL, mask, reference, {"steps": 2, "seed": 5, **params})


def stored(**params: Any) -> Order:
    mine = order(**params)
    return Order(mine.model, mine.mask, STORED, mine.params)


def test_the_connection_is_told_as_it_is(process: Process) -> None:
    report = JobClient(process.url, TOKEN).test_connection()
    assert (report.ok, report.code, report.remarks) == (True, "ok", ())
    facts = report.facts
    assert facts is not None
    assert (facts.protocol, facts.read_only) == (1, False)
    assert facts.models[MODEL].title == "Tiny"
    assert facts.models[MODEL].window_hu == (-1000, 400)
    assert "attributes" in facts.models[MODEL].schema["properties"]
    assert facts.devices
    assert JobClient(process.url).test_connection().code == "token_missing"
    assert JobClient(process.url, "wrong").test_connection().code == "token_wrong"
    with pytest.raises(ServerError) as error:
        JobClient(process.url, "wrong").synthesize(order())
    assert (error.value.status, error.value.code) == (401, "unauthorized")
    assert JobClient(process.url, TOKEN).images() == [STORED]


def test_a_round_from_arrays_to_the_composed_ct(client: JobClient, tmp_path: Path) -> None:
    statuses: list[JobStatus] = []
    pictures: list[bytes] = []
    uploads: list[tuple[int, int]] = []
    watch = Watch(
        on_upload=lambda sent, total: uploads.append((sent, total)),
        on_status=statuses.append,
        on_preview=lambda step, png: pictures.append(png),
    )
    outcome = client.synthesize(order(variants=2, steps=8), watch)
    reference = make_ct().array
    assert outcome.reference is not None
    assert outcome.reference.voxel_sha256 == voxel_sha256(reference) == outcome.boxes[0].reference_voxels
    assert uploads[-1] == (outcome.reference.bytes, outcome.reference.bytes)
    assert statuses[-1].state == "done"
    assert statuses[-1].step == statuses[-1].steps == 16
    assert pictures[0].startswith(b"\x89PNG")
    for n, box in enumerate(outcome.boxes, 1):
        synthetic = compose(reference, box)
        changed = synthetic != reference
        assert 50 < np.count_nonzero(changed) == outcome.provenances[n - 1]["voxels_changed"]
        assert not changed[~edit_region()].any()
        path = client.download_volume(outcome.job_id, n, tmp_path / f"{n}.nii")
        assert np.array_equal(read_volume(path).array, synthetic)
        with pytest.raises(WrongReference):
            compose(synthetic, box)
    assert not np.array_equal(outcome.boxes[0].array, outcome.boxes[1].array)
    again = client.synthesize(order(variants=2, steps=8), watch)
    assert again.reference is not None
    assert not again.reference.sent
    assert np.array_equal(again.boxes[1].array, outcome.boxes[1].array)


def test_a_folder_of_odd_files(client: JobClient, tmp_path: Path) -> None:
    """Read by what is in it; what was not used is in the record; errors speak of the user's own files."""
    hu = make_ct().array
    cosines = (affine()[:3, :2] / np.linalg.norm(affine()[:3, :2], axis=0)).T * (-1, -1, 1)
    first_mm = tuple(affine()[:3, 3] * (-1, -1, 1))
    names = [f"Doe^Jane.{k:03d}" for k in range(hu.shape[2])]
    paths = write_series(tmp_path, Series(hu, SPACING_MM, tuple(cosines.ravel()), first_mm, names=names))
    (tmp_path / "._a.dcm").write_bytes(b"\0\5\x16\7")
    sent = Order(MODEL, order().mask, Upload.of(tmp_path), {"steps": 2, "seed": 5})
    outcome = client.synthesize(sent)
    assert np.array_equal(outcome.boxes[0].array, client.synthesize(order()).boxes[0].array)
    (remark,) = outcome.provenances[0]["remarks"][:1]
    assert remark.startswith("CT: 40 files of its folder were used, 1 were not (files of macOS")
    header = dcmread(paths[7])
    header.RescaleSlope = "0"
    header.save_as(paths[7])
    with pytest.raises(ServerError, match=r"^Doe.Jane.007 has RescaleSlope 0") as error:
        client.synthesize(sent)
    assert (error.value.status, error.value.code) == (422, "not_a_ct")


def test_accept_and_discard(client: JobClient, process: Process) -> None:
    outcome = client.synthesize(stored(variants=2))
    image = client.accept(outcome.job_id, 1)
    assert client.accept(outcome.job_id, 1) == image
    assert image in client.images()
    path = client.download_image(image, process.root / "accepted.nii.gz")
    assert np.array_equal(read_volume(path).array, compose(make_ct().array, outcome.boxes[0]))
    client.discard(outcome.job_id, 2)
    client.discard(outcome.job_id, 2)
    with pytest.raises(ServerError) as error:
        client.box(outcome.job_id, 2)
    assert (error.value.status, error.value.code) == (410, "discarded")
    status = client.status(outcome.job_id)
    assert (status.discarded, status.accepted) == ((2,), {1: image})


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"model": "nobody"}, "unknown_model"),
        ({"params": {"steps": 0}}, "invalid_request"),
        ({"reference": "no-such-ct"}, "unknown_image"),
        ({"mask": mask_upload(np.ones((3, 3, 3)), np.diag((9.0, 9, 9, 1)))}, "geometry_mismatch"),
    ],
)
def test_a_refusal_is_in_the_servers_words(client: JobClient, change: dict[str, Any], code: str) -> None:
    with pytest.raises(ServerError) as error:
        client.synthesize(Order(**{**vars(stored()), **change}))
    assert error.value.code == code
    assert len(str(error.value)) > 20


def test_cancel_is_effective_at_once(client: JobClient) -> None:
    cancel, statuses = threading.Event(), []

    def on_status(status: JobStatus) -> None:
        statuses.append(status)
        if status.step >= 3:
            cancel.set()

    began = time.monotonic()
    with pytest.raises(Cancelled) as error:
        client.synthesize(stored(**LONG), Watch(on_status=on_status, cancelled=cancel.is_set))
    assert time.monotonic() - began < 20
    assert error.value.server_told
    until = time.monotonic() + 10
    while not (last := client.status(statuses[0].id)).finished and time.monotonic() < until:
        time.sleep(0.05)
    assert last.state == "cancelled"
    assert last.step < 800


def test_a_dropped_connection_goes_unnoticed(client: JobClient, process: Process) -> None:
    relay = Relay("127.0.0.1", process.port)
    through, statuses = JobClient(relay.url, TOKEN, patience=PATIENT), []
    dropped = threading.Event()

    def on_status(status: JobStatus) -> None:
        statuses.append(status)
        if status.step >= 3 and not dropped.is_set():
            dropped.set()
            relay.drop()

    outcome = through.synthesize(stored(steps=150), Watch(on_status=on_status))
    assert dropped.is_set()
    assert statuses[-1].state == "done"
    assert np.array_equal(outcome.boxes[0].array, client.synthesize(stored(steps=150)).boxes[0].array)
    relay.close()


def test_a_submission_whose_answer_was_lost_is_the_same_job(client: JobClient) -> None:
    first, second = (client.submit(stored(steps=3), key="once") for _ in range(2))
    assert first.id == second.id
    with pytest.raises(ServerError) as error:
        client.submit(stored(steps=4), key="once")
    assert (error.value.status, error.value.code) == (409, "idempotency_conflict")
    client.follow(first.id)


def test_a_full_queue(client: JobClient) -> None:
    """The server's own limits: some jobs of one client may wait, and no more."""
    facts = client.about()
    most = min(facts.limits["queue_length"], facts.limits["jobs_per_client"])
    jobs: list[str] = []

    def fill() -> None:
        for _ in range(most + 3):
            jobs.append(client.submit(stored(**LONG)).id)

    try:
        with pytest.raises(ServerError) as error:
            fill()
        assert (error.value.status, error.value.code) == (503, "queue_full")
        assert error.value.retry_after_s is not None
        assert client.status(jobs[-1]).position is not None
    finally:
        for job in reversed(jobs):
            client.cancel(job)
    assert client.follow(jobs[0]).state == "cancelled"


def test_a_restarted_server_has_forgotten_the_job(process: Process, client: JobClient) -> None:
    """The user is told, and the CT need not be sent again."""
    known = client.put_reference(order().reference)
    job, problem = client.submit(stored(**LONG)), []

    def follow() -> None:
        with pytest.raises(ServerError) as error:
            client.follow(job.id)
        problem.append(error.value)

    following = threading.Thread(target=follow)
    following.start()
    time.sleep(0.5)
    process.running.kill()
    process.running.wait()
    process.start()
    following.join(180)
    assert [(error.status, error.code) for error in problem] == [(404, "job_lost")]
    assert "restarted" in str(problem[0])
    assert client.reference_known(known.reference) is not None
    assert client.synthesize(order()).status is not None
    upload = order().reference
    assert isinstance(upload, Upload)
    assert not client.put_reference(upload).sent
