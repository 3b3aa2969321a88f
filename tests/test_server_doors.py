"""What the real server lets in and what it does not: ids, tags, file types, routes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import requests
from LesionBrushLib.client import Client, Result, ServerError
from server_kit import STORED, Files, Server, make_ct, snapshot

pytest_plugins = "server_fixtures"
pytestmark = pytest.mark.server

Infer = Callable[..., Result]
ELSEWHERE = {"Origin": "https://elsewhere.example"}


def put(server: Server, what: str, file: tuple[str, bytes], **query: str) -> requests.Response:
    """what: "image" or "label"."""
    form = {"file" if what == "image" else "label": file}
    return requests.put(f"{server.url}/datastore/{what}", params=query, files=form, timeout=30)


def around(server: Server) -> dict[str, str]:
    """All files the server might write beside its log."""
    return {name: digest for name, digest in snapshot(server.studies.parent).items() if name != "server.log"}


def test_a_ct_is_stored_once(client: Client, files: Files) -> None:
    assert client.put_image(files.ct, "own.1-a") == "own.1-a"
    assert {"own.1-a", STORED} <= set(client.images())
    with pytest.raises(ServerError, match="stored already") as again:
        client.put_image(files.ct, "own.1-a")
    assert (again.value.status, again.value.code) == (409, "already_stored")


def test_a_file_copied_into_the_studies_is_found_and_read_again_when_it_changes(
    infer: Infer, server: Server, files: Files
) -> None:
    def reference_sha256() -> str:
        return infer("out.nii", image_id="copied in").provenance["reference_sha256"]

    stored = server.studies / "copied in.nii.gz"
    stored.write_bytes(files.ct.read_bytes())
    first = reference_sha256()
    assert reference_sha256() == first
    darker = make_ct().with_array(make_ct().array - 1)
    stored.write_bytes(files.save(darker, "darker.nii.gz").read_bytes())
    assert reference_sha256() != first


def test_a_label_is_stored_under_its_tag(server: Server, files: Files) -> None:
    mask = ("mask.nii.gz", files.mask.read_bytes())
    assert put(server, "label", mask, image=STORED, tag="draft-1").status_code == 200
    query = {"label": STORED, "tag": "draft-1"}
    assert requests.get(f"{server.url}/datastore/label", params=query, timeout=30).content == mask[1]
    assert put(server, "label", mask, image=STORED, tag="draft-1").status_code == 409
    assert put(server, "label", mask, image="nobody", tag="draft-1").status_code == 404


@pytest.mark.parametrize("tag", ["../../x", "a/b", "..", "a..b", "/abs", ".hidden", "a.nii.gz"])
def test_no_tag_leads_out_of_the_studies(server: Server, files: Files, tag: str) -> None:
    before = around(server)
    refused = put(server, "label", ("mask.nii.gz", files.mask.read_bytes()), image=STORED, tag=tag)
    assert refused.status_code == 422
    assert f"tag {tag!r}: use" in refused.json()["detail"]["message"]
    assert around(server) == before


@pytest.mark.parametrize(
    "image", ["../evil", "/abs/evil", "a/b", "a\\b", "..", "a..b", "", ".x", "a.nii.gz", "ü"]
)
def test_no_image_id_leads_out_of_the_studies(server: Server, files: Files, image: str) -> None:
    before = around(server)
    refused = put(server, "image", ("ct.nii.gz", files.ct.read_bytes()), image=image)
    assert refused.status_code == 422
    assert f"image {image!r}: use" in refused.json()["detail"]["message"]
    assert around(server) == before


def test_no_other_file_type_is_stored(server: Server) -> None:
    before = around(server)
    for name in ("main.py", "x.nii.gz.py", "datastore_v2.json", ""):
        assert put(server, "image", (name, b"import os"), image="x").status_code == 422
    assert around(server) == before


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/reload"),
        ("GET", "/session/x"),
        ("GET", "/proxy/dicom/x"),
        ("POST", "/proxy/dicom/x"),
        ("POST", "/infer/wsi/tiny"),
        ("POST", "/infer/wsi_v2/tiny"),
        ("POST", "/infer/tiny/x"),
        ("POST", "/infer/..%2Ftiny"),
        ("POST", "/batch/infer/tiny"),
        ("GET", "/model/tiny"),
        ("PUT", "/model/tiny"),
        ("DELETE", "/datastore/image"),
        ("GET", "/datastore/dataset"),
        ("GET", "/datastore/image/info"),
        ("GET", "/logs/"),
        ("GET", "/openapi.json"),
        ("GET", "/"),
        ("GET", "//info/"),
        ("OPTIONS", "/infer/tiny"),
    ],
)
def test_every_other_door_is_shut(server: Server, method: str, path: str) -> None:
    body = b"x" if method in ("POST", "PUT") else None
    answer = requests.request(method, server.url + path, data=body, headers=ELSEWHERE, timeout=30)
    assert answer.status_code == 404
    assert answer.json()["detail"]["code"] == "not_offered"
    assert "access-control-allow-origin" not in answer.headers


def test_no_other_web_page_may_read_an_answer(server: Server) -> None:
    answer = requests.get(f"{server.url}/info/", headers=ELSEWHERE, timeout=30)
    assert answer.ok
    assert "access-control-allow-origin" not in answer.headers


def test_a_body_of_unknown_size_is_refused(server: Server) -> None:
    answer = requests.post(f"{server.url}/infer/tiny", data=iter([b"x"]), timeout=30)
    assert (answer.status_code, answer.json()["detail"]["code"]) == (411, "length_required")
