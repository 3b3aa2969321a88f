"""The job client when the connection breaks, the server is away, or the user has had enough."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from job_fake import BOX, PNG, Fake, running
from job_kit import QUICK, Seen, order
from LesionBrushLib.client import (
    Cancelled,
    JobClient,
    JobStatus,
    Patience,
    ServerError,
    ServerUnreachable,
    Watch,
    following,
    transport,
)
from relay import Relay
from server_kit import free_port


@pytest.fixture
def fake() -> Iterator[Fake]:
    with running(Fake()) as fake:
        yield fake


@pytest.fixture
def client(fake: Fake) -> JobClient:
    return JobClient(fake.url, patience=QUICK)


@pytest.mark.parametrize("what", ["known", "put", "submit", "status", "record", "box"])
def test_a_lost_answer_is_asked_for_again_and_nothing_is_done_twice(
    fake: Fake, client: JobClient, what: str
) -> None:
    if what == "known":
        client.put_reference(order().reference)
    fake.lose[what] = 1 if what == "put" else 2  # a put that arrived is seen to be there
    fake.events = "absent" if what == "status" else "ok"
    outcome = client.synthesize(order())
    assert np.array_equal(outcome.boxes[0].array, BOX)
    assert fake.lose[what] == 0
    assert len(fake.keys) == 1
    assert fake.count("PUT ") == 1


@pytest.mark.parametrize("events", ["absent", "held", "cut", "broken"])
def test_progress_without_a_steady_stream(
    fake: Fake, client: JobClient, events: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "FIRST_EVENT_S", 0.1)
    monkeypatch.setattr(following, "POLL_PREVIEW_S", 0.05)
    for name in ("POLL_S", "POLL_QUEUED_S"):
        monkeypatch.setattr(following, name, 0.02)
    fake.events, fake.step_s = events, 0.1
    seen = Seen()
    outcome = client.synthesize(order(), seen.watch)
    assert outcome.status is not None
    assert outcome.status.state == "done"
    assert [status.step for status in seen.statuses] == sorted(status.step for status in seen.statuses)
    assert seen.previews[0][1] == PNG
    if events == "cut":
        continued = [h["Last-Event-ID"] for h in fake.headers if "Last-Event-ID" in h]
        assert len(continued) > 1
        assert continued == sorted(continued, key=int)


def relay_to(fake: Fake) -> Relay:
    return Relay("127.0.0.1", int(fake.url.rpartition(":")[2]))


def test_a_dropped_connection_is_taken_up_again(fake: Fake) -> None:
    relay, fake.step_s = relay_to(fake), 0.2
    client, seen = JobClient(relay.url, patience=QUICK), Seen()
    job = client.submit(order(reference="ct1"))
    threading.Timer(0.3, relay.drop).start()
    assert client.follow(job.id, seen.watch.on_status).state == "done"
    assert any("Last-Event-ID" in headers for headers in fake.headers)
    relay.close()


def test_a_connection_lost_for_good_names_the_job(fake: Fake) -> None:
    relay, fake.step_s = relay_to(fake), 5.0
    client = JobClient(relay.url, patience=QUICK)
    job = client.submit(order(reference="ct1"))
    threading.Timer(0.2, relay.close).start()
    began = time.monotonic()
    with pytest.raises(ServerUnreachable, match=r"connection was lost.*start the server") as error:
        client.follow(job.id)
    assert error.value.job_id == job.id
    assert time.monotonic() - began < 5
    assert fake.cancelled == set()


def test_a_result_that_could_not_be_fetched_is_fetched_later(fake: Fake) -> None:
    impatient = Patience(silent_s=2.0, lost_s=0.1, first_wait_s=0.02, longest_wait_s=0.05)
    client, fake.lose["box"] = JobClient(fake.url, patience=impatient), 1000
    with pytest.raises(ServerUnreachable) as error:
        client.synthesize(order())
    assert error.value.job_id == "job0"
    fake.lose["box"] = 0
    seen = Seen()
    outcome = client.resume(error.value.job_id, seen.watch)
    assert np.array_equal(outcome.boxes[0].array, BOX)
    assert seen.phases == ["queue", "synthesis", "result"]
    assert len(fake.keys) == 1
    with pytest.raises(ServerError) as unknown:
        client.resume("another")
    assert unknown.value.code == "job_lost"


def test_a_restarted_server_is_said_to_be_one(fake: Fake, client: JobClient) -> None:
    fake.step_s = 5.0
    job = client.submit(order(reference="ct1"))
    threading.Timer(0.2, fake.restart).start()
    with pytest.raises(ServerError, match=r"restarted.*synthesize again") as error:
        client.follow(job.id)
    assert (error.value.status, error.value.code) == (404, "job_lost")


def test_a_proxy_that_says_the_server_is_away_is_waited_for(fake: Fake, client: JobClient) -> None:
    job = client.submit(order(reference="ct1"))
    fake.refuse = {"events": (502, b"Bad Gateway", {}), "status": (504, b"", {})}
    threading.Timer(0.2, fake.refuse.clear).start()
    assert client.follow(job.id).state == "done"


def test_cancel_is_heard_at_once_and_passed_on(fake: Fake, client: JobClient) -> None:
    fake.step_s, fake.steps = 0.2, 100
    seen = Seen(cancel_when=lambda item: isinstance(item, JobStatus) and item.step == 1)
    began = time.monotonic()
    with pytest.raises(Cancelled, match="server has stopped") as error:
        client.synthesize(order(), seen.watch)
    assert time.monotonic() - began < 2
    assert error.value.server_told
    assert fake.cancelled == {"job0"}


def test_cancel_while_the_connection_is_lost(fake: Fake) -> None:
    relay, fake.step_s = relay_to(fake), 5.0
    client, cancel = JobClient(relay.url), threading.Event()
    job = client.submit(order(reference="ct1"))
    threading.Timer(0.1, relay.close).start()
    threading.Timer(0.3, cancel.set).start()
    with pytest.raises(Cancelled, match="could not be told") as error:
        client.follow(job.id, cancelled=cancel.is_set)
    assert not error.value.server_told


def test_cancel_during_the_submission_leaves_no_job_behind(fake: Fake, client: JobClient) -> None:
    """The server has the order, the user does not wait for its answer."""
    fake.slow_answer_s["submit"] = 0.5
    cancel = threading.Event()
    threading.Timer(0.2, cancel.set).start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        client.synthesize(order(reference="ct1"), Watch(cancelled=cancel.is_set))
    assert time.monotonic() - began < 0.45
    until = time.monotonic() + 5
    while not fake.cancelled and time.monotonic() < until:
        time.sleep(0.02)
    assert fake.cancelled == {"job0"}


def test_cancel_during_an_upload(fake: Fake) -> None:
    relay = relay_to(fake)
    relay.slow_s = 0.05
    seen = Seen(cancel_when=lambda item: isinstance(item, tuple) and item[0] > 1 << 20)
    client = JobClient(relay.url, patience=QUICK)
    began = time.monotonic()
    with pytest.raises(Cancelled):
        client.put_reference(bytes(64 << 20), "nii", seen.watch.on_upload, seen.watch.cancelled)
    assert time.monotonic() - began < 10
    relay.slow_s = 0.0
    time.sleep(1.0)  # what the system had taken already goes through
    assert 1 << 20 < relay.passed < 32 << 20
    assert fake.references == {}
    relay.close()


def test_a_slow_line_is_no_lost_line(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit on making a connection is not one on sending."""
    monkeypatch.setattr(transport, "CONNECT_TIMEOUT_S", 0.2)
    relay = relay_to(fake)
    relay.slow_s = 0.02
    sent = JobClient(relay.url, patience=QUICK).put_reference(bytes(8 << 20), "nii")
    assert sent.sent
    assert fake.count("PUT ") == 1
    relay.close()


def test_a_damaged_box_is_never_handed_out(fake: Fake, client: JobClient) -> None:
    job = client.submit(order(reference="ct1"))
    fake.box_hash = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(ServerUnreachable, match="connection was lost"):
        client.box(job.id)


def test_nobody_there_is_said_without_delay() -> None:
    began = time.monotonic()
    with pytest.raises(ServerUnreachable, match="start the server"):
        JobClient(f"http://127.0.0.1:{free_port()}").synthesize(order())
    assert time.monotonic() - began < 2


def test_a_stalled_upload_ends(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "STALLED_UPLOAD_S", 0.1)
    relay = relay_to(fake)
    relay.slow_s, relay.slow_after_bytes = 30.0, 100_000
    client, sent = JobClient(relay.url, patience=Patience(0.5, 0.3, 0.1)), []
    with pytest.raises(ServerUnreachable, match="connection was lost"):
        client.put_reference(bytes(64 << 20), "nii", lambda *now: sent.append(now))
    assert 100_000 < sent[-1][0] < 64 << 20
    relay.close()
