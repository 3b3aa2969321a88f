"""The requests of MONAI Label's OHIF plugin (0.8.5: plugins/ohifv3), against studies in a real Orthanc."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from lesionbrush.files.io import read_volume, write_volume
from server_kit import FAST, MODEL, make_mask
from test_orthanc_server import Hospitals, site  # noqa: F401

pytestmark = pytest.mark.server

PAGE = "https://viewer.hospital.example"
ACCEPT = {"accept": "application/json,multipart/form-data"}


@pytest.fixture
def at(site: Hospitals) -> Hospitals:  # noqa: F811
    return site


def infer(at: Hospitals, image: str, **files: Any) -> requests.Response:
    params = {
        **FAST,
        "result_extension": ".nrrd",
        "result_dtype": "uint8",
        "result_compress": False,
        "restore_label_idx": False,
    }
    form = {"params": (None, json.dumps(params)), **files}
    query = {"image": image, "output": "image"}
    return requests.post(f"{at.url}/infer/{MODEL}", params=query, files=form, headers=ACCEPT, timeout=120)


def next_sample(at: Hospitals) -> dict[str, str]:
    answer = requests.post(f"{at.url}/activelearning/random", json={}, headers=ACCEPT, timeout=60)
    assert answer.ok, answer.text
    sample: dict[str, str] = answer.json()
    return sample


def test_its_panel_is_filled(at: Hospitals) -> None:
    info = requests.get(f"{at.url}/info/", timeout=30).json()
    assert info["datastore"]["total"] >= 0
    assert all(isinstance(model["labels"], list) for model in info["models"].values())
    training = requests.get(f"{at.url}/train/", params={"check_if_running": "true"}, timeout=30)
    assert training.status_code == 501, "it shows that as: not running"


def test_a_day_with_it(at: Hospitals, tmp_path: Path) -> None:
    sample = next_sample(at)
    assert sample["id"] == sample["SeriesInstanceUID"] == at.series
    assert sample["StudyInstanceUID"]
    assert sample["Modality"] == "CT"
    nothing = infer(at, at.series)
    assert (nothing.status_code, nothing.json()["detail"]["code"]) == (422, "invalid_request")
    write_volume(at.reference.with_array(make_mask().array), tmp_path / "mask.nii.gz")
    mask = (tmp_path / "mask.nii.gz").read_bytes()
    drawn = infer(at, at.series, label=("mask.nii.gz", mask))
    assert drawn.ok, drawn.text
    form = {"params": (None, "{}"), "label": ("mask.nii.gz", mask)}
    sent = requests.put(
        f"{at.url}/datastore/label", params={"image": at.series}, files=form, headers=ACCEPT, timeout=120
    )
    assert sent.ok, sent.text
    (case,) = sent.json()["cases"]
    assert next_sample(at) == {}, "its study has a case now"
    stored = infer(at, case)  # nothing is sent: the lesion is the SEG that the archive has
    assert stored.ok, stored.text
    for answer in (drawn, stored):
        assert b"encoding: raw" in answer.content[:2000], "its reader unpacks nothing"
        (tmp_path / "label.nrrd").write_bytes(answer.content)
        assert np.array_equal(read_volume(tmp_path / "label.nrrd").array, make_mask().array)


def test_its_label_without_a_header_is_refused(at: Hospitals) -> None:
    """OHIF 2's scribbles: bare voxels, which do not say how they lie."""
    answer = infer(at, at.series, label=("label.bin", make_mask().array.tobytes()))
    assert (answer.status_code, answer.json()["detail"]["code"]) == (422, "invalid_request")
    assert "unknown file type" in answer.json()["detail"]["message"]


def test_a_session_does_not_ask_the_archive(at: Hospitals, tmp_path: Path) -> None:
    """As the 3D Slicer plugin sends it: the name of a volume that no archive has, and a session."""
    write_volume(at.reference, tmp_path / "ct.nii.gz")
    write_volume(at.reference.with_array(make_mask().array), tmp_path / "mask.nii.gz")
    form = {"files": ("ct.nii.gz", (tmp_path / "ct.nii.gz").read_bytes())}
    session = requests.put(f"{at.url}/session/", files=form, timeout=60).json()["session_id"]
    label = ("mask.nii.gz", (tmp_path / "mask.nii.gz").read_bytes())
    answer = requests.post(
        f"{at.url}/infer/{MODEL}",
        params={"image": "MyCT", "session_id": session, "output": "json"},
        files={"params": (None, json.dumps(FAST)), "label": label},
        timeout=120,
    )
    assert answer.json()["variants"][0]["voxels_changed"] > 100


def test_a_page_elsewhere_has_to_be_listed(at: Hospitals) -> None:
    answer = requests.post(f"{at.url}/activelearning/random", json={}, headers={"Origin": PAGE}, timeout=60)
    assert (answer.status_code, answer.json()["detail"]["code"]) == (403, "foreign_origin")
