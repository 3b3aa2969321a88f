"""Whole new CTs over protocol 1: no mask goes in, a CT with its labels comes out."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from jobs_fixtures import V1, code, done
from lesionbrush.core.generate import generate
from lesionbrush.core.inputs import Inputs, Layout
from lesionbrush.core.provenance import GENERATED, Provenance
from lesionbrush.core.volume import Volume
from lesionbrush.files.io import read_volume, write_volume
from lesionbrush.server.synthesis.inference import Service
from lesionbrush.server.synthesis.stored import StoredResult
from lesionbrush.systems import parse_request
from PIL import Image
from server_kit import MODEL, STORED, Files

pytest_plugins = ("server_fixtures", "jobs_fixtures")
NOISE = "noise"
SHAPE = (24, 20, 6)


def ask(front: TestClient, files: Any = None, form: dict[str, str] | None = None, **params: Any) -> Any:
    data = {"params": json.dumps({"steps": 4, **params}), **(form or {})}
    return front.post(f"{V1}/jobs", params={"model": NOISE}, data=data, files=files)


def read(content: bytes, path: Path) -> Volume:
    path.write_bytes(content)
    return read_volume(path)


def nifti(volume: Volume, path: Path) -> tuple[str, bytes]:
    write_volume(volume, path)
    return path.name, path.read_bytes()


def test_what_is_said_of_such_a_model(front: TestClient) -> None:
    models = front.get(f"{V1}/").json()["models"]
    assert models[MODEL]["card"]["kind"] == "edit"
    needs = {name: one["card"]["needs_mask"] for name, one in models.items()}
    assert (needs[MODEL], needs["unpainted"], needs[NOISE]) == (True, False, False)
    card = models[NOISE]["card"]
    assert (card["kind"], card["inputs"]) == ("volume", ["tissues", "report"])
    said = [(one["name"], one["kind"], one["required"], one["on"]) for one in card["takes"]]
    assert said == [("tissues", "layout", False, "own"), ("report", "text", False, "reference")]
    assert all(one["about"] for one in card["takes"])
    assert "seed" in models[NOISE]["schema"]["properties"]


def test_ct_box_and_labels_are_what_the_core_makes(
    front: TestClient, service: Service, tmp_path: Path
) -> None:
    place = done(front, service, ask(front, seed=7, variants=2))
    model = service.models.warm(NOISE, service.jobs.devices[0]).model
    wanted = generate(parse_request({"seed": 7, "variants": 2, "steps": 4}, NOISE), model)
    for number, made in enumerate(wanted, 1):
        variant = f"{place}/variants/{number}"
        record = Provenance.model_validate(front.get(variant).json())
        assert record.generated
        assert record.notice == GENERATED
        assert record.reference_sha256 is None
        assert (record.seed, record.box_shape) == (7 + number - 1, SHAPE)
        ct = read(front.get(f"{variant}/volume").content, tmp_path / "ct.nii.gz")
        assert np.array_equal(ct.array, made.ct.array)
        assert np.allclose(ct.affine, made.ct.affine)
        box = front.get(f"{variant}/box", headers={"Accept-Encoding": "identity"})
        assert np.array_equal(np.frombuffer(box.content, "<i2").reshape(SHAPE, order="F"), made.ct.array)
        assert box.headers["X-LesionBrush-Offset"] == "0,0,0"
        assert box.headers["X-LesionBrush-Reference-Voxels"] == ""
        labels = front.get(f"{variant}/labels", params={"format": "nrrd"})
        assert made.layout is not None
        stored = read(labels.content, tmp_path / "labels.nrrd")
        assert np.array_equal(stored.array, made.layout.labels.array)
        ct.require_same_grid(stored)
        assert front.get(f"{variant}/labels/names").json() == {"1": "body", "2": "lesion"}
    with Image.open(io.BytesIO(front.get(f"{place}/preview").content)) as picture:
        assert picture.size == SHAPE[:2]


def test_labels_where_there_are_none(front: TestClient, service: Service, submit: Any) -> None:
    for answer in (ask(front, labels="none"), submit({})):
        place = done(front, service, answer)
        for ending in ("labels", "labels/names"):
            assert code(front.get(f"{place}/variants/1/{ending}")) == (404, "no_labels")


def test_a_discarded_ct_takes_its_labels_with_it(front: TestClient, service: Service) -> None:
    answer = ask(front, variants=10)
    place = done(front, service, answer)
    front.post(f"{place}/variants/1/discard")
    for ending in ("", "/box", "/volume", "/labels", "/labels/names"):
        assert code(front.get(f"{place}/variants/1{ending}")) == (410, "discarded")
        assert front.get(f"{place}/variants/10{ending}").status_code == 200
    assert service.vault is not None
    assert list(service.vault.results.folder(answer.json()["id"]).glob("1.*")) == []


@pytest.mark.parametrize(
    ("query", "parts", "form", "words"),
    [
        ({}, ["label"], {}, "makes whole CTs: leave out the mask"),
        ({"image": STORED}, [], {}, "leave out the image"),
        ({"reference": "0" * 64}, ["label"], {"record": "{}"}, "the mask and the reference and the record"),
        ({}, [], {"params": '{"margin_mm": 3}'}, "margin_mm: unknown parameter"),
        ({}, [], {"lungs": "x"}, "takes no such volume; it takes tissues, report"),
        ({}, [], {"tissues": "liver"}, "tissues: send a file (got the text 'liver')"),
    ],
)
def test_refused_before_the_queue(
    front: TestClient,
    service: Service,
    files: Files,
    query: dict[str, str],
    parts: list[str],
    form: dict[str, str],
    words: str,
) -> None:
    sent = {name: ("mask.nii.gz", files.mask.read_bytes()) for name in parts}
    before = set(service.jobs._records)
    answer = front.post(f"{V1}/jobs", params={"model": NOISE, **query}, data=form, files=sent or None)
    assert code(answer) == (422, "invalid_request")
    assert words in answer.json()["detail"]["message"]
    assert set(service.jobs._records) == before


def test_an_edit_needs_its_mask(front: TestClient, reference: str) -> None:
    answer = front.post(f"{V1}/jobs", params={"model": MODEL, "reference": reference})
    assert code(answer) == (422, "empty_mask")
    assert "there is no mask: paint a lesion" in answer.json()["detail"]["message"]


def test_unless_its_system_makes_one(
    front: TestClient, service: Service, reference: str, files: Files
) -> None:
    asked = {"model": "unpainted", "reference": reference}
    place = done(front, service, front.post(f"{V1}/jobs", params=asked))
    stored = service.jobs.get(place.rpartition("/")[2]).work
    assert isinstance(stored, StoredResult)
    ct = read_volume(files.ct)
    own = stored.lesion(ct).array > 0
    assert own.sum() == 6**3
    assert (stored.result(1).volume().array != ct.array)[own].all()
    label = {"label": ("mask.nii.gz", files.mask.read_bytes())}
    painted = done(front, service, front.post(f"{V1}/jobs", params=asked, files=label))
    boxes = [front.get(f"{job}/variants/1").json()["box_shape"] for job in (place, painted)]
    assert boxes[0] != boxes[1]


def test_so_does_monai_labels_own_route(front: TestClient) -> None:
    answer = front.post("/infer/unpainted", params={"image": STORED, "output": "json"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["variants"][0]["in_mask"]["voxels"] == 6**3


def test_a_layout_and_a_text_steer_it(front: TestClient, service: Service, tmp_path: Path) -> None:
    tissues = Volume(np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3) % 2 * 5, np.diag([2.0, 2, 4, 1]))
    sent = {"tissues": nifti(tissues, tmp_path / "t.nii.gz")}
    words = {"tissues_names": '{"5": "fat"}', "report": "a node of 8 mm"}
    wanted = Inputs(tissues=Layout(tissues, {5: "fat"}), report=words["report"]).voxel_sha256()
    as_files = {name: (f"{name}.any", text.encode()) for name, text in words.items()}
    for answer in (ask(front, sent, words), ask(front, {**sent, **as_files})):
        record = front.get(f"{done(front, service, answer)}/variants/1").json()
        assert record["inputs_sha256"] == wanted
        assert record["box_shape"] == [8, 8, 3]


def test_a_layout_without_names_ends_before_a_model_is_loaded(
    front: TestClient, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.models, "warm", lambda *_: pytest.fail("a model was loaded"))
    tissues = Volume(np.full((8, 8, 3), 5, np.uint8), np.eye(4))
    answer = ask(front, {"tissues": nifti(tissues, tmp_path / "t.nii.gz")}, {"tissues_names": '{"4": "fat"}'})
    assert service.jobs.wait(service.jobs.get(answer.json()["id"]), 60)
    status = front.get(answer.headers["location"]).json()
    assert (status["state"], status["error"]["code"]) == ("failed", "invalid_request")
    assert "labels 5 have no name" in status["error"]["message"]


@pytest.mark.parametrize(("labels", "names"), [("lesion", {}), ("body", {"1": "body", "2": "lesion"})])
def test_accepted_it_is_a_case(
    front: TestClient, service: Service, labels: str, names: dict[str, str]
) -> None:
    place = done(front, service, ask(front, seed=3, labels=labels))
    image = front.post(f"{place}/variants/1/accept").json()["image"]
    assert service.vault is not None
    studies = service.vault.studies
    ct = read_volume(studies / f"{image}.nii.gz")
    final = read_volume(studies / "labels" / "final" / f"{image}.nii.gz")
    wanted = service.models.warm(NOISE, service.jobs.devices[0]).model
    made = generate(parse_request({"seed": 3, "steps": 4, "labels": labels}, NOISE), wanted)[0]
    assert made.layout is not None
    assert np.array_equal(ct.array, made.ct.array)
    lesion = made.layout.mask("lesion")
    assert np.array_equal(final.array, lesion if lesion.any() else made.layout.labels.array)
    record = json.loads((studies / f"{image}.provenance.json").read_text())
    assert record["generated"]
    assert (record["reference_id"], record["reference_sha256"]) == (None, None)
    assert record["label_names"] == names


def test_without_labels_it_is_no_case(front: TestClient, service: Service) -> None:
    place = done(front, service, ask(front, labels="none"))
    answer = front.post(f"{place}/variants/1/accept")
    assert code(answer) == (422, "invalid_request")
    assert "comes without labels, and a case has one" in answer.json()["detail"]["message"]


def test_the_stock_address_edits_alone(front: TestClient, files: Files) -> None:
    form = {"label": ("mask.nii.gz", files.mask.read_bytes())}
    answer = front.post(f"/infer/{NOISE}", params={"image": STORED}, files=form)
    assert code(answer) == (422, "invalid_request")
    assert "makes whole CTs, and this route edits one" in answer.json()["detail"]["message"]


def test_layouts_off_the_grid_of_their_ct_are_not_stored(
    front: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = service.models.warm(NOISE, service.jobs.devices[0]).model
    make = type(model).generate

    def shifted(self: Any, *asked: Any) -> Any:
        made = make(self, *asked)
        labels, moved = made.layouts[0].labels, np.eye(4)
        moved[0, 3] = 30
        elsewhere = Volume(labels.array, moved @ labels.affine)
        return replace(made, layouts=[Layout(elsewhere, made.layouts[0].names)])

    monkeypatch.setattr(type(model), "generate", shifted)
    answer = ask(front)
    assert service.jobs.wait(service.jobs.get(answer.json()["id"]), 60)
    assert front.get(answer.headers["location"]).json()["error"]["code"] == "geometry_mismatch"
