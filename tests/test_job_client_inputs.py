"""Volumes beside CT and mask: what is sent, what is refused before that, what the record says."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from job_fake import MODEL as FACTS
from job_fake import Fake, running
from job_kit import QUICK, Seen, order
from job_server import TOKEN, Process
from lesionbrush.files.io import write_volume
from LesionBrushLib.client import (
    Cancelled,
    Client,
    JobClient,
    Layout,
    Order,
    Outcome,
    ServerError,
    Upload,
    Watch,
    WrongInput,
    ct_upload,
    mask_upload,
    voxel_sha256,
)
from LesionBrushLib.client.inputs import require_fitting
from server_kit import MODEL, STORED, affine, make_ct, make_mask, make_model, stop

STEERED = "steered"
TAKES = ("lungs", "anatomy", "pathology", "pathology_mask")
CT_TO_FOLLOW = np.full((20, 18, 16), -870, np.int16)
ITS_LESION = np.zeros((20, 18, 16), np.uint8)
ITS_LESION[8:13, 7:11, 5:9] = 1
CT_TO_FOLLOW[ITS_LESION > 0] = 35
ITS_AFFINE = np.diag((-0.8, 0.9, 1.2, 1.0))


def all_four() -> dict[str, Upload]:
    """On grids as they come: lungs cut to their box, the other case on a grid of its own."""
    lungs = np.zeros(make_ct().shape, np.uint8)
    lungs[3:60, 4:58, 2:38] = 1
    return {
        "lungs": mask_upload(lungs, affine()),
        "anatomy": ct_upload(make_ct().array, affine()),
        "pathology": ct_upload(CT_TO_FOLLOW, ITS_AFFINE, compress=True),
        "pathology_mask": mask_upload(ITS_LESION, ITS_AFFINE),
    }


def steered(inputs: dict[str, Upload], model: str = "lung", **given: Any) -> Order:
    plain = order(**given)
    return Order(model, plain.mask, plain.reference, plain.params, inputs)


@pytest.fixture
def fake() -> Iterator[Fake]:
    card = {**FACTS["card"], "inputs": list(TAKES)}
    with running(
        Fake(facts={"version": "9", "protocol": 1, "models": {"lung": {**FACTS, "card": card}}})
    ) as fake:
        yield fake


def test_each_goes_as_a_file_of_its_name(fake: Fake) -> None:
    seen, inputs = Seen(), all_four()
    JobClient(fake.url, patience=QUICK).synthesize(steered(inputs), seen.watch)
    (body,) = [body for body in fake.bodies if b"pathology_mask" in body]
    for name, upload in inputs.items():
        head = f'name="{name}"; filename="{name}.{upload.format}"\r\n\r\n'.encode()
        assert head + upload.source + b"\r\n" in body, name
    assert seen.phases == ["reference", "inputs", "queue", "synthesis", "result"]
    assert seen.uploads[-1] == (len(body), len(body))


@pytest.mark.parametrize(
    ("names", "takes", "words"),
    [
        (("anatomy",), ("lungs",), r"anatomy: model 'lung' takes no such volume; it takes lungs$"),
        (("lungs",), (), r"it takes none beside CT and mask"),
        (("lungs",), None, r"it takes none beside CT and mask"),
        (("pathology",), TAKES, r"pathology was given without pathology_mask: give both"),
        (("pathology_mask",), TAKES, r"pathology_mask was given without pathology: give both"),
    ],
)
def test_what_the_model_does_not_take_is_never_sent(
    fake: Fake, names: tuple[str, ...], takes: tuple[str, ...] | None, words: str
) -> None:
    """None: a server from before there were inputs, which would pass over the file in silence."""
    card = fake.facts["models"]["lung"]["card"]
    card.update(inputs=takes) if takes is not None else card.pop("inputs")
    wanted = steered({name: all_four()[name] for name in names})
    client = JobClient(fake.url, patience=QUICK)
    for send in (client.synthesize, lambda order: client.submit(order, reference="0" * 64)):
        with pytest.raises(WrongInput, match=words):
            send(wanted)
    assert {line.split()[0] for line in fake.asked} == {"GET"}


def on_new_server(fake: Fake, takes: list[dict[str, Any]], **card: Any) -> JobClient:
    """Which says of each input what it is."""
    fake.facts["models"]["lung"]["card"] = {"kind": "edit", **card, "takes": takes}
    return JobClient(fake.url, patience=QUICK)


def test_inputs_of_the_future_need_no_new_client(fake: Fake) -> None:
    """Names that nothing here knows; texts as fields, the names of labels as a table."""
    takes = [
        {"name": "organs", "kind": "layout", "about": "organs"},
        {"name": "finding", "kind": "text", "about": "what is seen", "required": True},
        {"name": "prior", "kind": "volume", "about": "an earlier CT", "on": "own"},
        {"name": "prior_lesion", "kind": "mask", "about": "the lesion in it", "on": "prior"},
    ]
    client = on_new_server(fake, takes)
    four = all_four()
    inputs: dict[str, Any] = {
        "organs": Layout(four["lungs"], {1: "liver", 7: "spleen"}),
        "finding": "a nodule\nof 9 mm in the rîght upper lobe",
        "prior": four["pathology"],
        "prior_lesion": four["pathology_mask"],
    }
    client.synthesize(steered(inputs))
    (body,) = [body for body in fake.bodies if b"prior_lesion" in body]
    assert b'name="organs"; filename="organs.nii.gz"\r\n' in body
    assert b'name="organs_names"\r\n\r\n{"1": "liver", "7": "spleen"}\r\n' in body
    assert f'name="finding"\r\n\r\n{inputs["finding"]}\r\n'.encode() in body
    del inputs["prior_lesion"]
    with pytest.raises(WrongInput, match="prior was given without prior_lesion: give both, or neither"):
        client.synthesize(steered(inputs))
    with pytest.raises(WrongInput, match=r"finding is missing: model 'lung' needs what is seen"):
        client.synthesize(steered({}))


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("text", Upload(b"", "nii"), "x: this has to be a text"),
        ("layout", Upload(b"", "nii"), "x: this has to be a label volume with the names of its labels"),
        ("mask", "a text", "x: this has to be one file"),
        ("volume", Layout(Upload(b"", "nii"), {}), "x: this has to be one file"),
        ("text", " \n", "x: there is no text in it"),
        ("layout", Layout(Upload(b"", "zip"), {}), "x: send one file, not a DICOM series"),
    ],
)
def test_an_input_of_another_kind_is_never_sent(fake: Fake, kind: str, value: Any, words: str) -> None:
    client = on_new_server(fake, [{"name": "x", "kind": kind}])
    with pytest.raises(WrongInput, match=words):
        client.synthesize(steered({"x": value}))
    assert {line.split()[0] for line in fake.asked} == {"GET"}


def test_a_model_too_new_for_this_client_is_refused(fake: Fake) -> None:
    client = on_new_server(fake, [], kind="film")
    with pytest.raises(WrongInput, match="it makes a 'film', which this module does not know"):
        client.synthesize(order())


def test_ct_and_mask_belong_to_an_edit(fake: Fake) -> None:
    client = on_new_server(fake, [])
    for lacking in ("mask", "reference"):
        with pytest.raises(WrongInput, match="model 'lung' works on a CT where a mask is painted: give both"):
            client.synthesize(order(**{lacking: None}))
    needs_none = on_new_server(fake, []).models()["lung"]
    needs_none = replace(needs_none, card={**needs_none.card, "needs_mask": False})
    require_fitting(order(mask=None), needs_none)
    with pytest.raises(WrongInput, match="model 'lung' works on a CT: give one"):
        require_fitting(order(reference=None), needs_none)
    client = on_new_server(fake, [], kind="volume")
    for surplus in ("mask", "reference"):
        with pytest.raises(WrongInput, match="model 'lung' makes whole CTs: leave out mask and CT"):
            client.synthesize(order(**{surplus: None}))


def test_the_record_of_a_synthetic_reference_goes_along(fake: Fake) -> None:
    record = {"synthetic": True, "generated": True, "model": "chest"}
    on_new_server(fake, []).synthesize(order(record=record))
    (body,) = [body for body in fake.bodies if b"generated" in body]
    assert f'name="record"\r\n\r\n{json.dumps(record)}\r\n'.encode() in body


def test_an_old_server_knows_no_records(fake: Fake) -> None:
    """It cannot say that an edit of a generated CT shows nobody; of an edited one it never did."""
    client = JobClient(fake.url, patience=QUICK)
    with pytest.raises(WrongInput, match="was generated as a whole, and the server is too old to say so"):
        client.synthesize(order(record={"generated": True}))
    client.synthesize(order(record={"synthetic": True}))
    assert not any(b"record" in body for body in fake.bodies)


def test_a_series_is_no_input(fake: Fake, tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="anatomy: send one file, not a DICOM series"):
        JobClient(fake.url).synthesize(steered({"anatomy": Upload.of(tmp_path)}))


def test_an_input_is_sent_again_when_the_answer_was_lost(fake: Fake) -> None:
    fake.lose["submit"] = 1
    JobClient(fake.url, patience=QUICK).synthesize(steered(all_four()))
    assert fake.count("POST") == 2
    assert len(fake.keys) == 1


def test_cancelled_while_inputs_are_sent(fake: Fake) -> None:
    cancel = threading.Event()
    watch = Watch(on_phase=lambda name: cancel.set() if name == "inputs" else None, cancelled=cancel.is_set)
    fake.slow_answer_s["submit"] = 0.5
    with pytest.raises(Cancelled):
        JobClient(fake.url, patience=QUICK).synthesize(steered(all_four()), watch)


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    root = tmp_path_factory.mktemp("inputs")
    for name in ("studies", "scratch", "models"):
        (root / name).mkdir()
    make_model(root / "models")
    make_model(root / "models", STEERED, title="Steered", system="steered")
    write_volume(make_ct(), root / "studies" / f"{STORED}.nii.gz")
    server = Process(root, root / "models")
    server.start()
    yield server
    stop(server.running)


@pytest.fixture
def client(process: Process) -> JobClient:
    return JobClient(process.url, TOKEN)


def real_order(model: str, inputs: dict[str, Upload]) -> Order:
    return Order(model, mask_upload(make_mask().array, affine()), STORED, {"steps": 2, "seed": 5}, inputs)


def hashes() -> dict[str, str]:
    """Of the voxels as the server reads them, by `inputs_sha256` of the record."""
    lungs = np.ones((57, 54, 36), np.uint8)
    lesion = np.ones((5, 4, 4), np.uint8)
    arrays = (lungs, make_ct().array, CT_TO_FOLLOW, lesion)
    return {name: voxel_sha256(np.asfortranarray(array)) for name, array in zip(TAKES, arrays, strict=True)}


@pytest.mark.server
def test_the_record_names_what_steered(client: JobClient) -> None:
    assert tuple(take.name for take in client.models()[STEERED].takes) == TAKES
    assert client.models()[MODEL].takes == ()

    def recorded(outcome: Outcome) -> dict[str, str]:
        found: dict[str, str] = outcome.provenances[0]["inputs_sha256"]
        return found

    assert recorded(client.synthesize(real_order(STEERED, all_four()))) == hashes()
    only = {"anatomy": all_four()["anatomy"]}
    assert recorded(client.synthesize(real_order(STEERED, only))) == {"anatomy": hashes()["anatomy"]}
    assert recorded(client.synthesize(real_order(MODEL, {}))) == {}


@pytest.mark.server
def test_files_from_files(process: Process, tmp_path: Path) -> None:
    write_volume(make_mask(), tmp_path / "mask.nii.gz")
    write_volume(make_ct(), tmp_path / "anatomy.nrrd")
    client = Client(process.url, TOKEN)
    given: dict[str, Any] = {
        "mask_path": tmp_path / "mask.nii.gz",
        "image_id": STORED,
        "params": {"steps": 2},
    }
    inputs = {"anatomy": Upload.of(tmp_path / "anatomy.nrrd")}
    result = client.infer(STEERED, out_path=tmp_path / "ct.nii", **inputs, **given)
    assert result.provenance["inputs_sha256"] == {"anatomy": hashes()["anatomy"]}
    with pytest.raises(WrongInput, match="takes no such volume"):
        client.infer(MODEL, out_path=tmp_path / "no.nii", **inputs, **given)
    assert not (tmp_path / "no.nii").exists()


@pytest.mark.server
def test_the_server_refuses_for_itself(client: JobClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client without our check, and volumes that do not fit the CT."""
    other_grid = {"anatomy": ct_upload(CT_TO_FOLLOW, ITS_AFFINE)}
    with pytest.raises(ServerError, match="anatomy") as error:
        client.synthesize(real_order(STEERED, other_grid))
    assert error.value.code == "geometry_mismatch"
    monkeypatch.setattr(client, "_fitting", lambda order, cancelled: order)
    with pytest.raises(ServerError, match="takes no such volume; it takes none") as error:
        client.synthesize(real_order(MODEL, {"anatomy": all_four()["anatomy"]}))
    assert (error.value.status, error.value.code) == (422, "invalid_request")
