"""Results of the real server, started by MONAI Label's stock command, over real HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import requests
from dicom_fixtures import Series, write_series
from lesionbrush.core.volume import Volume
from lesionbrush.files.io import read_volume
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest
from LesionBrushLib.client import Result, ServerError
from server_kit import FAST, MODEL, STORED, Files, Server, edit_region, make_ct, make_mask, post

pytest_plugins = "server_fixtures"
pytestmark = pytest.mark.server

Infer = Callable[..., Result]


def models_of(server: Server) -> dict[str, Any]:
    models: dict[str, Any] = requests.get(f"{server.url}/info/", timeout=60).json()["models"]
    return models


def test_info_tells_all_about_each_model(server: Server) -> None:
    models = models_of(server)
    assert models["tiny"]["type"] == "scribbles"  # what MONAI Label's plugin sends a drawn label to
    assert models["tiny"]["problem"] is None
    assert "SHA-256" in models["altered"]["problem"]
    assert "missing" in models["bare"]["problem"]
    assert models["tiny"]["schema"] == SynthesisRequest.model_json_schema()
    assert models["tiny"]["card"]["weights_license"] == "Apache-2.0"
    assert models["tiny"]["card"]["tissue"]["name"] == "lung"


def test_info_has_plain_options_for_other_clients(server: Server) -> None:
    config = models_of(server)["tiny"]["config"]
    assert config["healthy_from"][0] == SynthesisRequest().healthy_from
    assert "sampler" not in config  # these clients send what they are told of: what may stay open does
    assert config["steps"] == SynthesisRequest().steps
    scalars = [value for value in config.values() if isinstance(value, (int, float, str))]
    lists = [value for value in config.values() if isinstance(value, list)]
    assert len(scalars) + len(lists) == len(config)
    assert all(isinstance(choice, str) for choices in lists for choice in choices)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_nothing_outside_the_edit_region_changes_on_disk(infer: Infer, files: Files, suffix: str) -> None:
    sent = files.save(make_ct(), f"reference{suffix}")
    result = infer(f"out{suffix}", reference_path=sent)
    before, after = read_volume(sent), read_volume(result.path)
    changed = before.array != after.array
    assert after.array.dtype == np.int16
    assert np.array_equal(before.affine, after.affine)
    assert not changed[~edit_region()].any()
    assert changed.sum() == result.provenance["voxels_changed"] > 100
    assert set(result.seconds) == {"load", "read", "prepare", "sample", "compose", "write"}


def test_a_folder_of_dicom_slices(infer: Infer, files: Files, tmp_path: Path) -> None:
    write_series(tmp_path / "series", Series(make_ct().array[:, :, :16], (1.1, 1.1, 1.5)))
    reference = read_volume(tmp_path / "series")
    mask = files.save(Volume(make_mask().array[:, :, 12:28], reference.affine), "dicom_mask.nii.gz")
    result = infer("out.nii.gz", reference_path=tmp_path / "series", mask_path=mask)
    after = read_volume(result.path)
    assert np.allclose(after.affine, reference.affine, atol=1e-4)
    assert (after.array != reference.array).sum() == result.provenance["voxels_changed"] > 100


def test_a_stored_ct_gives_what_the_uploaded_one_gives(infer: Infer, files: Files) -> None:
    uploaded = infer("a.nii", reference_path=files.ct).path.read_bytes()
    assert infer("b.nii").path.read_bytes() == uploaded
    assert infer("c.nii").path.read_bytes() == uploaded


def test_the_seed_decides(infer: Infer) -> None:
    def voxels(name: str, seed: int) -> bytes:
        return infer(name, params={**FAST, "seed": seed}).path.read_bytes()[352:]  # the header names the seed

    first = voxels("a.nii", 5)
    assert voxels("b.nii", 5) == first
    assert voxels("c.nii", 6) != first


def test_image_json_and_all(server: Server, files: Files, tmp_path: Path) -> None:
    image, record, both = (post(server, files.mask, output=kind) for kind in ("image", "json", "all"))
    path = tmp_path / "ct.nii.gz"
    path.write_bytes(image.content)
    changed = int((read_volume(path).array != make_ct().array).sum())
    assert record.json()["variants"][0]["voxels_changed"] == changed
    for answer in (image, record, both):
        assert answer.headers["X-LesionBrush-Voxels-Changed"] == str(changed)
        assert answer.headers["X-LesionBrush-Seed"] == "5"
        assert answer.headers["X-LesionBrush-Model"] == MODEL
        assert "access-control-allow-origin" not in answer.headers
    assert 'filename="synthetic_ct.nii.gz"' in image.headers["content-disposition"]
    assert both.headers["content-type"].startswith("multipart/form-data")
    assert int(both.headers["content-length"]) == len(both.content)


def test_the_format_is_the_references_or_the_one_asked_for(server: Server, files: Files) -> None:
    assert post(server, files.mask, output="image").content[:2] == b"\x1f\x8b"
    assert post(server, files.mask, output="image", format="mha").content.startswith(b"ObjectType = Image")


def test_variants_come_together(infer: Infer, server: Server, files: Files, tmp_path: Path) -> None:
    params = {**FAST, "variants": 3}
    result = infer("ct.nii.gz", params=params)
    assert [path.name for path in result.paths] == ["ct-1.nii.gz", "ct-2.nii.gz", "ct-3.nii.gz"]
    assert [record["seed"] for record in result.provenances] == [5, 6, 7]
    first, second, third = (read_volume(path).array for path in result.paths)
    assert (first != second).any()
    assert (second != third).any()
    archive = tmp_path / "all.zip"
    archive.write_bytes(post(server, files.mask, params=params, output="image").content)
    assert "synthetic_ct-2.provenance.json" in ZipFile(archive).namelist()


def test_the_box_alone(infer: Infer) -> None:
    result = infer("box.nrrd", params={**FAST, "output": "box"})
    box, record = read_volume(result.path), result.provenance
    part = tuple(slice(o, o + n) for o, n in zip(record["box_offset"], record["box_shape"], strict=True))
    assert list(box.shape) == record["box_shape"]
    assert np.allclose(box.affine[:, 3], make_ct().affine @ [*record["box_offset"], 1], atol=1e-4)
    assert int((box.array != make_ct().array[part]).sum()) == record["voxels_changed"]


def test_info_answers_during_a_synthesis(infer: Infer, server: Server) -> None:
    waits = []
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(infer, "slow.nii", params={"steps": 80})
        while not running.done():
            began = time.monotonic()
            models_of(server)
            waits.append(time.monotonic() - began)
            time.sleep(0.05)
    assert running.result().path.exists()
    assert len(waits) > 2
    assert max(waits) < 1


def test_two_at_once_are_both_right(server: Server, files: Files) -> None:
    def voxels(seed: int) -> bytes:
        params = {**FAST, "seed": seed}
        return post(server, files.mask, params=params, output="image", format="nii").content

    alone = [voxels(1), voxels(2)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(voxels, (1, 2)))
    assert together == alone
    assert alone[0][352:] != alone[1][352:]


def test_a_crash_is_an_answer_and_the_server_lives_on(infer: Infer, server: Server, files: Files) -> None:
    crashed = post(server, files.mask, "crashing")
    assert crashed.status_code == 500
    assert crashed.json()["detail"]["code"] == "internal_error"
    assert not any(word in crashed.text for word in ("Traceback", "KeyError", "/", "nobody"))
    incident = crashed.json()["detail"]["message"].split()[-1]
    assert f"incident {incident}: KeyError in infer crashing" in server.log.read_text()
    assert infer("ct.nii").path.exists()


def test_nothing_is_left_behind(infer: Infer, server: Server, files: Files, tmp_path: Path) -> None:
    """After a result, a refusal and a crash, and when the client goes away before the result has come."""
    infer("a.nii")
    with pytest.raises(ServerError):
        infer("b.nii", "nobody", reference_path=files.ct)
    post(server, files.mask, "crashing")
    url, query = f"{server.url}/infer/{MODEL}", {"image": STORED, "output": "image", "format": "nii"}
    with files.mask.open("rb") as mask, requests.Session() as session:
        session.post(url, params=query, files={"label": (files.mask.name, mask)}, stream=True, timeout=60)
    assert server.leftovers() == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nii", "a.provenance.json"]
