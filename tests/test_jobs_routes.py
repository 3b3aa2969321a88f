"""The routes of protocol 1, in this process, with the tiny model."""

from __future__ import annotations

import base64
import gzip
import io
import os
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from jobs_fixtures import V1, WAIT_S, Submit, code, done, events
from jobs_kit import until
from lesionbrush.core.provenance import Provenance
from lesionbrush.core.synthesize import synthesize
from lesionbrush.core.volume import require_ct
from lesionbrush.files.io import read_volume
from lesionbrush.server.synthesis.inference import Service
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest
from PIL import Image
from server_kit import MODEL, STORED, Files, make_ct

pytest_plugins = ("server_fixtures", "jobs_fixtures")


def test_what_the_server_says_of_itself(front: TestClient) -> None:
    facts = front.get(f"{V1}/").json()
    assert facts["protocol"] == 1
    assert facts["devices"]
    assert facts["limits"]["queue_length"] > 0
    assert facts["read_only"] is False
    assert facts["models"][MODEL]["schema"] == SynthesisRequest.model_json_schema()
    assert facts["models"][MODEL]["problem"] is None
    assert "SHA-256" in facts["models"]["altered"]["problem"]


def test_the_box_is_what_the_core_makes_and_fits_the_reference(
    front: TestClient, service: Service, submit: Submit, files: Files
) -> None:
    place = done(front, service, submit({"seed": 3, "variants": 2}))
    ct = require_ct(read_volume(files.ct))
    model = service.models.warm(MODEL, service.jobs.devices[0]).model
    wanted = synthesize(ct, read_volume(files.mask), SynthesisRequest(seed=3, steps=2, variants=2), model)
    for number, alone in enumerate(wanted, 1):
        answer = front.get(f"{place}/variants/{number}/box", headers={"Accept-Encoding": "identity"})
        shape, offset = (
            [int(n) for n in answer.headers[f"X-LesionBrush-{key}"].split(",")] for key in ("Shape", "Offset")
        )
        box = np.frombuffer(answer.content, "<i2").reshape(shape, order="F")
        assert np.array_equal(box, alone.box)
        assert tuple(offset) == alone.offset
        assert answer.headers["X-LesionBrush-Reference-Voxels"] == ct.voxel_sha256
        assert answer.headers["X-LesionBrush-Box"] == sha256(answer.content).hexdigest()
        assert "content-encoding" not in answer.headers
        record = Provenance.model_validate(front.get(f"{place}/variants/{number}").json())
        assert record.seed == alone.provenance.seed
        assert record.voxels_changed > 100


def test_a_box_is_zipped_only_when_that_is_asked_for(
    front: TestClient, service: Service, submit: Submit
) -> None:
    place = done(front, service, submit({}))
    with front.stream("GET", f"{place}/variants/1/box", headers={"Accept-Encoding": "gzip"}) as zipped:
        raw = b"".join(zipped.iter_raw())
    assert zipped.headers["content-encoding"] == "gzip"
    assert sha256(gzip.decompress(raw)).hexdigest() == zipped.headers["X-LesionBrush-Box"]
    plain = front.get(f"{place}/variants/1/box", headers={"Accept-Encoding": "br, gzip;q=0"})
    assert "content-encoding" not in plain.headers


def test_the_whole_volume_on_demand(
    front: TestClient, service: Service, submit: Submit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = done(front, service, submit({"seed": 9}, image=STORED))
    monkeypatch.setattr(os, "fsync", lambda handle: pytest.fail("an answer waited for the disk"))
    box = front.get(f"{place}/variants/1/box", headers={"Accept-Encoding": "identity"})
    for suffix in ("nii.gz", "nii", "nrrd", "mha"):
        answer = front.get(f"{place}/variants/1/volume", params={"format": suffix})
        path = tmp_path / f"ct.{suffix}"
        path.write_bytes(answer.content)
        offset = [int(n) for n in box.headers["X-LesionBrush-Offset"].split(",")]
        shape = [int(n) for n in box.headers["X-LesionBrush-Shape"].split(",")]
        whole = make_ct().array.copy()
        part = tuple(slice(o, o + n) for o, n in zip(offset, shape, strict=True))
        whole[part] = np.frombuffer(box.content, "<i2").reshape(shape, order="F")
        assert np.array_equal(read_volume(path).array, whole)
    assert code(front.get(f"{place}/variants/1/volume", params={"format": "exe"})) == (422, "invalid_request")


def test_events_count_up_and_can_be_continued(front: TestClient, submit: Submit) -> None:
    place = submit({"steps": 12}).headers["location"]
    answer = front.get(f"{place}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    told = events(answer.text)
    numbers = [number for number, _, _ in told]
    assert numbers == sorted(set(numbers))
    assert told[-1][2]["state"] == "done"
    steps = [data["step"] for _, kind, data in told if kind == "status"]
    assert steps == sorted(steps)
    assert {data["steps"] for _, kind, data in told if kind == "status"} == {12}
    (preview, *_) = [data for _, kind, data in told if kind == "preview"]
    with Image.open(io.BytesIO(base64.b64decode(preview["png"]))) as picture:
        assert (picture.format, picture.mode) == ("PNG", "L")
        assert min(picture.size) >= 16
    newest = front.get(f"{place}/preview")
    assert newest.headers["content-type"] == "image/png"
    again = events(front.get(f"{place}/events", headers={"Last-Event-ID": str(numbers[-2])}).text)
    assert again == told[-1:]
    assert events(front.get(f"{place}/events", headers={"Last-Event-ID": str(numbers[-1])}).text) == told[-1:]
    for odd in ("", "x", "-4", "99999", "9" * 30):
        assert events(front.get(f"{place}/events", headers={"Last-Event-ID": odd}).text)[-1] == told[-1]


def test_cancel_and_forget(front: TestClient, service: Service, submit: Submit) -> None:
    answer = submit({"steps": 900})
    place, record = answer.headers["location"], service.jobs.get(answer.json()["id"])
    until(lambda: front.get(place).json()["step"] > 0, WAIT_S)
    assert code(front.get(f"{place}/variants/1/box")) == (409, "not_done")
    front.delete(place)
    assert service.jobs.wait(record, WAIT_S)
    status = front.get(place).json()
    assert (status["state"], status["error"]["code"]) == ("cancelled", "cancelled")
    assert status["step"] < 900
    assert code(front.get(f"{place}/preview")) == (404, "no_preview")
    assert front.delete(place).status_code == 200
    assert code(front.get(place)) == (404, "unknown_job")
    assert service.vault is not None
    until(lambda: not service.vault.results.has(record.id))


def test_accept_once_and_discard(front: TestClient, service: Service, submit: Submit) -> None:
    place = done(front, service, submit({"seed": 21, "variants": 2}))
    for _ in range(2):
        answer = front.post(f"{place}/variants/1/accept", json={"image": "new.case"})
        assert answer.json() == {"image": "new.case", "label": "final"}
    assert service.vault is not None
    stored = read_volume(service.vault.studies / "new.case.nii.gz")
    assert (stored.array != make_ct().array).sum() > 100
    assert code(front.post(f"{place}/variants/2/accept", json={"image": "../x"})) == (422, "invalid_request")
    assert front.post(f"{place}/variants/2/discard").json()["discarded"] == [2]
    for ending in ("", "/box", "/volume"):
        assert code(front.get(f"{place}/variants/2{ending}")) == (410, "discarded")
    assert code(front.post(f"{place}/variants/2/discard")) == (410, "discarded")
    assert code(front.get(f"{place}/variants/3")) == (404, "unknown_variant")
    assert front.get(place).json()["accepted"] == {"1": "new.case"}


def test_the_same_key_is_one_job(front: TestClient, service: Service, submit: Submit) -> None:
    key = {"Idempotency-Key": "k-1"}
    first, second = submit({"seed": 1}, key), submit({"seed": 1}, key)
    assert first.json()["id"] == second.json()["id"]
    assert code(submit({"seed": 2}, key)) == (409, "idempotency_conflict")
    assert submit({"seed": 1}, {**key, "X-LesionBrush-Client": "ben"}).json()["id"] != first.json()["id"]
    done(front, service, first)


def test_previews_do_not_change_a_voxel(files: Files, service: Service) -> None:
    ct, mask = require_ct(read_volume(files.ct)), read_volume(files.mask)
    model, seen = service.models.warm(MODEL).model, list[np.ndarray]()
    request = SynthesisRequest(steps=4, seed=7)
    with_them = synthesize(ct, mask, request, model, on_estimate=seen.append)[0]
    assert np.array_equal(with_them.box, synthesize(ct, mask, request, model)[0].box)
    assert [hu.shape for hu in seen] == [seen[0].shape] * 4
    assert seen[0].dtype == np.float32


def test_all_routes_are_described(front: TestClient) -> None:
    described = front.get(f"{V1}/openapi.json").json()
    assert len(described["paths"]) == 16
    schemas = described["components"]["schemas"]
    assert {"JobStatus", "Refusal", "ReferenceFacts", "ServerFacts", "Provenance", "Accepted"} <= set(schemas)
