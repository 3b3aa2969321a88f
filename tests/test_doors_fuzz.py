"""Requests that follow the OpenAPI document of protocol 1, and many that do not: none breaks the server."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from doors_kit import HERE, LOCAL, stub
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as limits
from hypothesis.errors import Unsatisfiable
from lesionbrush.files.io import write_volume
from lesionbrush.server.doors.gate import V1, Gate
from lesionbrush.server.doors.perimeter import Perimeter
from lesionbrush.server.http.routes import front_app
from lesionbrush.server.operation.health import Operation, add_operation
from lesionbrush.server.settings import ServerSettings
from lesionbrush.server.storage.studies import Studies
from lesionbrush.server.synthesis.inference import Service
from schemathesis import GenerationMode
from server_kit import MODEL, STORED, Files, make_ct, make_model, snapshot

pytest_plugins = "server_fixtures"

SECONDS = 30.0
EXAMPLES = 24
MAY_FAIL = (503, 507)
TURNS = count()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, Path]]:
    root = tmp_path_factory.mktemp("fuzz")
    studies = root / "studies"
    studies.mkdir()
    make_model(root / "models")
    write_volume(make_ct(), studies / f"{STORED}.nii.gz")
    service = Service(root / "models", studies)
    front = front_app(service, Studies(str(studies)))
    operation = Operation(service, studies, ServerSettings())
    add_operation(front, operation)
    gate = Gate(stub("stock"), front, Perimeter.of(ServerSettings()), operation.note_visit)
    with TestClient(gate, LOCAL, client=HERE, raise_server_exceptions=False) as client:
        yield client, root
    service.jobs.close(finish_running=False, timeout_s=10)


def outside(root: Path) -> dict[str, str]:
    """All that is not the server's own to write."""
    return {name: digest for name, digest in snapshot(root).items() if ".lesionbrush" not in name}


def test_no_request_breaks_the_server(house: tuple[TestClient, Path], files: Files) -> None:
    client, root = house
    document = client.get(f"{V1}/openapi.json").json()
    before = outside(root)
    operations = [found.ok() for found in schemathesis.openapi.from_dict(document).get_all_operations()]
    operations.sort(key=destructive)
    assert len(operations) >= 13
    job = done_job(client, files)
    asked: dict[str, list[int]] = {}
    each_s = SECONDS / (2 * len(operations))
    for operation in operations:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            statuses = asked.setdefault(f"{operation.method} {operation.path}", [])
            fuzz(operation, mode, each_s, lambda case, into=statuses: into.append(sent(client, case, job)))
    assert all(asked.values()), asked
    assert outside(root).keys() >= before.keys()
    assert client.get("/health/ready").json()["ready"]


def fuzz(operation: Any, mode: GenerationMode, seconds: float, send: Any) -> None:
    """Examples of one route until the time is up; the same ones every time, as far as they come."""
    until = time.monotonic() + seconds

    @seed(1)
    @limits(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def run(case: Any) -> None:
        if time.monotonic() < until:
            send(case)

    with suppress(Unsatisfiable):  # nothing can be wrong about a route without parameters
        run()


def done_job(client: TestClient, files: Files) -> str:
    """The id of a job with two variants, for the routes that say little without one."""
    query, form = {"model": MODEL, "image": STORED}, {"label": ("m.nii.gz", files.mask.read_bytes())}
    data = {"params": json.dumps({"steps": 1, "variants": 2})}
    answer = client.post(f"{V1}/jobs", params=query, files=form, data=data)
    assert answer.status_code == 202, answer.text
    job = str(answer.json()["id"])
    for _ in range(600):
        if client.get(f"{V1}/jobs/{job}").json()["state"] == "done":
            return job
        time.sleep(0.1)
    pytest.fail("the job was not done")


def destructive(operation: Any) -> tuple[bool, bool]:
    """Those that take away what others ask for come last."""
    return operation.method.upper() == "DELETE", operation.path.endswith("discard")


def sent(client: TestClient, case: Any, job: str) -> int:
    """Two of three requests for a job ask for the one there is, one of them for a variant of it."""
    parts, turn = case.path_parameters or {}, next(TURNS) % 3
    if "job" in parts and turn:
        parts["job"] = job
        if "number" in parts and turn == 2:
            parts["number"] = 2
    arguments = case.as_transport_kwargs(base_url=f"{LOCAL}{V1}")
    allowed = ("method", "url", "params", "headers", "cookies", "data", "json", "files", "content")
    request = {name: value for name, value in arguments.items() if name in allowed and value is not None}
    if isinstance(request.get("data"), (bytes, str)):
        request["content"] = request.pop("data")
    answer = client.request(**request)
    assert answer.status_code < 500 or answer.status_code in MAY_FAIL, (case, answer.status_code, answer.text)
    if answer.status_code >= 400:
        detail = answer.json()["detail"]
        assert set(detail) == {"code", "message"}
    return answer.status_code
