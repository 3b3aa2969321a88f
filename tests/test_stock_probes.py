"""What the doors for MONAI Label's own clients must not let in: sessions, words, next sample, submit.

On a server of the stock command. Whatever is sent, nothing is written or read that should not be.
"""

from __future__ import annotations

import io
import os
import time
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import requests
from doors_kit import code_of, gzip_bomb, nifti_header
from server_kit import FAST, STORED, Files, Server, post

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

    def test_an_archive_with_paths(self, server: Server, tmp_path: Path) -> None:
        outside = tmp_path / "escaped.py"
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as zipped:
            zipped.writestr("../../../escaped.dcm", b"\0" * 128 + b"DICM")
            zipped.writestr(str(outside), b"import os")
        answer = open_session(server, "x.zip", packed.getvalue(), uncompress="true")
        assert answer.status_code == 422
        assert not outside.exists()

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
