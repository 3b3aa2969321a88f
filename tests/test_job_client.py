"""The job client against a server that speaks the protocol."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from job_fake import AFFINE, BOX, CT, GENERATED, ORGANS, PNG, RECORD, Fake, running
from job_kit import QUICK, Seen, order
from LesionBrushLib.client import (
    Cancelled,
    JobClient,
    JobFailed,
    JobStatus,
    Layout,
    Order,
    Patience,
    ServerError,
    ServerUnreachable,
    Upload,
    Watch,
    compose,
    labels_upload,
)


@pytest.fixture
def fake() -> Iterator[Fake]:
    with running(Fake()) as fake:
        yield fake


@pytest.fixture
def client(fake: Fake) -> JobClient:
    return JobClient(fake.url, patience=QUICK)


def test_from_arrays_to_the_composed_ct(fake: Fake, client: JobClient) -> None:
    seen = Seen()
    outcome = client.synthesize(order(), seen.watch)
    (box,) = outcome.boxes
    assert outcome.provenances == [RECORD]
    assert outcome.reference is not None
    assert outcome.reference.sent
    assert seen.phases == ["reference", "queue", "synthesis", "result"]
    assert [status.state for status in seen.statuses][-1] == "done"
    assert seen.previews[0] == (1, PNG)
    assert seen.threads == {threading.get_ident()}
    sent, total = seen.uploads[-1]
    assert sent == total == outcome.reference.bytes
    synthetic = compose(CT, box)
    assert np.array_equal(synthetic[4:6, 2:5, 1:5], BOX)
    synthetic[4:6, 2:5, 1:5] = CT[4:6, 2:5, 1:5]
    assert np.array_equal(synthetic, CT)


def test_a_reference_goes_once(fake: Fake, client: JobClient) -> None:
    client.synthesize(order())
    seen = Seen()
    again = JobClient(fake.url, patience=QUICK).synthesize(order(), seen.watch)
    assert fake.count("PUT ") == 1
    assert seen.uploads == []
    assert again.reference is not None
    assert not again.reference.sent


def test_what_is_submitted(fake: Fake, client: JobClient) -> None:
    client.submit(order(reference="ct1"), key="k1")
    assert fake.asked[-1] == "POST /lesionbrush/v1/jobs?model=lung&image=ct1&abandon_after=600"
    assert fake.headers[-1]["Idempotency-Key"] == "k1"
    assert b'name="params"\r\n\r\n{"seed": 5}' in fake.bodies[-1]
    assert b'filename="mask.nii.gz"' in fake.bodies[-1]
    with pytest.raises(ValueError, match="put_reference"):
        client.submit(order())
    named = JobClient(fake.url, client_name="reading-room-2")
    named.submit(order(reference="ct1"))
    assert fake.headers[-1]["X-LesionBrush-Client"] == "reading-room-2"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_callback_that_fails_cancels_the_job(
    fake: Fake, client: JobClient, error: type[BaseException]
) -> None:
    """Ctrl-C too."""

    def fail(status: JobStatus) -> None:
        raise error("the panel is gone")

    fake.step_s = 1.0
    with pytest.raises(error, match="panel"):
        client.synthesize(order(), Watch(on_status=fail))
    assert fake.cancelled == {"job0"}


def test_a_failed_job_says_why(fake: Fake, client: JobClient) -> None:
    fake.end = {"state": "failed", "error": {"code": "out_of_memory", "message": "no memory: fewer steps"}}
    with pytest.raises(JobFailed, match="no memory: fewer steps") as error:
        client.synthesize(order())
    assert (error.value.code, error.value.status, error.value.job.state) == ("out_of_memory", 0, "failed")
    fake.end = {"state": "cancelled"}
    with pytest.raises(Cancelled, match="somebody"):
        client.synthesize(order())
    fake.end = {"state": "expired"}
    with pytest.raises(JobFailed, match=r"expired.*synthesize again"):
        client.synthesize(order())


def test_a_full_queue_says_when_to_come_again(fake: Fake, client: JobClient) -> None:
    body = {"detail": {"code": "queue_full", "message": "9 jobs wait: try again in 7 s"}}
    fake.refuse["submit"] = (503, json.dumps(body).encode(), {"Retry-After": "7"})
    with pytest.raises(ServerError, match="try again") as error:
        client.submit(order(reference="ct1"))
    assert (error.value.status, error.value.code, error.value.retry_after_s) == (503, "queue_full", 7.0)
    assert fake.count("POST") == 1


def test_files_of_results(fake: Fake, client: JobClient, tmp_path: Path) -> None:
    job = client.submit(order(reference="ct1"))
    fake.lose["volume"] = 1
    told: list[tuple[int, int]] = []
    client.download_volume(job.id, 1, tmp_path / "ct.nii.gz", lambda *now: told.append(now))
    assert (tmp_path / "ct.nii.gz").read_bytes() == b"volume" * 100_000
    assert json.loads((tmp_path / "ct.provenance.json").read_text()) == RECORD
    assert told[-1] == (600_000, 600_000)
    assert any(line.endswith("/variants/1/volume?format=nii.gz") for line in fake.asked)
    client.download_image("ct1", tmp_path / "image.nii.gz")
    fake.lose["volume"] = 100
    with pytest.raises(ServerUnreachable):
        client.download_volume(job.id, 1, tmp_path / "other.nii")
    names = ["ct.nii.gz", "ct.provenance.json", "image.nii.gz"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_accept_and_discard_may_be_repeated(fake: Fake, client: JobClient) -> None:
    job = client.submit(order(reference="ct1"))
    fake.lose["accept"] = fake.lose["discard"] = 1
    assert client.accept(job.id, 1) == "synthetic-1"
    assert client.accept(job.id, 1, "mine") == "mine"
    client.discard(job.id, 1)
    client.discard(job.id, 1)
    assert client.preview(job.id) == PNG
    assert client.cancel(job.id).state == "cancelled"
    assert client.status(job.id).finished


def test_an_id_is_no_path(fake: Fake, client: JobClient) -> None:
    with pytest.raises(ServerError):
        client.status("../references/?")
    assert fake.asked[-1] == "GET /lesionbrush/v1/jobs/..%2Freferences%2F%3F"


def test_bytes_need_a_format(client: JobClient, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="which format"):
        client.put_reference(b"ct")
    with pytest.raises(ValueError, match="use one of"):
        Upload(b"ct", "dcm")


def whole(**changes: Any) -> Order:
    inputs = {"layout": Layout(labels_upload(ORGANS, AFFINE), {2: "body"}), "report": "a nodule"}
    return Order(**{"model": "chest", "params": {"seed": 5}, "inputs": inputs, **changes})


def test_a_whole_new_ct(fake: Fake, client: JobClient) -> None:
    fake.generate()
    seen = Seen()
    outcome = client.synthesize(whole(), seen.watch)
    (made,) = outcome.volumes
    assert outcome.boxes == []
    assert outcome.provenances == [GENERATED]
    assert outcome.numbers == (1,)
    assert np.array_equal(made.array, CT)
    assert np.allclose(made.affine, AFFINE, atol=1e-4)
    assert made.labels is not None
    assert np.array_equal(made.labels.array, ORGANS)
    assert made.labels.names == {2: "body"}
    assert seen.phases == ["inputs", "queue", "synthesis", "result"]
    (line,) = [line for line in fake.asked if line.startswith("POST")]
    assert line == "POST /lesionbrush/v1/jobs?model=chest&abandon_after=600"
    assert not any(b'name="label"' in body for body in fake.bodies)
    assert fake.count("/box") == 0
    assert fake.count("PUT") == 0


def test_a_whole_ct_of_which_nothing_more_is_known(fake: Fake, client: JobClient) -> None:
    fake.generate()
    fake.labels = None
    (made,) = client.synthesize(whole()).volumes
    assert made.labels is None
    fake.refuse["labels"] = (500, b"", {})
    with pytest.raises(ServerError, match="500"):
        client.labels("job0")


@pytest.mark.parametrize("names", [[], {"two": "body"}])
def test_names_that_are_none(fake: Fake, client: JobClient, names: Any) -> None:
    fake.generate()
    fake.names = names
    with pytest.raises(ServerUnreachable, match="BrokenAnswer"):
        JobClient(fake.url, patience=Patience(lost_s=0.0)).labels("job0")


def test_a_volume_that_is_none(fake: Fake) -> None:
    fake.generate()
    fake.volume = fake.volume[:-9]
    with pytest.raises(ServerUnreachable, match="BrokenAnswer"):
        JobClient(fake.url, patience=Patience(lost_s=0.0)).volume("job0")


def test_a_lost_whole_ct_is_picked_up_again(fake: Fake, client: JobClient) -> None:
    """What the job makes is told by its record: an edit of a generated CT is an edit."""
    fake.generate()
    job = client.submit(whole())
    assert len(client.resume(job.id).volumes) == 1
    fake.record = {**GENERATED, "reference_sha256": "0" * 64}
    assert len(client.resume(job.id).boxes) == 1
