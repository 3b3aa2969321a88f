"""A CT that is synthetic itself: its record goes into that of the edit, however the CT came."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from jobs_fixtures import V1, code, done
from lesionbrush.core.volume import Volume
from lesionbrush.files.io import write_volume
from lesionbrush.server.storage.cases import RECORD, Cases
from lesionbrush.server.storage.private import private_root
from lesionbrush.server.synthesis.inference import Service
from server_kit import MODEL, STORED, Files, make_ct

pytest_plugins = ("server_fixtures", "jobs_fixtures")


@pytest.fixture
def mask(files: Files) -> dict[str, Any]:
    return {"label": ("mask.nii.gz", files.mask.read_bytes())}


@pytest.fixture
def studies(service: Service) -> Path:
    assert service.vault is not None
    return service.vault.studies


def ask(front: TestClient, mask: Any, record: str | None = None, **query: str) -> Any:
    data = {"params": '{"steps": 2}', **({} if record is None else {"record": record})}
    return front.post(f"{V1}/jobs", params={"model": MODEL, **query}, files=mask, data=data)


def record_of(front: TestClient, service: Service, answer: Any) -> dict[str, Any]:
    record: dict[str, Any] = front.get(f"{done(front, service, answer)}/variants/1").json()
    return record


def test_an_edit_of_a_generated_case(front: TestClient, service: Service, tmp_path: Path) -> None:
    answer = front.post(f"{V1}/jobs", params={"model": "noise"}, data={"params": '{"seed": 11}'})
    place = done(front, service, answer)
    image = front.post(f"{place}/variants/1/accept").json()["image"]
    painted = np.zeros((24, 20, 6), np.uint8)
    painted[8:14, 8:14, 2:4] = 1
    write_volume(Volume(painted, np.diag([1.5, 1.5, 5.0, 1.0])), tmp_path / "mask.nii")
    mask = {"label": ("mask.nii", (tmp_path / "mask.nii").read_bytes())}
    edited = record_of(front, service, ask(front, mask, image=image))
    assert edited["generated"]
    assert (edited["made_from"]["model"], edited["made_from"]["seed"]) == ("noise", 11)
    both = ask(front, mask, "{}", image=image)
    assert code(both) == (422, "invalid_request")
    assert "a stored image has its own" in both.json()["detail"]["message"]


def test_the_record_of_an_uploaded_ct(front: TestClient, service: Service, mask: Any, reference: str) -> None:
    first = record_of(front, service, ask(front, mask, reference=reference))
    second = record_of(front, service, ask(front, mask, json.dumps(first), reference=reference))
    assert second["made_from"] == first
    assert (first["made_from"], second["generated"]) == (None, False)
    for wrong in ("{}", "no JSON", json.dumps({**first, "seed": "x"})):
        refused = ask(front, mask, wrong, reference=reference)
        assert code(refused) == (422, "invalid_request")
        assert "record: this is no record of LesionBrush" in refused.json()["detail"]["message"]


def test_the_same_key_with_another_record(
    front: TestClient, service: Service, mask: Any, reference: str
) -> None:
    first = record_of(front, service, ask(front, mask, reference=reference))
    asked = {
        "params": {"model": MODEL, "reference": reference},
        "files": mask,
        "headers": {"Idempotency-Key": "r-1"},
    }
    assert front.post(f"{V1}/jobs", **asked).status_code == 202
    again = front.post(f"{V1}/jobs", **asked, data={"record": json.dumps(first)})
    assert code(again) == (409, "idempotency_conflict")


def test_a_record_at_the_stock_address(front: TestClient, service: Service, mask: Any, files: Files) -> None:
    first = record_of(front, service, ask(front, mask, image=STORED))
    form = {**mask, "file": ("ct.nii.gz", files.ct.read_bytes())}
    sent = {"params": '{"steps": 1}', "record": json.dumps(first)}
    answer = front.post(f"/infer/{MODEL}", params={"output": "json"}, files=form, data=sent)
    assert answer.json()["variants"][0]["made_from"] == first


OLD = {
    "synthetic": True,
    "notice": "Synthetic CT made by LesionBrush. Not for diagnosis; not a medical device.",
    "model": MODEL,
    "weights_sha256": "1" * 64,
    "weights_license": "Apache-2.0",
    "attribution": "none",
    "request": {"seed": 1, "variants": 1, "steps": 12, "margin_mm": 3.0},
    "variant": 0,
    "seed": 1,
    "reference_sha256": "2" * 64,
    "box_offset": [1, 2, 3],
    "box_shape": [4, 4, 4],
    "voxels_changed": 64,
    "in_mask": {"voxels": 64, "mean_hu": 0, "std_hu": 1, "p10_hu": -1, "p90_hu": 1},
    "device": "cpu",
    "remarks": [],
    "seconds": {"sample": 1.0},
    "created": "2026-01-01T00:00:00+00:00",
    "versions": {"lesionbrush": "0.1.0"},
    "reference_id": STORED,
    "user": "anna",
    "accepted": "2026-01-01T00:00:01+00:00",
    "key_sha256": "3" * 64,
    "files_sha256": {"image": "4" * 64, "label": "5" * 64},
}
"""Beside a case that an earlier version accepted: no word of generations, nor of names of labels."""


@pytest.mark.parametrize("system", [{}, {"system": "lesion_inpainting"}])
def test_a_case_of_before(
    front: TestClient, service: Service, mask: Any, studies: Path, system: dict[str, str]
) -> None:
    image = f"before-{len(system)}"
    record = {**OLD, "image": image, "request": {**OLD["request"], **system}}
    for part, path in Cases(studies, private_root(studies)).files(image).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if part == RECORD:
            path.write_text(json.dumps(record))
        else:
            write_volume(make_ct(), path)
    again = Cases(studies, private_root(studies))
    assert STORED in again.references()
    assert again.find(OLD["key_sha256"]) is not None
    made = record_of(front, service, ask(front, mask, image=image))
    assert made["made_from"]["request"] == record["request"]
    assert made["made_from"]["in_mask"]["voxels"] == 64
    assert not made["generated"]


def test_a_damaged_record_beside_a_stored_ct(front: TestClient, mask: Any, studies: Path) -> None:
    write_volume(make_ct(), studies / "odd.nii.gz")
    (studies / "odd.provenance.json").write_text("{}")
    answer = ask(front, mask, image="odd")
    assert code(answer) == (422, "damaged_file")
    assert "odd.provenance.json is no record" in answer.json()["detail"]["message"]
