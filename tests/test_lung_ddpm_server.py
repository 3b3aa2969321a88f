"""Lung-DDPM and Lung-DDPM+ as infer tasks of a real server."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from jobs_kit import until
from lesionbrush.core.volume import Volume
from lesionbrush.files.io import read_volume, write_volume
from lung_ddpm_kit import install_layout_model
from own_server import Started, serving
from server_kit import STORED, edit_region, make_ct, make_mask

pytestmark = pytest.mark.server
LUNGS = (slice(6, 58), slice(6, 58), slice(4, 36))
FAR_AWAY = make_ct().affine + np.array([[0, 0, 0, 1000.0], *np.zeros((3, 4))])
BOTH = pytest.mark.parametrize("model", ["lung_ddpm", "lung_ddpm_plus"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    root = tmp_path_factory.mktemp("server")
    for system in ("lung_ddpm", "lung_ddpm_plus"):
        install_layout_model(root / "models", system)
    with serving(root, root / "models") as started:
        yield started


def lungs() -> Volume:
    array = np.zeros(make_ct().shape, np.uint8)
    array[LUNGS] = 1
    return make_ct().with_array(array)


def ask(server: Started, folder: Path, model: str, lung: Volume | None, **params: Any) -> requests.Response:
    """POST /infer: the mask, and lungs where the model takes them."""
    files = {}
    for name, volume in (("label", make_mask()), ("lungs", lung)):
        if volume is not None:
            write_volume(volume, folder / f"{name}.nii.gz")
            files[name] = (f"{name}.nii.gz", (folder / f"{name}.nii.gz").read_bytes())
    return requests.post(
        f"{server.url}/infer/{model}",
        params={"image": STORED, "output": "image"},
        data={"params": json.dumps({"steps": 2, "seed": 5, **params})},
        files=files,
        timeout=240,
    )


def made(server: Started, folder: Path, model: str, **params: Any) -> np.ndarray:
    answer = ask(server, folder, model, lungs() if model == "lung_ddpm" else None, **params)
    assert answer.status_code == 200, answer.text
    content = gzip.decompress(answer.content) if answer.content[:2] == b"\x1f\x8b" else answer.content
    (folder / "out.nii").write_bytes(content)
    array: np.ndarray = read_volume(folder / "out.nii").array
    return array


@BOTH
def test_it_is_offered_with_its_own_parameters(server: Started, model: str) -> None:
    config = requests.get(f"{server.url}/info/", timeout=60).json()["models"][model]["config"]
    assert config["as_published"] is False
    assert ("region" in config) == (model == "lung_ddpm")
    assert ("start" in config) == (model == "lung_ddpm_plus")


@pytest.mark.parametrize(
    ("model", "params"),
    [
        ("lung_ddpm", {"region": "edit"}),
        ("lung_ddpm", {"region": "lungs"}),
        ("lung_ddpm_plus", {"start": "blended"}),
        ("lung_ddpm_plus", {"start": "inversion"}),
    ],
)
def test_outside_the_region_no_voxel_changes_and_a_seed_is_a_ct(
    server: Started, tmp_path: Path, model: str, params: dict[str, Any]
) -> None:
    array = made(server, tmp_path, model, **params)
    allowed = edit_region().copy()
    if params.get("region") == "lungs":
        allowed[LUNGS] = True
    changed = array != make_ct().array
    assert array.dtype == np.int16
    assert not (changed & ~allowed).any()
    assert changed[make_mask().array > 0].mean() > 0.9
    assert np.array_equal(array, made(server, tmp_path, model, **params))


@pytest.mark.parametrize(
    ("model", "lung", "params", "reason"),
    [
        ("lung_ddpm", make_ct().with_array(np.zeros(make_ct().shape, np.uint8)), {}, "lungs"),
        ("lung_ddpm", Volume(lungs().array, FAR_AWAY), {}, "lungs"),
        ("lung_ddpm_plus", lungs(), {}, "takes no such volume"),
        ("lung_ddpm", lungs(), {"region": "everything"}, "region"),
        ("lung_ddpm", lungs(), {"steps": 251}, "noise levels"),
        ("lung_ddpm_plus", None, {"attributes": {}}, "attributes: unknown parameter"),
    ],
    ids=["empty lungs", "elsewhere", "not taken", "no such region", "too many steps", "unknown"],
)
def test_what_cannot_be_is_refused_with_a_reason(
    server: Started, tmp_path: Path, model: str, lung: Volume | None, params: dict[str, Any], reason: str
) -> None:
    answer = ask(server, tmp_path, model, lung, **params)
    assert 400 <= answer.status_code < 500
    assert reason in answer.text


@BOTH
def test_a_job_can_be_cancelled(server: Started, tmp_path: Path, model: str) -> None:
    write_volume(make_mask(), tmp_path / "label.nii.gz")
    write_volume(lungs(), tmp_path / "lungs.nii.gz")
    names = ("label", "lungs") if model == "lung_ddpm" else ("label",)
    answer = requests.post(
        f"{server.url}/lesionbrush/v1/jobs",
        params={"model": model, "image": STORED},
        data={"params": json.dumps({"as_published": True})},
        files={name: (f"{name}.nii.gz", (tmp_path / f"{name}.nii.gz").read_bytes()) for name in names},
        timeout=60,
    )
    assert answer.status_code == 202, answer.text
    place = f"{server.url}{answer.headers['Location']}"
    until(lambda: bool(requests.get(place, timeout=60).json()["step"]), 60)
    requests.delete(place, timeout=30)
    until(lambda: requests.get(place, timeout=60).json()["state"] == "cancelled", 60)
