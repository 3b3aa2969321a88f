"""A job whose volumes cannot be right ends before a model is loaded, which may push another one out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from jobs_fixtures import V1, WAIT_S
from lesionbrush.core.volume import Volume
from lesionbrush.files.io import write_volume
from lesionbrush.server.synthesis.inference import Service
from server_kit import MODEL, Files, make_ct, make_mask, make_model

pytest_plugins = ("server_fixtures", "jobs_fixtures")


def elsewhere(volume: Volume) -> Volume:
    affine = volume.affine.copy()
    affine[:3, 3] += 100
    return Volume(volume.array, affine)


def two_labels() -> Volume:
    array = make_mask().array.copy()
    array[2, 2, 2] = 7
    return make_mask().with_array(array)


def empty() -> Volume:
    return make_mask(0)


CASES: list[tuple[str, str, dict[str, Volume]]] = [
    (MODEL, "geometry_mismatch", {"label": elsewhere(make_mask())}),
    (MODEL, "ambiguous_mask", {"label": two_labels()}),
    (MODEL, "empty_mask", {"label": empty()}),
    ("steered", "no_lungs", {"lungs": empty()}),
    ("steered", "geometry_mismatch", {"lungs": elsewhere(make_mask())}),
    ("steered", "not_a_ct", {"anatomy": make_ct().with_array(np.abs(make_ct().array))}),
    ("steered", "geometry_mismatch", {"anatomy": elsewhere(make_ct())}),
    ("steered", "empty_mask", {"pathology": make_ct(), "pathology_mask": empty()}),
]


@pytest.fixture(scope="module", autouse=True)
def steered(models_dir: Path) -> None:
    """A model that takes everything beside CT and mask."""
    make_model(models_dir, "steered", system="steered")


@pytest.mark.parametrize(("model", "code", "sent"), CASES)
def test_no_model_is_loaded(
    front: TestClient,
    service: Service,
    reference: str,
    files: Files,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    code: str,
    sent: dict[str, Volume],
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(service.models, "warm", never)
    form = {"label": ("mask.nii.gz", files.mask.read_bytes())}
    for name, volume in sent.items():
        write_volume(volume, tmp_path / f"{name}.nii")
        form[name] = (f"{name}.nii", (tmp_path / f"{name}.nii").read_bytes())
    data = {"params": json.dumps({"steps": 2})}
    asked = {"model": model, "reference": reference}
    answer = front.post(f"{V1}/jobs", params=asked, files=form, data=data)
    assert answer.status_code == 202, answer.text
    assert service.jobs.wait(service.jobs.get(answer.json()["id"]), WAIT_S)
    status = front.get(answer.headers["location"]).json()
    assert (status["state"], status["error"]["code"]) == ("failed", code), status


@pytest.mark.parametrize(
    ("query", "params", "code"),
    [
        ({"model": "nobody"}, {}, "unknown_model"),
        ({"model": MODEL}, {"stepz": 1}, "invalid_request"),
    ],
)
def test_what_needs_no_volume_is_refused_before_the_queue(
    front: TestClient, reference: str, files: Files, query: dict[str, str], params: dict[str, int], code: str
) -> None:
    form = {"label": ("mask.nii.gz", files.mask.read_bytes())}
    data = {"params": json.dumps(params)}
    answer = front.post(f"{V1}/jobs", params={**query, "reference": reference}, files=form, data=data)
    assert (answer.status_code // 100, answer.json()["detail"]["code"]) == (4, code)
