"""How what is kept for MONAI Label's clients ends: results, sessions, and the CTs of both."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from lesionbrush.server.http import routes
from lesionbrush.server.jobs.job import State
from lesionbrush.server.synthesis.inference import Service
from server_kit import FAST, MODEL, STORED, Files

pytest_plugins = ("server_fixtures", "jobs_fixtures")


def run(front: TestClient, files: Files, client: str, **query: str) -> Any:
    params = {**FAST, "result_dtype": "uint8", "client_id": client}
    form = {"label": ("mask.nii.gz", files.mask.read_bytes())}
    query = {"image": STORED, "output": "json", **query}
    return front.post(f"/infer/{MODEL}", params=query, files=form, data={"params": json.dumps(params)})


def submit(front: TestClient, files: Files, client: str) -> Any:
    form = {"label": ("mask.nii.gz", files.mask.read_bytes())}
    data = {"params": json.dumps({"client_id": client})}
    return front.put("/datastore/label", params={"image": STORED}, files=form, data=data)


def session(front: TestClient, files: Files) -> str:
    form = {"files": ("ct.nii.gz", files.ct.read_bytes())}
    return str(front.put("/session/", files=form).json()["session_id"])


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["detail"]["code"]


@pytest.mark.parametrize("how", ["expired", "forgotten"])
def test_a_result_that_has_had_its_time(front: TestClient, service: Service, files: Files, how: str) -> None:
    """The lesion does not become a label of the CT without it, whatever happened to the result."""
    record = service.jobs.get(run(front, files, how).json()["job"])
    if how == "expired":
        record.state = State.EXPIRED
    else:
        service.jobs.forget(record)
    assert code(submit(front, files, how)) == (410, "expired")
    assert front.get("/datastore/label", params={"label": STORED, "tag": "final"}).status_code == 404


def test_a_session_whose_ct_went(front: TestClient, service: Service, files: Files) -> None:
    ident = session(front, files)
    assert service.vault is not None
    reference = service.vault.sessions.find(ident).reference
    assert run(front, files, "a", session_id=ident).status_code == 200
    entry = service.vault.references.shelf._entries[reference]
    assert entry.holders == 0, "it is let go once the answer is out"
    service.vault.references.shelf.drop(reference)
    assert code(run(front, files, "a", session_id=ident)) == (404, "unknown_session")
    assert code(front.get(f"/session/{ident}")) == (404, "unknown_session")


def test_a_submission_after_the_ct_of_its_session_went(
    front: TestClient, service: Service, files: Files
) -> None:
    ident = session(front, files)
    assert service.vault is not None
    reference = service.vault.sessions.find(ident).reference
    assert run(front, files, "b", session_id=ident).status_code == 200
    service.vault.references.shelf.drop(reference)
    assert code(submit(front, files, "b")) == (404, "unknown_reference")


def test_a_server_that_keeps_nothing_says_so(models_dir: Any, files: Files) -> None:
    bare = TestClient(routes.front_app(Service(models_dir), None))  # type: ignore[arg-type]
    form = {"files": ("ct.nii.gz", files.ct.read_bytes())}
    assert code(bare.put("/session/", files=form)) == (404, "unknown_reference")
    assert code(bare.get(f"/session/{'0' * 32}")) == (404, "unknown_reference")
