"""Each word of MONAI Label that is called honoured changes the answer; those passed over change no voxel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from lesionbrush.files.io import read_volume
from server_kit import FAST, MODEL, STORED, Files, Server, make_mask, post

pytest_plugins = "server_fixtures"
pytestmark = pytest.mark.server


def volume(server: Server, mask: Path, out: Path, **words: Any) -> np.ndarray:
    answer = post(server, mask, params={**FAST, **words}, output="image")
    assert answer.ok, answer.text
    name = answer.headers["content-disposition"].split('"')[1]
    (out / name).write_bytes(answer.content)
    return read_volume(out / name).array


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_result_extension_is_the_format(server: Server, files: Files, tmp_path: Path, suffix: str) -> None:
    volume(server, files.mask, tmp_path, result_extension=suffix)
    volume(server, files.mask, tmp_path, result_extension=suffix, result_dtype="uint8")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"synthetic_ct{suffix}", f"lesion_label{suffix}"}
    ours = post(server, files.mask, params={**FAST, "result_extension": suffix}, output="image", format="mha")
    assert "synthetic_ct.mha" in ours.headers["content-disposition"], "our own parameter decides"


def test_result_dtype_is_the_ct_or_the_label_map(server: Server, files: Files, tmp_path: Path) -> None:
    plain = volume(server, files.mask, tmp_path)
    assert np.array_equal(volume(server, files.mask, tmp_path, result_dtype="int16"), plain)
    for dtype in ("uint8", "uint16"):
        lesion = volume(server, files.mask, tmp_path, result_dtype=dtype)
        assert lesion.dtype == dtype
        assert np.array_equal(lesion, make_mask().array)


def test_client_id_names_who_runs(server: Server, files: Files) -> None:
    """A case is recorded under it, see test_stock_plugin; and one's runs are not another's."""
    own, file = {"image": "of-this-test"}, {"file": ("x.nii.gz", files.ct.read_bytes())}
    assert requests.put(f"{server.url}/datastore/image", params=own, files=file, timeout=60).ok
    params = {**FAST, "result_dtype": "uint8", "client_id": "word-test"}
    assert post(server, files.mask, params=params, output="json", **own).ok

    def submitted(client_id: str, tag: str) -> dict[str, Any]:
        answer = requests.put(
            f"{server.url}/datastore/label",
            params={**own, "tag": tag},
            data={"params": json.dumps({"client_id": client_id})},
            files={"label": ("m.nii.gz", files.mask.read_bytes())},
            timeout=60,
        )
        body: dict[str, Any] = answer.json()
        return body

    assert submitted("word-test", "final")["cases"]
    assert "cases" not in submitted("word-test", "words")


def test_device_is_one_of_this_server(server: Server, files: Files) -> None:
    there = requests.get(f"{server.url}/lesionbrush/v1/", timeout=30).json()["devices"]
    answer = post(server, files.mask, params={**FAST, "device": there[0]}, output="json")
    assert answer.json()["variants"][0]["device"].startswith(there[0].partition(":")[0])
    refused = post(server, files.mask, params={**FAST, "device": "cuda:99"}, output="json")
    assert refused.status_code == 422
    assert there[0] in refused.json()["detail"]["message"]


def test_label_info_says_which_value_is_the_lesion(server: Server, files: Files, tmp_path: Path) -> None:
    two = files.save(two_labels(), "two.nii.gz")
    assert post(server, two).json()["detail"]["code"] == "ambiguous_mask"
    info = [{"name": "lesion", "id": 2}, {"name": "vessel", "id": 1}]
    for selected, value in (("lesion", 2), ("vessel", 1)):
        words = {"label_info": info, "selected_label_name": selected, "result_dtype": "uint8"}
        lesion = volume(server, two, tmp_path, **words)
        assert np.array_equal(lesion, two_labels().array == value)


def test_our_own_label_comes_before_label_info(server: Server, files: Files, tmp_path: Path) -> None:
    two, info = files.save(two_labels(), "two.nii.gz"), [{"name": "lesion", "id": 2}]
    lesion = volume(server, two, tmp_path, label=1, label_info=info, result_dtype="uint8")
    assert np.array_equal(lesion, two_labels().array == 1)


def two_labels() -> Any:
    array = make_mask().array.copy()
    upper = array[:, :, array.shape[2] // 2 :]
    upper[upper > 0] = 2
    return make_mask().with_array(array)


@pytest.mark.parametrize(
    "word",
    [
        {"result_compress": True}, {"restore_label_idx": True}, {"logging": "DEBUG"}, {"largest_cc": True},
        {"model_filename": "other.pt"}, {"roi": [1, 2, 3, 4, 5, 6]},
    ],
)  # fmt: skip
def test_a_word_that_means_nothing_here_changes_nothing(
    server: Server, files: Files, tmp_path: Path, word: dict[str, Any]
) -> None:
    plain = volume(server, files.mask, tmp_path)
    assert np.array_equal(volume(server, files.mask, tmp_path, **word), plain)


@pytest.mark.parametrize("word", ["client_id", "result_dtype", "logging", "device", "stepz"])
def test_our_own_routes_take_none_of_them(server: Server, files: Files, word: str) -> None:
    answer = requests.post(
        f"{server.url}/lesionbrush/v1/jobs",
        params={"model": MODEL, "image": STORED},
        data={"params": json.dumps({word: "x"})},
        files={"label": ("m.nii.gz", files.mask.read_bytes())},
        timeout=30,
    )
    assert answer.status_code == 422
    assert f"{word}: unknown parameter (got 'x'); known are seed," in answer.json()["detail"]["message"]
