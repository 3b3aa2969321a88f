"""docs/wire.md says what the server does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from lesionbrush.server.doors.gate import DOORS, V1
from lesionbrush.server.jobs.job import JobStatus, State

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "wire.md").read_text(encoding="utf-8")
ROUTES = sorted(f"{door.method} {door.template.removeprefix(V1)}" for door in DOORS if V1 in door.template)


@pytest.mark.parametrize("route", ROUTES)
def test_each_route_is_explained_with_an_exchange(route: str) -> None:
    assert f"| `{route}` |" in TEXT
    if route == "GET /openapi.json":  # its exchange would be the whole document
        return
    assert f"\n## {route}\n" in TEXT
    section = TEXT.split(f"\n## {route}\n")[1].split("\n## ")[0]
    method, path = route.split()
    pattern = re.sub(r"\\\{\w+\\\}", "[0-9a-z]+", re.escape(V1 + path))
    assert re.search(rf"```http\n{method} {pattern}[?\n]", section)
    assert re.search(r"\n(20\d|404) [A-Z]", section)


def test_no_route_is_made_up() -> None:
    listed = re.findall(r"^\| `((?:GET|PUT|POST|DELETE) /\S*)` \|", TEXT, re.MULTILINE)
    assert sorted(listed) == ROUTES


def test_a_status_is_explained_key_by_key() -> None:
    table = TEXT.split("That is a **JobStatus**")[1].split("\n## ")[0]
    for name in JobStatus.model_fields.keys() - {"id", "model", "created"}:
        assert f"`{name}`" in table, name
    for state in State:
        assert f"`{state.value}`" in table, state
