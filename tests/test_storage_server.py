"""A real server on the studies: accepted cases, kill -9, a damaged index, and a second server."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from lesionbrush.files.io import read_volume, write_volume
from lesionbrush.server.storage.accept import AcceptedRecord
from LesionBrushLib.client import Client
from server_kit import (
    FAST,
    MODEL,
    REPOSITORY,
    STORED,
    Files,
    free_port,
    make_ct,
    make_mask,
    server_environment,
    stop,
)

pytest_plugins = "server_fixtures"
pytestmark = [pytest.mark.server, pytest.mark.slow]

START_TIMEOUT_S = 240


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hospital") / "studies"
    folder.mkdir()
    write_volume(make_ct(), folder / f"{STORED}.nii.gz")
    return folder


@contextmanager
def running(studies: Path, models: Path, name: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The stock command on loopback: its address, its process. Logs to `<name>.log` beside the studies."""
    scratch, port = studies.with_name("scratch"), free_port()
    scratch.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(REPOSITORY / "app")]
    command += ["--studies", str(studies), "--host", "127.0.0.1", "--port", str(port)]
    with studies.with_name(f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=scratch,
            env=server_environment(scratch, models),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        Client(url).wait_until_ready(START_TIMEOUT_S, alive=lambda: process.poll() is None)
        yield url, process
    finally:
        stop(process)


def eventually(is_so: Callable[[], Any], within_s: float = 60.0) -> Any:
    deadline = time.monotonic() + within_s
    while not (found := is_so()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def accepted(url: str, mask: Path) -> str:
    """One job on the stored CT, and its variant accepted; the id of the case."""
    v1 = f"{url}/lesionbrush/v1"
    form = {"label": (mask.name, mask.read_bytes())}
    query = {"model": MODEL, "image": STORED}
    job = requests.post(f"{v1}/jobs", params=query, data={"params": json.dumps(FAST)}, files=form, timeout=60)
    assert job.status_code == 202, job.text
    status = f"{v1}/jobs/{job.json()['id']}"
    eventually(lambda: requests.get(status, timeout=60).json()["state"] == "done")
    answers = [requests.post(f"{status}/variants/1/accept", timeout=60) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()
    image: str = answers[0].json()["image"]
    return image


def send_half(url: str) -> socket.socket:
    """A client that stops in the middle of an upload."""
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    head = f"PUT /lesionbrush/v1/references/{'0' * 64}?format=nii HTTP/1.1\r\nHost: {host}:{port}\r\n"
    head += "Content-Type: application/octet-stream\r\nContent-Length: 9000000\r\n\r\n"
    connection.sendall(head.encode() + b"x" * 3_000_000)
    return connection


def second_server(studies: Path, models: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lesionbrush.cli", "serve", "--studies", str(studies)]
    environment = {
        **server_environment(studies.with_name("scratch"), models),
        "PYTHONPATH": str(REPOSITORY / "app"),
    }
    return subprocess.run(
        [*command, "--port", str(free_port())],
        cwd=studies.parent, env=environment, check=False, capture_output=True, text=True, timeout=200,
    )  # fmt: skip


def test_a_server_that_is_killed_and_started_again(studies: Path, models_dir: Path, files: Files) -> None:
    with ExitStack() as stack:
        url, process = stack.enter_context(running(studies, models_dir, "first"))
        image = accepted(url, files.mask)
        second = second_server(studies, models_dir)
        stack.enter_context(send_half(url))
        half = eventually(lambda: list((studies / ".lesionbrush" / "tmp").rglob("reference.nii")))
        process.kill()
        process.wait()
    assert half[0].is_file()
    assert second.returncode != 0
    assert "another LesionBrush server already works on the studies folder 'studies'" in second.stderr
    assert "Traceback" not in second.stderr

    index = studies / "datastore_v2.json"
    os.truncate(index, index.stat().st_size // 2)
    with running(studies, models_dir, "second") as (url, _):
        assert list((studies / ".lesionbrush" / "tmp").iterdir()) == []
        assert "is damaged: it is kept aside, and made anew" in studies.with_name("second.log").read_text()
        listed = requests.get(f"{url}/datastore/", params={"output": "all"}, timeout=60).json()["objects"]
        assert set(listed) == {STORED, image}
        assert listed[image]["labels"].keys() == {"final"}
        assert listed[image]["image"]["info"]["synthetic"] is True
        assert requests.get(f"{url}/datastore/", timeout=60).json()["completed"] == 1
        label = requests.get(f"{url}/datastore/label", params={"label": image, "tag": "final"}, timeout=60)
        assert label.content == (studies / "labels" / "final" / f"{image}.nii.gz").read_bytes()
    assert_a_true_record(studies, image)


def assert_a_true_record(studies: Path, image: str) -> None:
    text = (studies / f"{image}.provenance.json").read_text()
    record = AcceptedRecord.model_validate_json(text)
    assert (record.reference_id, record.reference_sha256) == (STORED, make_ct().voxel_sha256)
    assert (record.model, record.seed, record.request["seed"]) == (MODEL, FAST["seed"], FAST["seed"])
    changed = read_volume(studies / f"{image}.nii.gz").array != make_ct().array
    assert changed.sum() == record.voxels_changed > 100
    lesion = read_volume(studies / "labels" / "final" / f"{image}.nii.gz").array
    assert (lesion == make_mask().array).all()
