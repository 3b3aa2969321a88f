"""Behind a real nginx, with the example of docs/server.md: uploads, events as they happen, tokens, limits."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from doors_kit import TOKEN, bearer, code_of
from LesionBrushLib.client import JobClient, JobStatus, Order, Watch, ct_upload, mask_upload
from nginx_kit import Proxy, changed, example, nginx
from own_server import Started, serving
from server_kit import FAST, MODEL, STORED, Files, affine, free_port, make_ct, make_mask

pytest_plugins = "server_fixtures"
pytestmark = pytest.mark.server
V1 = "/lesionbrush/v1"
LONG = {"steps": 900, "sampler": "ddpm"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Iterator[Started]:
    with serving(tmp_path_factory.mktemp("behind"), models_dir, LESIONBRUSH_TOKEN=TOKEN) as started:
        yield started


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory, server: Started) -> Iterator[Proxy]:
    with nginx(tmp_path_factory.mktemp("nginx") / "root", server.port) as running:
        yield running


def client_of(proxy: Proxy) -> JobClient:
    return JobClient(proxy.url, TOKEN, ca_file=proxy.authority)


def ask(proxy: Proxy, method: str, path: str, **given: Any) -> requests.Response:
    return requests.request(method, proxy.url + path, verify=str(proxy.authority), timeout=60, **given)


def order(**params: Any) -> Order:
    mask, ct = (volume.array for volume in (make_mask(), make_ct()))
    return Order(MODEL, mask_upload(mask, affine()), ct_upload(ct, affine()), {**FAST, **params})


def test_a_whole_synthesis(proxy: Proxy) -> None:
    """A CT goes up, a job runs, its box comes back."""
    seen: list[JobStatus] = []
    made = client_of(proxy).synthesize(order(steps=6), Watch(on_status=seen.append))
    assert len(made.boxes) == 1
    assert seen[-1].finished


def test_events_come_when_they_happen(proxy: Proxy, files: Files) -> None:
    """Status and pictures of a job that runs on: nothing waits in the proxy for the end."""
    form = {"label": ("mask.nii.gz", files.mask.read_bytes())}
    query, data = {"model": MODEL, "image": STORED}, {"params": json.dumps(LONG)}
    job = ask(proxy, "POST", f"{V1}/jobs", params=query, data=data, files=form, headers=bearer()).json()["id"]
    address = f"{proxy.url}{V1}/jobs/{job}"
    stream = requests.get(
        f"{address}/events", headers=bearer(), verify=str(proxy.authority), stream=True, timeout=30
    )
    came: list[float] = []
    kinds: set[str] = set()
    with stream:
        for line in stream.iter_lines(chunk_size=1):
            if line.startswith(b"event: "):
                kinds.add(line[7:].decode())
                came.append(time.monotonic())
            if len(came) >= 8 and len(kinds) == 2:
                break
    state = ask(proxy, "GET", f"{V1}/jobs/{job}", headers=bearer()).json()["state"]
    ask(proxy, "DELETE", f"{V1}/jobs/{job}", headers=bearer())
    assert state == "running"
    assert kinds == {"status", "preview"}
    assert came[-1] - came[0] > 0.2  # not in one piece


def test_the_token_is_passed_on(proxy: Proxy) -> None:
    assert code_of(ask(proxy, "GET", "/info/")) == (401, "unauthorized")
    assert code_of(ask(proxy, "GET", "/info/", headers=bearer("x" * 30))) == (401, "unauthorized")
    assert ask(proxy, "GET", "/info/", headers=bearer()).ok


def test_a_body_of_unknown_length_gets_one_from_the_proxy(proxy: Proxy, files: Files) -> None:
    """The server itself takes no chunked bodies (411)."""
    content = files.ct.read_bytes()
    place = f"{V1}/references/{hashlib.sha256(content).hexdigest()}?format=nii.gz"
    answer = ask(proxy, "PUT", place, data=iter([content[:1000], content[1000:]]), headers=bearer())
    assert answer.status_code in (200, 201), answer.text


def test_a_body_beyond_the_limit_ends_at_the_proxy(server: Started, tmp_path: Path, files: Files) -> None:
    content = files.ct.read_bytes()
    place = f"{V1}/references/{hashlib.sha256(content).hexdigest()}?format=nii.gz"
    with nginx(tmp_path / "nginx", server.port, body=str(len(content) - 1)) as small:
        refused = ask(small, "PUT", place, data=content, headers=bearer())
        assert refused.status_code == 413
        assert "nginx" in refused.text
        assert ask(small, "GET", "/info/", headers=bearer()).ok


def test_addresses_are_not_written_down(proxy: Proxy) -> None:
    """Queries hold ids of images."""
    ask(proxy, "GET", "/datastore/image", params={"image": "DOE_JANE"}, headers=bearer())
    assert "DOE_JANE" not in written(proxy)


def test_nor_are_they_while_the_server_is_down(tmp_path: Path) -> None:
    """What nginx says of errors quotes the request."""
    with nginx(tmp_path / "nginx", free_port()) as alone:
        answer = ask(alone, "GET", "/datastore/image", params={"image": "DOE_JANE"}, headers=bearer())
        assert answer.status_code == 502
    assert "DOE_JANE" not in written(alone)


def written(proxy: Proxy) -> str:
    return "".join(path.read_text() for path in proxy.root.glob("*.log"))


def test_without_a_token_the_server_refuses_what_was_forwarded(tmp_path: Path, models_dir: Path) -> None:
    (tmp_path / "server").mkdir()
    with (
        serving(tmp_path / "server", models_dir) as open_one,
        nginx(tmp_path / "nginx", open_one.port) as front,
    ):
        assert requests.get(f"{open_one.url}/info/", timeout=30).ok
        assert code_of(ask(front, "GET", "/info/")) == (403, "token_required")


def test_a_page_that_says_something_else_is_noticed() -> None:
    with pytest.raises(AssertionError, match="does not say 'listen 80'"):
        changed(example(), {"listen 80": "listen 81"})
