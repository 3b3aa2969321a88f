"""Every public method of MONAI Label's own Python client, 0.8.5, on servers with and without a token.

The client writes its id into the parameters it is given: each call gets a copy of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doors_kit import READ_TOKEN
from lesionbrush.core.volume import Volume
from lesionbrush.files.io import read_volume
from monailabel.client import MONAILabelClient
from server_kit import FAST, MODEL, STORED, Files, edit_region, make_ct, make_mask
from stock_kit import House, refused, stock_client

pytest_plugins = ("server_fixtures", "stock_fixtures")
pytestmark = pytest.mark.server


@pytest.fixture
def client(at: House, tmp_path: Path) -> MONAILabelClient:
    return stock_client(at, tmp_path)


def array(path: str) -> np.ndarray:
    return read_volume(Path(path)).array


def test_info(client: MONAILabelClient) -> None:
    info = client.info()
    assert (info["name"], info["labels"]) == ("LesionBrush", ["lesion"])
    assert info["strategies"].keys() == {"first", "random"}
    assert info["models"][MODEL]["type"] == "scribbles"
    assert info["trainers"] == {}


def test_auth(at: House, tmp_path: Path) -> None:
    client = MONAILabelClient(at.url, str(tmp_path))
    assert client.auth_enabled() is bool(at.token)
    if at.token is None:
        assert client.auth_token("anybody", "anything") == {"access_token": None, "token_type": None}
        assert client.auth_valid_token()
        return
    assert not client.auth_valid_token()
    refused(lambda: client.auth_token("anybody", "x" * 32), "401", "not this server's token")
    refused(client.info, "401", "unauthorized")
    client.update_auth(client.auth_token("anybody", at.token))
    assert client.auth_valid_token()
    client.update_auth(client.auth_token("anybody", READ_TOKEN))
    assert client.auth_valid_token()
    assert client.info()["name"] == "LesionBrush"
    refused(lambda: client.next_sample("first", {}), "403", "read_only")


@pytest.mark.parametrize("strategy", ["first", "random"])
def test_next_sample(client: MONAILabelClient, files: Files, strategy: str) -> None:
    for number in range(2):
        client.upload_image(str(files.ct), f"{strategy}-{number}")
    offered = {client.next_sample(strategy, {})["id"] for _ in range(30)}
    assert {STORED, f"{strategy}-0", f"{strategy}-1"} - offered == (
        {f"{strategy}-0", f"{strategy}-1"} if strategy == "first" else set()
    )
    found = client.next_sample("first", {"label_tag": "x", "labels": ["x"], "strategy": "random"})
    assert found == {"id": STORED, "name": f"{STORED}.nii.gz"}
    client.save_label(f"{strategy}-0", str(files.mask))
    assert f"{strategy}-0" not in {client.next_sample(strategy, {})["id"] for _ in range(30)}
    refused(lambda: client.next_sample("epistemic", {}), "404", "unknown_strategy", "first, random")


def test_create_session(client: MONAILabelClient, files: Files) -> None:
    made = client.create_session(str(files.ct), {"expiry": 5})
    assert made["session_info"]["name"] == made["session_id"]
    assert made["session_info"]["expiry"] == 3600
    other = client.create_session(str(files.ct))
    assert other["session_id"] != made["session_id"]
    assert other["session_info"]["image"] == made["session_info"]["image"], "the same CT is kept once"
    refused(lambda: client.create_session(str(files.mask)), "422", "not_a_ct")


def test_get_session(client: MONAILabelClient, files: Files) -> None:
    made = client.create_session(str(files.ct))
    assert client.get_session(made["session_id"]) == made["session_info"]
    refused(lambda: client.get_session("0" * 32), "404", "unknown_session")


def test_remove_session(client: MONAILabelClient, files: Files) -> None:
    made = client.create_session(str(files.ct))
    assert client.remove_session(made["session_id"])["name"] == made["session_id"]
    for again in (client.get_session, client.remove_session):
        refused(lambda call=again: call(made["session_id"]), "404", "unknown_session")
    refused(
        lambda: client.infer(MODEL, "", dict(FAST), str(files.mask), session_id=made["session_id"]),
        "404",
        "unknown_session",
    )


def test_upload_image(at: House, client: MONAILabelClient, files: Files) -> None:
    assert client.upload_image(str(files.ct), "sent", {"note": "x"}) == {"image": "sent"}
    assert (at.studies / "sent.nii.gz").read_bytes() == files.ct.read_bytes()
    assert client.datastore()["objects"]["sent"]["image"]["info"]["note"] == "x"
    refused(lambda: client.upload_image(str(files.ct), "sent"), "409", "already_stored")
    refused(lambda: client.upload_image(__file__, "code"), "422", "unknown file type")


def test_save_label(at: House, client: MONAILabelClient, files: Files) -> None:
    client.upload_image(str(files.ct), "to-label")
    assert client.save_label("to-label", str(files.mask), "draft") == {
        "image": "to-label",
        "label": "to-label",
    }
    stored = client.save_label(
        "to-label", str(files.mask), params={"label_info": [{"name": "lesion", "idx": 1}]}
    )
    assert stored == {"image": "to-label", "label": "to-label"}
    assert (at.studies / "labels" / "final" / "to-label.nii.gz").read_bytes() == files.mask.read_bytes()
    refused(lambda: client.save_label("to-label", str(files.mask)), "409", "already_stored")


def test_save_label_of_something_else(at: House, client: MONAILabelClient, files: Files) -> None:
    """What is stored cannot be corrected, so it has to be a label, on the grid of its CT."""
    client.upload_image(str(files.ct), "not-to-label")
    elsewhere = make_mask().affine @ np.diag([1.3, 1.3, 1.3, 1.0])
    other = files.save(Volume(make_mask().array, elsewhere), "other_mask.nii.gz")
    refused(lambda: client.save_label("not-to-label", str(other)), "422", "geometry_mismatch")
    refused(lambda: client.save_label("not-to-label", str(files.ct)), "422", "invalid_request")
    assert not list((at.studies / "labels").rglob("not-to-label*"))


def test_two_results_do_not_share_a_name(client: MONAILabelClient, files: Files) -> None:
    """This client saves under the name it is told, always in one folder."""
    first, second = (
        client.infer(MODEL, STORED, {**FAST, "seed": seed}, str(files.mask))[0] for seed in (1, 2)
    )
    assert first != second
    assert Path(first).read_bytes() != Path(second).read_bytes()


def test_download_label(client: MONAILabelClient, files: Files) -> None:
    client.upload_image(str(files.ct), "labelled")
    client.save_label("labelled", str(files.mask), "mine")
    path = Path(client.download_label("labelled", "mine"))
    assert path.name.endswith(".nii.gz")
    assert path.read_bytes() == files.mask.read_bytes()
    refused(lambda: client.download_label("labelled", "final"), "404", "unknown_label")


def test_datastore(client: MONAILabelClient) -> None:
    assert STORED in client.datastore()["objects"]


class TestInfer:
    def test_a_stored_image(self, client: MONAILabelClient, files: Files) -> None:
        path, params = client.infer(MODEL, STORED, dict(FAST), str(files.mask))
        changed = array(path) != make_ct().array
        assert not changed[~edit_region()].any()
        assert changed.sum() == params["variants"][0]["voxels_changed"] > 100

    def test_a_file_and_a_session_give_the_same_voxels(self, client: MONAILabelClient, files: Files) -> None:
        stored = array(client.infer(MODEL, STORED, dict(FAST), str(files.mask))[0])
        sent = array(client.infer(MODEL, "", dict(FAST), str(files.mask), file=str(files.ct))[0])
        session = client.create_session(str(files.ct))["session_id"]
        named = client.infer(MODEL, "whatever", dict(FAST), str(files.mask), session_id=session)
        assert np.array_equal(stored, sent)
        assert np.array_equal(stored, array(named[0]))

    def test_with_the_label_that_is_stored(self, client: MONAILabelClient, files: Files) -> None:
        given = array(client.infer(MODEL, STORED, dict(FAST), str(files.mask))[0])
        client.upload_image(str(files.ct), "with-label")
        client.save_label("with-label", str(files.mask), "draft")
        refused(lambda: client.infer(MODEL, "with-label", dict(FAST)), "422", "there is no mask")
        client.save_label("with-label", str(files.mask))
        for _ in range(2):  # the stored label is still there afterwards
            assert np.array_equal(array(client.infer(MODEL, "with-label", dict(FAST))[0]), given)

    def test_without_a_client_id(self, at: House, files: Files, tmp_path: Path) -> None:
        client = stock_client(at, tmp_path, client_id=None)
        assert client.infer(MODEL, STORED, dict(FAST), str(files.mask))[0]

    def test_refusals_are_passed_on(self, client: MONAILabelClient, files: Files) -> None:
        def ask(**changes: Any) -> None:
            client.infer(changes.pop("model", MODEL), STORED, {**FAST, **changes}, str(files.mask))

        refused(lambda: ask(stepz=3), "422", "stepz: unknown parameter (got 3); known are seed,")
        refused(lambda: ask(model="nobody"), "404", "unknown_model")


def test_wsi_infer(client: MONAILabelClient) -> None:
    """The client sends no token with this one."""
    refused(
        lambda: client.wsi_infer(MODEL, STORED), "whole slides" if not client._headers else "unauthorized"
    )


class TestTraining:
    def test_train_start(self, client: MONAILabelClient) -> None:
        for model in (MODEL, ""):
            refused(
                lambda model=model: client.train_start(model, {}), "501", "not_implemented", "run.py train"
            )

    def test_train_stop(self, client: MONAILabelClient) -> None:
        refused(client.train_stop, "501", "not_implemented")

    def test_train_status(self, client: MONAILabelClient) -> None:
        refused(client.train_status, "501", "not_implemented")
        assert client.train_status(check_if_running=True) is False


def test_each_public_method_is_in_the_table_and_has_a_test() -> None:
    text = (Path(__file__).parents[1] / "docs" / "wire.md").read_text(encoding="utf-8")
    tests, here = (
        Path(__file__).read_text(encoding="utf-8"),
        {"get_server_url", "set_server_url", "update_auth"},
    )
    methods = {name for name in vars(MONAILabelClient) if not name.startswith("_")} - here
    assert len(methods) == 17
    for name in methods:
        assert f"`{name}" in text, name
        assert f".{name}" in tests, name


def test_one_client_for_all_in_any_order(client: MONAILabelClient, files: Files) -> None:
    """With a token it repeats type and length of its last request in the next one, which may have no body."""
    client.infer(MODEL, STORED, dict(FAST), str(files.mask))
    for ask in (client.info, client.datastore):
        assert ask()
    session = client.create_session(str(files.ct))["session_id"]
    client.next_sample("first", {})
    assert client.auth_valid_token()
    assert client.create_session(str(files.ct))["session_id"]
    assert client.get_session(session)
    assert client.remove_session(session)
    refused(client.train_stop, "501")
