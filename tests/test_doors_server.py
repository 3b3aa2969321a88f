"""Real servers: what their log keeps to itself, their tokens, and how they end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zipfile import ZipFile

import pytest
import requests
from dicom_fixtures import Series, write_series
from doors_kit import READ_TOKEN, TOKEN, bearer, code_of
from lesionbrush.server.doors.access import make_token
from own_server import Started, serving, start, wait_until_live
from server_kit import MODEL, REPOSITORY, STORED, Files, free_port, make_ct, server_environment, stop

pytest_plugins = "server_fixtures"
pytestmark = pytest.mark.server

PATIENT = "DOE^JANE"
FOLDER = "/srv/studies/DOE^JANE"
PLANTED = ("DOE", "JANE", "doe_jane", "/srv")
windows = sys.platform == "win32"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Iterator[Started]:
    """With two tokens, a log of JSON lines, and little room for uploads."""
    root = tmp_path_factory.mktemp("guarded")
    make_token(root / "token")
    (root / "token").write_text(TOKEN)
    arguments = ("--token-file", str(root / "token"), "--log", "json", "--upload-gb", "0.05", "--grace", "60")
    with serving(root, models_dir, *arguments, LESIONBRUSH_READ_TOKEN=READ_TOKEN) as server:
        yield server


def test_tokens_on_the_wire(guarded: Started) -> None:
    def ask(method: str, path: str, **headers: str) -> requests.Response:
        return requests.request(method, guarded.url + path, headers=headers, timeout=30)

    assert code_of(ask("GET", "/info/")) == (401, "unauthorized")
    assert code_of(ask("GET", "/docs")) == (401, "unauthorized")
    assert code_of(ask("POST", "/reload")) == (401, "unauthorized")
    assert ask("GET", "/info/", **bearer()).ok
    reading = bearer(READ_TOKEN)
    assert ask("GET", "/lesionbrush/v1/", **reading).json()["read_only"] is True
    assert ask("GET", "/lesionbrush/v1/", **bearer()).json()["read_only"] is False
    assert code_of(ask("POST", f"/infer/{MODEL}", **reading)) == (403, "read_only")
    assert code_of(ask("DELETE", "/lesionbrush/v1/jobs/x", **reading)) == (403, "read_only")
    assert ask("GET", "/health/ready").json() == {"ready": True, "wrong": []}
    assert code_of(ask("GET", "/metrics")) == (401, "unauthorized")
    assert "lesionbrush_requests_total" in ask("GET", "/metrics", **reading).text
    assert "server" not in {name.lower() for name in ask("GET", "/health/live").headers}


def test_more_than_the_upload_limit_is_refused_before_it_is_sent(guarded: Started) -> None:
    connection = HTTPConnection(urlsplit(guarded.url).netloc, timeout=30)
    connection.request("PUT", "/datastore/image", headers={**bearer(), "Content-Length": str(10**9)})
    answer = connection.getresponse()  # though not a byte of the body was sent
    said = json.loads(answer.read())
    connection.close()
    assert (answer.status, said["detail"]["code"]) == (413, "too_large")


def test_the_log_of_a_day(guarded: Started, files: Files, tmp_path: Path) -> None:
    """A patient's name is planted wherever a client can put one. The log has none of it, nor any path."""
    plant_it_everywhere(guarded, files, tmp_path)
    lines = [line for line in guarded.log.splitlines() if line.startswith("{")]
    said = "\n".join(lines)
    assert [line for line in guarded.log.splitlines() if any(word in line for word in PLANTED)] == []
    for place in (guarded.root, REPOSITORY, Path.home(), tmp_path):
        assert str(place) not in said
    assert TOKEN not in guarded.log
    assert READ_TOKEN not in guarded.log
    visits = [json.loads(line) for line in lines if '"lesionbrush.access"' in line]
    assert len(visits) > 15
    assert all({"time", "request", "status", "ms", "peer"} <= set(visit) for visit in visits)
    assert {visit["message"] for visit in visits} >= {
        "GET /info/",
        "PUT /datastore/image",
        "GET (not offered)",
    }
    assert "KeyError" in said  # the crash can be found


def plant_it_everywhere(server: Started, files: Files, folder: Path) -> None:
    url, own = server.url, bearer()
    ct, mask = files.ct.read_bytes(), files.mask.read_bytes()
    named = {"label": (f"{FOLDER}/mask.nii.gz", mask)}
    agent = {**own, "User-Agent": PATIENT, "Referer": f"http://x/{PATIENT}", "Cookie": f"p={PATIENT}"}

    def post(path: str, params: Any = None, headers: dict[str, str] = own, **given: Any) -> None:
        data = {"params": params if isinstance(params, str) else json.dumps(params or {"steps": 1})}
        requests.post(url + path, headers=headers, data=data, timeout=60, **given)

    requests.get(f"{url}/info/", headers=agent, params={"patient": PATIENT}, timeout=30)
    requests.get(f"{url}/{PATIENT}/{FOLDER}", headers=agent, timeout=30)
    requests.get(f"{url}/datastore/image", headers=own, params={"image": PATIENT}, timeout=30)
    requests.get(f"{url}/lesionbrush/v1/jobs/DOE_JANE", headers=own, timeout=30)
    requests.request("PURGE", f"{url}/{PATIENT}", headers=own, timeout=30)
    for name in ("doe_jane", PATIENT, FOLDER):
        form = {"file": (f"{FOLDER}/ct.nii.gz", ct)}
        query = {"image": name}
        data = {"params": json.dumps({"PatientName": PATIENT})}
        requests.put(f"{url}/datastore/image", headers=own, params=query, files=form, data=data, timeout=60)
        label = {**query, "tag": "doe_jane"}
        requests.put(f"{url}/datastore/label", headers=own, params=label, files=named, timeout=60)
        post(f"/infer/{MODEL}?image={name}", files=named)
    post("/infer/doe_jane", files=named)
    post(f"/infer/{MODEL}?image={STORED}&session_id={FOLDER}", files=named)
    post(f"/infer/{MODEL}?image={STORED}", {"image": FOLDER, "name": PATIENT}, files=named)
    post(f"/infer/{MODEL}?image={STORED}", f"{{{PATIENT}", files=named)
    post(f"/infer/{MODEL}?image={STORED}", files={"label": (f"{PATIENT}.py", b"x")})
    post(f"/infer/{MODEL}?image={STORED}", files={"label": (f"{FOLDER}/m.nii.gz", b"damaged")})
    post(f"/infer/crashing?image={STORED}", files=named)
    post(f"/infer/{MODEL}", files={**named, "file": ("DOE^JANE.zip", series_of(folder))})
    post(
        f"/lesionbrush/v1/jobs?model={MODEL}&image=doe_jane",
        headers={**own, "Idempotency-Key": "doe_jane", "X-LesionBrush-Client": "doe_jane"},
        files=named,
    )


def series_of(folder: Path) -> bytes:
    """A patient's slices, one of them with values that pydicom warns of."""

    def name(_: int, slice_: Any) -> None:
        slice_.PatientName = PATIENT
        slice_.PatientID = FOLDER
        slice_.StudyDescription = PATIENT * 40

    paths = write_series(folder / "DOE^JANE", Series(make_ct().array[:8, :8, :4], edit=name))
    with ZipFile(folder / "a.zip", "w") as zipped:
        for path in paths:
            zipped.write(path, f"{PATIENT}/{path.name}")
    return (folder / "a.zip").read_bytes()


def test_it_writes_nowhere_else(guarded: Started) -> None:
    """So that it runs on a read-only file system, with its studies and a folder for temporary files."""
    made = {path.relative_to(guarded.root).parts[0] for path in guarded.root.rglob("*") if path.is_file()}
    assert made <= {"studies", "scratch", "server.log", "token"}


def slow_request(server: Started, files: Files, steps: int) -> Callable[[], requests.Response]:
    def send() -> requests.Response:
        form = {"label": ("mask.nii.gz", files.mask.read_bytes())}
        data = {"params": json.dumps({"steps": steps})}
        url = f"{server.url}/infer/{MODEL}?image={STORED}&output=json"
        return requests.post(url, headers=bearer(), files=form, data=data, timeout=200)

    return send


@pytest.mark.skipif(windows, reason="no display: Windows ends processes without asking")
class TestTheEnd:
    def run(
        self, root: Path, models_dir: Path, files: Files, *arguments: str, steps: int = 150
    ) -> tuple[Any, Started]:
        server = start(root, models_dir, *arguments, LESIONBRUSH_TOKEN=TOKEN)
        try:
            wait_until_live(server)
            with ThreadPoolExecutor(1) as pool:
                answer = pool.submit(slow_request(server, files, steps))
                time.sleep(2)
                server.process.send_signal(signal.SIGTERM)
                assert server.process.wait(60) == 128 + signal.SIGTERM
            return answer.result(), server
        finally:
            stop(server.process)

    def test_a_running_job_may_finish(self, tmp_path: Path, models_dir: Path, files: Files) -> None:
        answer, server = self.run(tmp_path, models_dir, files, "--grace", "50")
        assert answer.json()["variants"]
        assert "shutting down: running jobs may take 50 s" in server.log

    def test_or_is_cancelled(self, tmp_path: Path, models_dir: Path, files: Files) -> None:
        answer, server = self.run(tmp_path, models_dir, files, "--shutdown", "cancel", steps=900)
        assert code_of(answer) == (499, "cancelled")
        assert "shutting down: running jobs are cancelled" in server.log


def test_the_stock_command_alone_opens_no_port(tmp_path: Path, models_dir: Path) -> None:
    """Its default address is 0.0.0.0."""
    (tmp_path / "studies").mkdir()
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(REPOSITORY / "app")]
    command += ["--studies", str(tmp_path / "studies"), "--port", str(free_port())]
    environment = server_environment(tmp_path, models_dir)
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    said = ended.stdout + ended.stderr
    assert ended.returncode == 3
    assert "does not listen at 0.0.0.0, where others can reach it: make a token" in said
    assert "Uvicorn running" not in said
