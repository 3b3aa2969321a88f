"""The routes of protocol 1 in this process, with the tiny model. Load with `pytest_plugins`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from lesionbrush.core.volume import require_ct
from lesionbrush.files.io import read_volume, write_volume
from lesionbrush.server.http import routes
from lesionbrush.server.storage.studies import Studies
from lesionbrush.server.synthesis.inference import Service
from server_kit import MODEL, STORED, Files, make_ct

V1 = "/lesionbrush/v1"
WAIT_S = 60
Submit = Callable[..., Any]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Iterator[Service]:
    studies = tmp_path_factory.mktemp("studies")
    write_volume(make_ct(), studies / f"{STORED}.nii.gz")
    made = Service(models_dir, studies)
    yield made
    made.jobs.close(finish_running=False)


@pytest.fixture(scope="module")
def front(service: Service) -> TestClient:
    assert service.vault is not None
    app = routes.front_app(service, Studies(str(service.vault.studies)))
    return TestClient(app, raise_server_exceptions=False)


@pytest.fixture(scope="module")
def reference(front: TestClient, files: Files) -> str:
    content = files.ct.read_bytes()
    name = sha256(content).hexdigest()
    assert code(front.get(f"{V1}/references/{name}")) == (404, "unknown_reference")
    for status in (201, 200):
        answer = front.put(f"{V1}/references/{name}", params={"format": "nii.gz"}, content=content)
        assert answer.status_code == status
    facts = front.get(f"{V1}/references/{name}").json()
    ct = require_ct(read_volume(files.ct))
    assert facts == {
        "reference": name,
        "voxel_sha256": ct.voxel_sha256,
        "shape": list(ct.shape),
        "bytes": len(content),
    }
    return name


@pytest.fixture
def submit(front: TestClient, files: Files, reference: str) -> Submit:
    """`submit({"seed": 3})`: the mask on the uploaded CT, unless told otherwise."""

    def call(params: dict[str, Any], headers: dict[str, str] | None = None, **query: Any) -> Any:
        form = {"label": ("mask.nii.gz", files.mask.read_bytes())}
        query = {"model": MODEL, **({} if "image" in query else {"reference": reference}), **query}
        text = {"params": json.dumps({"steps": 2, **params})}
        return front.post(f"{V1}/jobs", params=query, files=form, data=text, headers=headers)

    return call


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["detail"]["code"]


def done(front: TestClient, service: Service, answer: Any) -> str:
    """The place of a job that is done."""
    assert answer.status_code == 202, answer.text
    place = answer.headers["location"]
    assert service.jobs.wait(service.jobs.get(answer.json()["id"]), WAIT_S)
    assert front.get(place).json()["state"] == "done", front.get(place).text
    return str(place)


def events(text: str) -> list[tuple[int, str, dict[str, Any]]]:
    """(id, kind, data) of each event of a stream."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return found
