"""What costs time is done once: an upload is unpacked to be checked and to be read, a mask is placed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doors_kit import gzip_bomb, nifti_header
from fastapi.testclient import TestClient
from jobs_fixtures import V1, Submit, code, done
from lesionbrush.core import volume
from lesionbrush.core.volume import Volume
from lesionbrush.files import io as files_io
from lesionbrush.files.io import read_volume, write_volume
from lesionbrush.server.doors import limits
from lesionbrush.server.synthesis.inference import Service
from server_kit import MODEL, STORED, Files, make_ct, make_mask

pytest_plugins = ("server_fixtures", "jobs_fixtures")
ONCE = {("checked", "reference"): 1, ("read", "reference"): 1}
BOTH = {**ONCE, ("checked", "mask"): 1, ("read", "mask"): 1}


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, str]]:
    """How often a packed file was unpacked, by why and by its name."""
    found: Counter[tuple[str, str]] = Counter()

    def counting(call: Callable[..., Any], why: str) -> Callable[..., Any]:
        def counted(path: Path, *more: Any) -> Any:
            found[why, path.name.partition(".")[0]] += 1
            return call(path, *more)

        return counted

    monkeypatch.setattr(limits, "_require_no_bomb", counting(limits._require_no_bomb, "checked"))
    monkeypatch.setattr(files_io, "_read_file", counting(files_io._read_file, "read"))
    return found


@pytest.fixture
def placed(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """The label of each mask that was placed on the grid of a CT."""
    found: list[int | None] = []
    place = volume._lesion

    def counted(array: np.ndarray, label: int | None) -> np.ndarray:
        found.append(label)
        return place(array, label)

    monkeypatch.setattr(volume, "_lesion", counted)
    return found


def fresh_ct(number: int) -> Volume:
    return make_ct().with_array(make_ct().array - number)


def packed(volume: Volume, path: Path) -> bytes:
    write_volume(volume, path)
    return path.read_bytes()


def final_label(front: TestClient, service: Service, variant: str) -> Volume:
    image = front.post(f"{variant}/accept").json()["image"]
    assert service.vault is not None
    return read_volume(service.vault.studies / "labels" / "final" / f"{image}.nii.gz")


def test_infer_unpacks_an_upload_twice_at_most(
    front: TestClient, files: Files, tmp_path: Path, unpacked: Counter[tuple[str, str]]
) -> None:
    form = {
        "file": ("ct.nii.gz", packed(fresh_ct(1), tmp_path / "a.nii.gz")),
        "label": ("m.nii.gz", files.mask.read_bytes()),
    }
    answer = front.post(f"/infer/{MODEL}", params={"output": "json"}, files=form, data={"params": "{}"})
    assert answer.status_code == 200, answer.text
    assert unpacked == BOTH


def test_so_does_an_uploaded_reference_with_its_job(
    front: TestClient, service: Service, submit: Submit, tmp_path: Path, unpacked: Counter[tuple[str, str]]
) -> None:
    content = packed(fresh_ct(2), tmp_path / "a.nii.gz")
    unpacked.clear()
    name = sha256(content).hexdigest()
    front.put(f"{V1}/references/{name}", params={"format": "nii.gz"}, content=content)
    assert unpacked == ONCE
    done(front, service, submit({"seed": 1}, reference=name))
    assert unpacked == BOTH


def test_a_bomb_is_not_read(
    front: TestClient, files: Files, tmp_path: Path, unpacked: Counter[tuple[str, str]]
) -> None:
    content = gzip_bomb(tmp_path / "b.nii.gz", nifti_header((4, 4, 4)), 3_000_000).read_bytes()
    bomb, mask = ("x.nii.gz", content), ("m.nii.gz", files.mask.read_bytes())
    name = sha256(content).hexdigest()
    answers = [
        front.post(f"/infer/{MODEL}", files={"file": bomb, "label": mask}),
        front.post(f"/infer/{MODEL}", params={"image": STORED}, files={"label": bomb}),
        front.put(f"{V1}/references/{name}", params={"format": "nii.gz"}, content=content),
    ]
    assert [code(answer) for answer in answers] == [(413, "too_large")] * 3
    assert {why for why, _ in unpacked} == {"checked"}


def test_a_mask_is_placed_once(
    front: TestClient, service: Service, submit: Submit, placed: list[int | None]
) -> None:
    """For the job, its variants, and the cases they become."""
    place = done(front, service, submit({"seed": 31, "variants": 2}))
    for number in (1, 2):
        label = final_label(front, service, f"{place}/variants/{number}")
        assert np.array_equal(label.array, make_mask().array)
        assert label.array.dtype == np.uint8
    assert placed == [None]


def test_one_label_of_several_on_a_part_of_the_grid(
    front: TestClient, service: Service, reference: str, tmp_path: Path, placed: list[int | None]
) -> None:
    several = make_mask(3)
    several.array[24, 28, 12] = 1
    part = several.crop((slice(20, 42), slice(24, 46), slice(10, 30)))
    form = {"label": ("m.nii.gz", packed(part, tmp_path / "m.nii.gz"))}
    query, data = {"model": MODEL, "reference": reference}, {"params": '{"steps": 2, "label": 3}'}
    place = done(front, service, front.post(f"{V1}/jobs", params=query, files=form, data=data))
    label = final_label(front, service, f"{place}/variants/1")
    assert np.array_equal(label.array, make_mask().array)
    assert front.get(f"{place}/variants/1").json()["request"]["label"] == 3
    assert placed == [3]


def test_what_came_with_a_job_does_not_stay(front: TestClient, service: Service, submit: Submit) -> None:
    answer = submit({"seed": 32})
    done(front, service, answer)
    assert service.vault is not None
    folder = service.vault.results.folder(answer.json()["id"])
    assert {path.name for path in folder.iterdir()} == {"1.box", "1.json", "lesion.npz"}
    with np.load(folder / "lesion.npz") as stored:
        assert stored["box"].size < make_mask().array.size / 8


def test_a_label_is_checked_once(
    front: TestClient, service: Service, tmp_path: Path, unpacked: Counter[tuple[str, str]]
) -> None:
    assert service.vault is not None
    write_volume(fresh_ct(3), service.vault.studies / "labelled.nii.gz")
    form = {"label": ("m.nii.gz", packed(make_mask(), tmp_path / "m.nii.gz"))}
    unpacked.clear()
    answer = front.put("/datastore/label", params={"image": "labelled"}, files=form)
    assert answer.status_code == 200, answer.text
    assert {what: count for what, count in unpacked.items() if what[1] != "labelled"} == {
        ("checked", "mask"): 1,
        ("read", "mask"): 1,
    }
    assert (service.vault.studies / "labels" / "final" / "labelled.nii.gz").is_file()
