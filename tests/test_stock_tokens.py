"""The doors for MONAI Label's own clients on a server with tokens: who gets in, and what the log says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from doors_kit import READ_TOKEN, TOKEN, bearer, code_of
from own_server import Started, serving
from server_kit import FAST, MODEL, STORED, Files

pytest_plugins = "server_fixtures"
pytestmark = pytest.mark.server

PATIENT = "DOE^JANE"
NOBODYS = "0" * 32


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
