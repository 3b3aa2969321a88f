"""Fixtures for tests of the server. Load with `pytest_plugins = "server_fixtures"`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from infer_kit import infer as infer_by_one_request
from lesionbrush.core.registry import WEIGHTS
from lesionbrush.files.io import write_volume
from LesionBrushLib.client import Client, Result, ServerUnreachable
from server_kit import (
    FAST,
    MODEL,
    REPOSITORY,
    STORED,
    Files,
    Server,
    free_port,
    make_ct,
    make_mask,
    make_model,
    make_noise_model,
    server_environment,
    stop,
)

START_TIMEOUT_S = 240


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("files")
    made = Files(folder, folder / "ct.nii.gz", folder / "mask.nii.gz")
    made.save(make_ct(), made.ct.name)
    made.save(make_mask(), made.mask.name)
    return made


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny` works; `altered` has other weights than its card says; `bare` has none; `crashing` crashes.

    `noise` makes whole CTs; `unpainted` edits without a mask.
    """
    root = tmp_path_factory.mktemp("models")
    make_model(root)
    make_model(root, "altered", weights_sha256="0" * 64)
    (make_model(root, "bare") / WEIGHTS).unlink()
    make_model(root, "crashing", schedule="a schedule nobody has written")
    make_noise_model(root)
    make_noise_model(root, "unpainted", makes="a lesion where nobody painted one", roi_multiple=8)
    return root


@pytest.fixture(scope="session")
def running_server(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Iterator[Server]:
    """The stock command, on loopback, with one CT stored."""
    root = tmp_path_factory.mktemp("server")
    port = free_port()
    server = Server(f"http://127.0.0.1:{port}", root / "studies", root / "scratch", root / "server.log")
    server.studies.mkdir()
    server.scratch.mkdir()
    write_volume(make_ct(), server.studies / f"{STORED}.nii.gz")
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(REPOSITORY / "app")]
    command += ["--studies", str(server.studies), "--host", "127.0.0.1", "--port", str(port)]
    with server.log.open("w") as log:
        environment = server_environment(server.scratch, models_dir)
        process = subprocess.Popen(command, cwd=root, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        Client(server.url).wait_until_ready(START_TIMEOUT_S, alive=lambda: process.poll() is None)
        yield server
    except ServerUnreachable:
        pytest.fail(f"the server did not start:\n{server.log.read_text()[-8000:]}")
    finally:
        stop(process)


@pytest.fixture
def server(running_server: Server) -> Iterator[Server]:
    """The shared server; pytest shows what it logged during a test that failed."""
    seen = running_server.log.stat().st_size
    yield running_server
    print(running_server.log.read_bytes()[seen:].decode(errors="replace"))


@pytest.fixture
def client(server: Server) -> Client:
    return Client(server.url, timeout_s=120)


@pytest.fixture
def infer(client: Client, files: Files, tmp_path: Path) -> Callable[..., Result]:
    """`infer("out.nii")`: by MONAI Label's route; mask, stored CT and tiny model, unless told otherwise."""

    def call(out: str, model: str = MODEL, **given: Any) -> Result:
        reference = {} if "reference_path" in given else {"image_id": STORED}
        wanted = {"mask_path": files.mask, "params": FAST, **reference, **given}
        return infer_by_one_request(client, model, tmp_path / out, **wanted)

    return call
