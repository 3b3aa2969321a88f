"""What the doors for MONAI Label's own clients must not let in: sessions, login, next sample, words, submit.

On a server of the stock command, and on one of ours with tokens. Whatever is sent, nothing is written or read
that should not be, and the log keeps its promises.
"""

from __future__ import annotations

import io
import json
import os
import time
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import requests
from doors_kit import READ_TOKEN, TOKEN, bearer, code_of, gzip_bomb, nifti_header
from own_server import Started, serving
from server_kit import FAST, MODEL, STORED, Files, Server, post

pytest_plugins = "server_fixtures"
pytestmark = pytest.mark.server

PATIENT = "DOE^JANE"
NOBODYS = "0" * 32


def outside(server: Server) -> dict[str, str]:
    """All but what is the server's own, private, and not for ever."""
    found = {}
    for folder, inside, names in os.walk(server.studies.parent):
        inside[:] = [name for name in inside if name != ".lesionbrush"]
        paths = [Path(folder) / name for name in names if name != "server.log"]
        found.update({str(path): sha256(path.read_bytes()).hexdigest() for path in paths})
    return found


@pytest.fixture
def unchanged(server: Server) -> Iterator[None]:
    before = outside(server)
    yield
    assert outside(server) == before


def open_session(server: Server, name: str, content: bytes, **query: str) -> requests.Response:
    form = {"files": (name, content)}
    return requests.put(f"{server.url}/session/", params=query, files=form, timeout=60)


def sessions_of(server: Server) -> set[str]:
    return {path.name for path in (server.studies / ".lesionbrush" / "sessions").iterdir()}


@pytest.mark.usefixtures("unchanged")
class TestSessions:
    @pytest.mark.parametrize(
        "name",
        [
            "../../app/lib/evil.py",
            "/tmp/evil",
            "evil.py",
            "x.tar",
            "x.nii.gz.py",
            "meta.info",
            "x.nii.gz/..",
            "x",
        ],
    )
    def test_another_kind_of_file(self, server: Server, files: Files, name: str) -> None:
        before = sessions_of(server)
        assert code_of(open_session(server, name, files.ct.read_bytes())) == (422, "invalid_request")
        assert sessions_of(server) == before

    @pytest.mark.parametrize("name", ["/etc/x.nii.gz", "..\\..\\x.nii.gz", "a\0b.nii.gz", "../../x.nii.gz"])
    def test_a_name_becomes_no_path(self, server: Server, files: Files, name: str) -> None:
        made = open_session(server, name, files.ct.read_bytes())
        assert made.status_code in (200, 400)
        assert name not in made.text
        assert str(server.studies) not in made.text

    def test_what_is_no_ct(self, server: Server, files: Files, tmp_path: Path) -> None:
        before = sessions_of(server)
        bomb = gzip_bomb(tmp_path / "bomb.nii.gz", nifti_header((4, 4, 4)), 1 << 26)
        huge = nifti_header((20000, 20000, 20000))
        for name, content, code in (
            ("x.nii.gz", b"import os", (422, "damaged_file")),
            ("x.nii.gz", bomb.read_bytes(), (413, "too_large")),
            ("x.nii", huge, (413, "too_large")),
            ("x.nii.gz", files.mask.read_bytes(), (422, "not_a_ct")),
            ("x.zip", b"PK\3\4", (422, "damaged_file")),
            ("x.nii.gz", b"", (413, "too_large")),
        ):
            assert code_of(open_session(server, name, content)) == code
        assert sessions_of(server) == before

    def test_an_archive_with_paths(self, server: Server, files: Files) -> None:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as zipped:
            zipped.writestr("../../../escaped.dcm", b"\0" * 128 + b"DICM")
            zipped.writestr("/tmp/escaped.py", b"import os")
        answer = open_session(server, "x.zip", packed.getvalue(), uncompress="true")
        assert answer.status_code == 422
        assert not Path("/tmp/escaped.py").exists()

    def test_several_files_or_none(self, server: Server, files: Files) -> None:
        ct = files.ct.read_bytes()
        several = [("files", ("a.nii.gz", ct)), ("files", ("b.nii.gz", ct))]
        for form in (several, [("file", ("a.nii.gz", ct))]):
            answer = requests.put(f"{server.url}/session/", files=form, timeout=60)
            assert code_of(answer) == (422, "invalid_request")

    @pytest.mark.parametrize("expiry", ["-1", "1e9", "x", str(1 << 70)])
    def test_a_time_without_end(self, server: Server, files: Files, expiry: str) -> None:
        answer = open_session(server, "x.nii.gz", files.ct.read_bytes(), expiry=expiry)
        if answer.ok:
            assert answer.json()["session_info"]["expiry"] == 3600
        else:
            assert code_of(answer) == (422, "invalid_request")

    @pytest.mark.parametrize(
        "ident",
        [
            "x",
            "..",
            "%2e%2e",
            "../info/",
            "/etc",
            "0" * 31,
            "0" * 33,
            "0" * 31 + "G",
            "0" * 32 + "%0a",
            "0" * 32 + "/x",
        ],
    )
    def test_an_id_that_is_none(self, server: Server, ident: str) -> None:
        for method in ("GET", "DELETE"):
            answer = requests.request(method, f"{server.url}/session/{ident}", timeout=30)
            assert answer.status_code in (404, 200)
            assert "session_id" not in answer.text

    def test_a_foreign_or_past_one(self, server: Server, files: Files) -> None:
        for method in ("GET", "DELETE"):
            answer = requests.request(method, f"{server.url}/session/{NOBODYS}", timeout=30)
            assert code_of(answer) == (404, "unknown_session")
        short = open_session(server, "x.nii.gz", files.ct.read_bytes(), expiry="1").json()["session_id"]
        time.sleep(1.2)
        for answer in (
            requests.get(f"{server.url}/session/{short}?image=true", timeout=30),
            requests.get(f"{server.url}/session/{short}?update_ts=true", timeout=30),
            post(server, files.mask, session_id=short),
            post(server, files.mask, session_id=NOBODYS),
        ):
            assert code_of(answer) == (404, "unknown_session")

    @pytest.mark.parametrize("ident", ["/etc", "../x", "{studies}", "0" * 32 + "\n", "*"])
    def test_a_path_in_its_place(self, server: Server, files: Files, ident: str) -> None:
        answer = post(server, files.mask, session_id=ident.format(studies=server.studies))
        assert code_of(answer) == (422, "invalid_request")

    def test_its_ct_comes_back_as_it_was_sent_and_nothing_says_where_it_is(
        self, server: Server, files: Files
    ) -> None:
        made = open_session(server, f"{PATIENT}.nii.gz", files.ct.read_bytes())
        address = f"{server.url}/session/{made.json()['session_id']}"
        told = requests.get(address, timeout=30)
        for answer in (made, told):
            assert str(server.studies) not in answer.text
            assert PATIENT not in answer.text
        sent_back = requests.get(f"{address}?image=true", timeout=30)
        assert sent_back.content == files.ct.read_bytes()
        assert PATIENT not in str(sent_back.headers)

    def test_it_lies_where_nobody_else_can_look(self, server: Server, files: Files) -> None:
        open_session(server, "x.nii.gz", files.ct.read_bytes())
        folder = server.studies / ".lesionbrush" / "sessions"
        assert all(path.stat().st_mode & 0o077 == 0 for path in (folder, *folder.iterdir()))
        assert [
            path for path in folder.rglob("*") if path.name not in ("about.json", *sessions_of(server))
        ] == []

    @pytest.mark.parametrize("boundary", ["a; charset=x", "a\tb", "ü", "x" * 71, "a\r\nX-Evil: 1"])
    def test_a_boundary_that_is_more_than_one(self, server: Server, files: Files, boundary: str) -> None:
        body = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="x.nii"\r\n\r\n'.encode()
        )
        headers = {"Content-Type": "multipart/form-data; boundary=other"}
        answer = requests.put(f"{server.url}/session/", data=body, headers=headers, timeout=30)
        assert answer.status_code in (400, 422)
        assert "x-evil" not in answer.headers


@pytest.mark.usefixtures("unchanged")
class TestWords:
    @pytest.mark.parametrize(
        "word",
        [
            {"client_id": "../../etc"}, {"client_id": "a\r\nX-Evil: 1"}, {"client_id": {"a": 1}},
            {"client_id": "x" * 100_000}, {"model_filename": "/etc/passwd"}, {"model_filename": "../x.pt"},
            {"logging": "DEBUG"}, {"logging": "../x"}, {"largest_cc": True}, {"restore_label_idx": False},
            {"result_compress": False}, {"roi": ["/etc"]}, {"label_info": [{"name": "/etc", "id": 1}]},
            {"selected_label_name": "../../x\r\nX-Evil: 1"},
        ],
    )  # fmt: skip
    def test_a_word_is_never_a_path_a_header_or_a_setting(
        self, server: Server, files: Files, word: dict[str, Any]
    ) -> None:
        before = server.log.stat().st_size
        answer = post(server, files.mask, params={**FAST, **word}, output="json")
        assert answer.status_code == 200
        assert not any("evil" in name.lower() for name in answer.headers)
        logged = server.log.read_bytes()[before:].decode()
        assert "DEBUG" not in logged
        assert "passwd" not in logged

    @pytest.mark.parametrize(
        "ext", ["/../../x", ".py", ".nii.gz/../x", ".seg.nrrd", ".json", ".zip", "", 5, [".nii"]]
    )
    def test_another_kind_of_answer(self, server: Server, files: Files, ext: Any) -> None:
        answer = post(server, files.mask, params={**FAST, "result_extension": ext})
        assert code_of(answer) == (422, "invalid_request")
        assert "result_extension" in answer.json()["detail"]["message"]

    def test_a_name_of_the_lesion_reaches_only_the_answer(self, server: Server, files: Files) -> None:
        params = {**FAST, "result_dtype": "uint8", "selected_label_name": PATIENT}
        before = server.log.stat().st_size
        answer = post(server, files.mask, params=params, output="json")
        assert answer.json()["label_names"] == {PATIENT: 1}
        assert PATIENT not in server.log.read_bytes()[before:].decode()
        assert PATIENT not in str(answer.headers)


@pytest.mark.usefixtures("unchanged")
class TestOthers:
    @pytest.mark.parametrize(
        "strategy", ["..", "Random", "first/x", "first%0a", "x" * 33, "tiny_1", "%2e%2e"]
    )
    def test_a_strategy_that_is_none(self, server: Server, strategy: str) -> None:
        answer = requests.post(f"{server.url}/activelearning/{strategy}", json={}, timeout=30)
        assert code_of(answer) == (404, "not_offered")

    def test_next_sample_takes_no_orders(self, server: Server) -> None:
        orders = {"id": "/etc/passwd", "path": "/etc", "strategy": "../x", "images": ["/etc/passwd"]}
        answer = requests.post(f"{server.url}/activelearning/first", json=orders, timeout=30)
        assert set(answer.json()) <= {"id", "name"}
        assert "/" not in answer.text
        for body in (b"[1]", b"{", b'"x"'):
            headers = {"Content-Type": "application/json"}
            answer = requests.post(
                f"{server.url}/activelearning/first", data=body, headers=headers, timeout=30
            )
            assert code_of(answer) == (422, "invalid_request")
        large = requests.post(f"{server.url}/activelearning/first", data=b"x" * 70_000, timeout=30)
        assert code_of(large) == (413, "too_large")

    @pytest.mark.parametrize("image", ["../app/lib/evil", "/tmp/evil", "..\\evil", "a/b", ""])
    def test_the_old_address_of_uploads_is_no_other_door(
        self, server: Server, files: Files, image: str
    ) -> None:
        for name, content in (("evil.py", b"import os"), ("x.nii.gz", files.ct.read_bytes())):
            form = {"file": (name, content)}
            answer = requests.put(f"{server.url}/datastore/", params={"image": image}, files=form, timeout=30)
            assert code_of(answer) == (422, "invalid_request")

    def test_a_web_page_of_another_origin(self, server: Server) -> None:
        page = {"Origin": "https://elsewhere.example"}
        for method, path in (
            ("PUT", "/session/"),
            ("DELETE", f"/session/{NOBODYS}"),
            ("PUT", "/datastore/"),
            ("POST", "/activelearning/first"),
            ("POST", "/auth/token"),
        ):
            answer = requests.request(method, server.url + path, headers=page, data=b"x", timeout=30)
            assert code_of(answer) == (403, "foreign_origin")
            assert not [name for name in answer.headers if name.lower().startswith("access-control")]

    def test_a_submission_for_what_others_ran(self, server: Server, files: Files) -> None:
        """Another lesion, or a tag that is a path: neither gets at the kept CT."""
        params = {**FAST, "result_dtype": "uint8", "client_id": "one"}
        assert post(server, files.mask, params=params, output="json").ok
        other_lesion = {"label": ("m.nii.gz", files.ct.read_bytes())}
        answer = requests.put(
            f"{server.url}/datastore/label",
            params={"image": STORED},
            data={"params": '{"client_id": "one"}'},
            files=other_lesion,
            timeout=60,
        )
        assert answer.status_code == 422
        for tag in ("../x", "/tmp/x"):
            answer = requests.put(
                f"{server.url}/datastore/label",
                params={"image": STORED, "tag": tag},
                data={"params": '{"client_id": "one"}'},
                files={"label": ("m.nii.gz", files.mask.read_bytes())},
                timeout=60,
            )
            assert code_of(answer) == (422, "invalid_request")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Iterator[Started]:
    variables = {"LESIONBRUSH_TOKEN": TOKEN, "LESIONBRUSH_READ_TOKEN": READ_TOKEN}
    root = tmp_path_factory.mktemp("guarded")
    with serving(root, models_dir, "--upload-gb", "0.001", **variables) as server:
        yield server


NEW_DOORS = (
    ("GET", "/auth/token/valid"),
    ("POST", "/activelearning/first"),
    ("PUT", "/session/"),
    ("GET", f"/session/{NOBODYS}"),
    ("DELETE", f"/session/{NOBODYS}"),
    ("PUT", "/datastore/"),
    ("GET", "/train/"),
    ("POST", "/train/tiny"),
    ("POST", "/infer/wsi/tiny"),
)


class TestTokens:
    @pytest.mark.parametrize(("method", "path"), NEW_DOORS)
    def test_none_and_wrong_ones(self, guarded: Started, method: str, path: str) -> None:
        for headers in ({}, bearer("x" * 32), bearer(TOKEN[:-1])):
            answer = requests.request(method, guarded.url + path, headers=headers, timeout=30)
            assert code_of(answer) == (401, "unauthorized")

    @pytest.mark.parametrize(("method", "path"), NEW_DOORS[1:6])
    def test_the_reading_one(self, guarded: Started, method: str, path: str) -> None:
        answer = requests.request(method, guarded.url + path, headers=bearer(READ_TOKEN), timeout=30)
        assert code_of(answer) == ((404, "unknown_session") if method == "GET" else (403, "read_only"))

    @pytest.mark.parametrize(
        "password", ["", "x", TOKEN[:-1], TOKEN.upper(), f"Bearer {TOKEN}", "ü" * 30, "x" * 5000]
    )
    def test_a_wrong_password_opens_nothing(self, guarded: Started, password: str) -> None:
        form = {"username": "admin", "password": password, "grant_type": "password"}
        answer = requests.post(f"{guarded.url}/auth/token", data=form, timeout=30)
        assert answer.status_code in (401, 422)
        assert TOKEN not in answer.text
        assert not password or password not in answer.text

    def test_the_open_doors_tell_nothing(self, guarded: Started) -> None:
        answer = requests.get(f"{guarded.url}/auth/", timeout=30)
        assert answer.json() == {"enabled": True, "client_id": None, "realm": None}
        too_much = requests.post(f"{guarded.url}/auth/token", data=b"x" * 70_000, timeout=30)
        assert code_of(too_much) == (413, "too_large")
        assert code_of(requests.post(f"{guarded.url}/auth/", timeout=30)) == (401, "unauthorized")

    def test_more_than_the_limit(self, guarded: Started) -> None:
        form = {"files": ("x.nii", b"\0" * 1_100_000)}
        answer = requests.put(f"{guarded.url}/session/", headers=bearer(), files=form, timeout=30)
        assert code_of(answer) == (413, "too_large")

    def test_the_log_of_all_this(self, guarded: Started, files: Files) -> None:
        name, url, own, before = f"{PATIENT}.nii.gz", guarded.url, bearer(), len(guarded.log)
        requests.put(
            f"{url}/session/", headers=own, files={"files": (name, files.ct.read_bytes())}, timeout=30
        )
        requests.put(f"{url}/session/", headers=own, files={"files": (f"{PATIENT}.py", b"x")}, timeout=30)
        requests.get(f"{url}/session/{PATIENT}", headers=own, timeout=30)
        requests.post(f"{url}/activelearning/doejane", headers=own, json={"label_tag": PATIENT}, timeout=30)
        form = {"username": PATIENT, "password": TOKEN, "grant_type": PATIENT}
        assert requests.post(f"{url}/auth/token", data=form, timeout=30).json()["access_token"] == TOKEN
        requests.post(f"{url}/auth/token", data={**form, "password": f"{PATIENT}-secret"}, timeout=30)
        params = {**FAST, "client_id": "doejane", "result_dtype": "uint8", "selected_label_name": PATIENT}
        for path, data in ((f"/infer/{MODEL}?image={STORED}", params), ("/infer/crashing?image=ct1", params)):
            mask = {"label": (name, files.mask.read_bytes())}
            requests.post(url + path, headers=own, data={"params": json.dumps(data)}, files=mask, timeout=60)
        log = guarded.log[before:]
        assert "POST /auth/token" in log
        assert not [word for word in ("DOE", "JANE", "doejane", TOKEN, READ_TOKEN, "secret") if word in log]
        assert str(guarded.root) not in log
