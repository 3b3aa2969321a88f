"""The server is killed with one job running and others waiting, and starts again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from job_server import TOKEN, Process
from jobs_kit import until
from lesionbrush.files.io import write_volume
from lesionbrush.server.storage.private import NAME
from server_kit import MODEL, STORED, Files, make_ct

pytest_plugins = "server_fixtures"
pytestmark = pytest.mark.server

V1 = "/lesionbrush/v1"
AUTH = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def process(tmp_path: Path, models_dir: Path) -> Iterator[Process]:
    """With one CT stored."""
    for name in ("studies", "scratch"):
        (tmp_path / name).mkdir()
    write_volume(make_ct(), tmp_path / "studies" / f"{STORED}.nii.gz")
    made = Process(tmp_path, models_dir)
    yield made
    if made.running is not None:
        made.running.kill()
        made.running.wait()


def ask(process: Process, method: str, path: str, **given: Any) -> requests.Response:
    return requests.request(method, f"{process.url}{V1}{path}", headers=AUTH, timeout=60, **given)


def submit(process: Process, files: Files, steps: int) -> str:
    form = {"label": ("mask.nii.gz", files.mask.read_bytes())}
    query, text = {"model": MODEL, "image": STORED}, {"params": json.dumps({"steps": steps})}
    answer = ask(process, "POST", "/jobs", params=query, files=form, data=text)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def test_a_killed_server_forgets_its_jobs_and_says_so(process: Process, files: Files) -> None:
    process.start()
    jobs = [submit(process, files, 900) for _ in range(3)]
    until(lambda: ask(process, "GET", f"/jobs/{jobs[0]}").json()["step"] > 0, 60)
    assert [ask(process, "GET", f"/jobs/{job}").json()["position"] for job in jobs] == [None, 0, 1]
    process.running.kill()
    process.running.wait()
    results = process.root / "studies" / NAME / "results"
    assert list(results.iterdir())  # left by the killed one
    process.start()
    assert list(results.iterdir()) == []
    for job in jobs:
        answer = ask(process, "GET", f"/jobs/{job}")
        assert answer.status_code == 404
        assert answer.json()["detail"]["code"] == "unknown_job"
        assert "started again" in answer.json()["detail"]["message"]
    again = submit(process, files, 2)
    until(lambda: ask(process, "GET", f"/jobs/{again}").json()["state"] == "done", 60)
