"""What protocol 1 refuses, and what becomes of jobs when something is wrong with the machine."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient
from jobs_fixtures import V1, WAIT_S, Submit, code, done
from jobs_kit import until
from lesionbrush.core.volume import Volume
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.io import read_volume, write_volume
from lesionbrush.server.synthesis import models, stored
from lesionbrush.server.synthesis.devices import choose_devices
from lesionbrush.server.synthesis.inference import Service
from server_kit import MODEL, STORED, Files

pytest_plugins = ("server_fixtures", "jobs_fixtures")


@pytest.mark.parametrize(
    ("query", "params", "refusal"),
    [
        ({"model": "nobody"}, {}, (404, "unknown_model")),
        ({"reference": "0" * 64}, {}, (404, "unknown_reference")),
        ({"reference": "../x"}, {}, (422, "invalid_request")),
        ({"image": "nobody"}, {}, (404, "unknown_image")),
        ({"image": STORED, "reference": "0" * 64}, {}, (422, "invalid_request")),
        ({"reference": None}, {}, (422, "invalid_request")),
        ({"abandon_after": "0"}, {}, (422, "invalid_request")),
        ({"other": "1"}, {}, (422, "invalid_request")),
        ({}, {"steps": 0}, (422, "invalid_request")),
        ({}, {"other": 0}, (422, "invalid_request")),
    ],
)
def test_refusals_at_once(
    submit: Submit, query: dict[str, Any], params: dict[str, Any], refusal: tuple[int, str]
) -> None:
    assert code(submit(params, **query)) == refusal


def test_other_refusals(front: TestClient, submit: Submit, files: Files) -> None:
    assert code(front.get(f"{V1}/jobs/{'0' * 24}")) == (404, "unknown_job")
    assert code(front.get(f"{V1}/jobs/../secret"))[0] in (403, 404)
    assert code(submit({}, {"X-LesionBrush-Client": "a b"})) == (422, "invalid_request")
    put = front.put(f"{V1}/references/{'0' * 64}", params={"format": "nii.gz"}, content=files.ct.read_bytes())
    assert code(put) == (422, "hash_mismatch")
    put = front.put(f"{V1}/references/{'0' * 64}", params={"format": "exe"}, content=b"x")
    assert code(put) == (422, "invalid_request")


def test_a_full_queue_says_when_to_come_back(
    submit: Submit, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.jobs._queue, "capacity", 0)
    answer = submit({})
    assert code(answer) == (503, "queue_full")
    assert int(answer.headers["Retry-After"]) >= 1


def test_a_mask_elsewhere_fails_the_job_with_a_reason(
    front: TestClient, service: Service, reference: str, files: Files, tmp_path: Path
) -> None:
    moved = read_volume(files.mask)
    elsewhere = moved.affine.copy()
    elsewhere[:3, 3] += 100
    write_volume(Volume(moved.array, elsewhere), tmp_path / "m.nii.gz")
    form = {"label": ("m.nii.gz", (tmp_path / "m.nii.gz").read_bytes())}
    answer = front.post(f"{V1}/jobs", params={"model": MODEL, "reference": reference}, files=form)
    assert service.jobs.wait(service.jobs.get(answer.json()["id"]), WAIT_S)
    status = front.get(answer.headers["location"]).json()
    assert (status["state"], status["error"]["code"]) == ("failed", "geometry_mismatch")


def test_a_full_disk_fails_the_job_and_leaves_nothing(
    front: TestClient, service: Service, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(stored, "_store", full)
    answer = submit({})
    record = service.jobs.get(answer.json()["id"])
    assert service.jobs.wait(record, WAIT_S)
    assert front.get(answer.headers["location"]).json()["error"]["code"] == "storage_full"
    assert service.vault is not None
    until(lambda: not service.vault.results.has(record.id))


def test_a_stored_ct_that_went_is_said(
    front: TestClient, service: Service, submit: Submit, files: Files
) -> None:
    assert service.vault is not None
    stored = service.vault.studies / "gone.nii.gz"
    stored.write_bytes(files.ct.read_bytes())
    place = done(front, service, submit({}, image="gone"))
    stored.unlink()
    assert front.get(f"{place}/variants/1/box").status_code == 200
    assert code(front.get(f"{place}/variants/1/volume")) == (404, "unknown_reference")
    assert code(front.post(f"{place}/variants/1/accept")) == (404, "unknown_reference")


def test_without_gpu_memory_the_model_runs_on_the_cpu_and_says_so(
    front: TestClient, service: Service, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, tried = models.load_model, list[str | None]()

    def small_gpu(installed: Any, device: str | None) -> Any:
        tried.append(device)
        if device != "cpu":
            raise torch.cuda.OutOfMemoryError
        return load(installed, device)

    pool = models.ModelPool(service.models.root)
    monkeypatch.setattr(models, "load_model", small_gpu)
    warm = pool.warm
    monkeypatch.setattr(service.models, "warm", lambda name, device: warm(name, "cuda:0"))
    place = done(front, service, submit({}))
    assert tried == ["cuda:0", "cuda:0", "cpu"]
    assert front.get(place).json()["remarks"] == [models.ON_CPU]
    assert front.get(f"{place}/variants/1").json()["remarks"] == [models.ON_CPU]
    assert pool.names("cuda:0") == []


def test_the_least_recently_used_model_goes_first(models_dir: Path) -> None:
    size = (models_dir / MODEL / "models" / "model.safetensors").stat().st_size
    pool = models.ModelPool(models_dir, limit_bytes=size)
    first = pool.warm(MODEL, "cpu").model
    assert pool.warm(MODEL, "cpu").model is first
    monkey = pool._warm["cpu"]
    monkey["other"] = models.Warm(first, size)
    pool.warm(MODEL, "cpu")
    assert pool.names("cpu") == [MODEL]


@pytest.mark.parametrize("wanted", ["tpu", "cuda:99", "cpu,cpu", "cpu,", "cuda:-1"])
def test_devices_that_are_not_there(wanted: str) -> None:
    with pytest.raises(InvalidRequest, match="this machine has"):
        choose_devices(wanted)


def test_devices_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("LESIONBRUSH_DEVICE", raising=False)
    assert choose_devices() == ["cuda:0", "cuda:1", "cuda:2"]
    assert choose_devices("cuda") == ["cuda:0", "cuda:1", "cuda:2"]
    monkeypatch.setenv("LESIONBRUSH_DEVICE", "cuda:2, cpu")
    assert choose_devices() == ["cuda:2", "cpu"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert choose_devices("") == ["cpu"]
    with pytest.raises(InvalidRequest, match="cuda: this machine has cpu"):
        choose_devices("cuda")
