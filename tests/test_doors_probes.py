"""Every probe that succeeds on a stock MONAI Label 0.8.5 (research page, section 5), sent to our server.

The server is started by the stock command. Whatever is sent, nothing may be written or read that should not.
"""

from __future__ import annotations

import http.client
import io
import json
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from doors_kit import code_of
from server_kit import MODEL, REPOSITORY, STORED, Files, Server, post, snapshot

pytest_plugins = "server_fixtures"
pytestmark = pytest.mark.server

MARKER = b"import pathlib; pathlib.Path('owned').touch()\n"
NOT_OFFERED = (404, "not_offered")


def around(server: Server) -> dict[str, str]:
    """All files that the server could write near its studies, but for its log; and the app's own code."""
    near = {name: digest for name, digest in snapshot(server.studies.parent).items() if name != "server.log"}
    code = {str(path) for path in (REPOSITORY / "app").rglob("*.py")}
    return {**near, **dict.fromkeys(code, "code")}


@pytest.fixture(autouse=True)
def nothing_written(server: Server) -> Iterator[None]:
    before = around(server)
    yield
    assert around(server) == before


def ask(server: Server, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, str, bytes]:
    """The path goes out as it is: other clients tidy '..' away. (status, code of the error, body)."""
    target = urlsplit(server.url)
    connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=30)
    try:
        connection.request(method, path, body or None, headers)
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    try:
        code = json.loads(content)["detail"]["code"]
    except (ValueError, KeyError, TypeError):
        code = ""
    return answer.status, code, content


def put(server: Server, what: str, file: tuple[str, bytes], **query: str) -> requests.Response:
    form = {"file" if what == "image" else "label": file}
    return requests.put(f"{server.url}/datastore/{what}", params=query, files=form, timeout=30)


@pytest.mark.parametrize(
    "image", ["../app/lib/evil", "../app/main", "/tmp/evil", "../../app/lib/evil", "..\\evil"]
)
@pytest.mark.parametrize("name", ["evil.py", "x.nii.gz", "evil.nii.gz.py"])
def test_a_file_written_anywhere(server: Server, files: Files, image: str, name: str) -> None:
    content = MARKER if name.endswith(".py") else files.ct.read_bytes()
    assert code_of(put(server, "image", (name, content), image=image)) == (422, "invalid_request")
    for method in ("GET", "HEAD"):
        answer = requests.request(
            method, f"{server.url}/datastore/image", params={"image": image}, timeout=30
        )
        assert answer.status_code == 404
    gone = requests.delete(f"{server.url}/datastore/image", params={"id": image}, timeout=30)
    assert code_of(gone) == NOT_OFFERED


def test_code_that_claims_to_be_a_ct(server: Server) -> None:
    assert code_of(put(server, "image", ("x.nii.gz", MARKER), image="x")) == (422, "damaged_file")
    assert code_of(put(server, "label", ("x.nrrd", MARKER), image=STORED, tag="x")) == (422, "damaged_file")


def test_a_new_app_is_not_loaded(server: Server) -> None:
    assert ask(server, "POST", "/reload")[:2] == NOT_OFFERED
    assert ask(server, "POST", "/reload/")[:2] == NOT_OFFERED
    assert ask(server, "GET", "/reload")[:2] == NOT_OFFERED


@pytest.mark.parametrize("tag", ["../../x", "/tmp/x", "final/../../x"])
def test_a_label_written_anywhere(server: Server, files: Files, tag: str) -> None:
    mask = ("m.nii.gz", files.mask.read_bytes())
    assert code_of(put(server, "label", mask, image=STORED, tag=tag)) == (422, "invalid_request")
    asked = requests.get(f"{server.url}/datastore/label", params={"label": STORED, "tag": tag}, timeout=30)
    assert code_of(asked) == (404, "unknown_label")
    params = {"save_label": True, "label_tag": tag}
    assert code_of(post(server, files.mask, params=params)) == (422, "invalid_request")


@pytest.mark.parametrize("path", ["/etc/hostname", "{studies}/ct1.nii.gz", "../studies/ct1.nii.gz"])
def test_a_file_of_the_server_as_reference_or_mask(server: Server, files: Files, path: str) -> None:
    path = path.format(studies=server.studies)
    assert code_of(post(server, files.mask, image=path)) == (404, "unknown_image")
    for key in ("image", "label", "session", "model", "file"):
        assert code_of(post(server, files.mask, params={key: path})) == (422, "invalid_request")
    for route in ("/infer/wsi/", "/infer/wsi_v2/"):
        assert code_of(requests.post(f"{server.url}{route}{MODEL}?image={path}", timeout=30)) == NOT_OFFERED


def test_a_session_that_is_a_folder(server: Server, files: Files) -> None:
    assert code_of(post(server, files.mask, session_id="/etc")) == (422, "invalid_request")
    for path in ("/session/", "/session/x", "/session/%2e%2e", "/session/..", "/session/../info/"):
        assert ask(server, "GET", path)[:2] == NOT_OFFERED


@pytest.mark.parametrize("name", ["../../escaped", "/tmp/escaped-by-absolute-name"])
def test_an_archive_unpacked_elsewhere(server: Server, name: str) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(MARKER)
        tar.addfile(member, io.BytesIO(MARKER))
    form = {"files": ("a.tar", packed.getvalue())}
    answer = requests.put(f"{server.url}/session/?uncompress=true", files=form, timeout=30)
    assert code_of(answer) == (422, "invalid_request")
    assert not Path(name).exists()


OPEN_ELSEWHERE = [
    "/proxy/dicom/../statistics",
    "/proxy/dicom/..%2fstatistics",
    "/proxy/dicom/../instances",
    "/proxy/x",
    "/logs/",
    "/logs/gpu",
    "/logs/?lines=99999",
    "/model/tiny",
    "/model/info/tiny",
    "/train/",
    "/train/tiny",
    "/batch/infer/",
    "/batch/infer/tiny",
    "/scoring/",
    "/activelearning/random",
    "/ohif/",
    "/ohif/../../main",
    "/static/",
    "/static/../main.py",
    "/static/favicon.ico",
    "/favicon.ico",
    "/docs",
    "/redoc",
    "/openapi.json",
    "/",
    "/login/",
    "/auth/token",
    "/datastore/dataset",
    "/datastore/updatelabelinfo",
    "/datastore/image/info",
    "/info/../reload",
    "/lesionbrush/v1/../../reload",
    "/lesionbrush/v1/jobs/../../../reload",
    "/lesionbrush/v1/docs",
    "/lesionbrush/v1/redoc",
    "/.env",
    "/health/",
    "/health/../metrics",
]


NOT_HERE = (501, "not_implemented")
ANSWERED = {
    ("POST", "/activelearning/random"): (422, "invalid_request"),
    ("POST", "/auth/token"): (200, ""),
    **{
        (method, path): NOT_HERE
        for path in ("/train/", "/train/tiny")
        for method in ("GET", "POST", "DELETE")
    },
}
"""What MONAI Label's own clients ask for is answered: by our rules, or with why not."""


@pytest.mark.parametrize("path", OPEN_ELSEWHERE)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_doors_that_are_open_elsewhere(server: Server, method: str, path: str) -> None:
    body = b'{"gpus": "0;touch owned", "device": "x"}' if method in ("POST", "PUT") else b""
    status, code, content = ask(server, method, path, body)
    assert (status, code) == ANSWERED.get((method, path), NOT_OFFERED)
    assert b"html" not in content.lower()


@pytest.mark.parametrize(
    "params",
    [
        {"result_extension": "/../../x"}, {"result_extension": ".py"}, {"result_write_to_file": False},
        {"skip_writer": True}, {"device": "cuda:99"}, {"gpus": "0;touch owned"}, {"timeout": 0.001},
        {"result_dtype": "float32"}, {"result_dtype": "uint8;"}, {"result_extension": ".nii.gz\r\nX: y"},
        {"selected_label_name": "x" * 257}, {"label_info": "../x"}, {"label_info": [{"id": "1;touch owned"}]},
        {"device": "../x"}, {"device": ["cpu"]},
    ],
)  # fmt: skip
def test_parameters_that_steer_the_framework(server: Server, files: Files, params: dict[str, Any]) -> None:
    assert code_of(post(server, files.mask, params=params)) == (422, "invalid_request")


def test_another_web_page(server: Server) -> None:
    page = {"Origin": "https://elsewhere.example"}
    asks = {**page, "Access-Control-Request-Method": "PUT", "Access-Control-Request-Private-Network": "true"}
    for method, path, headers in (
        ("GET", "/info/", page),
        ("OPTIONS", "/datastore/image", asks),
        ("OPTIONS", "/lesionbrush/v1/jobs", asks),
    ):
        answer = requests.request(method, server.url + path, headers=headers, timeout=30)
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    sent = requests.post(f"{server.url}/infer/{MODEL}", headers=page, data={"params": "{}"}, timeout=30)
    assert code_of(sent) == (403, "foreign_origin")


def test_a_name_that_leads_here(server: Server) -> None:
    assert ask(server, "GET", "/info/", Host="evil.example")[:2] == (421, "wrong_host")


def test_a_file_name_from_a_client_becomes_no_path(server: Server, files: Files) -> None:
    for name in ("/etc/x.nii.gz", "..\\..\\x.nii.gz", "a\0b.nii.gz", "CON.nii.gz", "x" * 5000 + ".nii.gz"):
        form = {"label": (name, files.mask.read_bytes())}
        query = {"image": STORED, "output": "json"}
        url, data = f"{server.url}/infer/{MODEL}", {"params": '{"steps": 1}'}
        answer = requests.post(url, params=query, files=form, data=data, timeout=60)
        assert answer.status_code in (200, 400, 422)


def test_what_the_server_tells_of_itself_has_no_path(server: Server) -> None:
    for path in ("/info/", "/lesionbrush/v1/", "/datastore/?output=all", "/health/ready", "/metrics"):
        status, _, content = ask(server, "GET", path)
        assert status == 200
        for place in (server.studies, server.scratch, REPOSITORY, Path.home()):
            assert str(place).encode() not in content


def test_temporary_files_are_private(server: Server) -> None:
    """Uploads land in a folder that no other user can enter."""
    private = server.studies / ".lesionbrush"
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert stat.S_IMODE((private / "tmp").stat().st_mode) == 0o700
