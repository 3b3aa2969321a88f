"""What the container file copies and starts, in an empty folder: its variables, its command, no container."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from doors_kit import TOKEN, bearer
from own_server import Started, wait_until_live
from server_kit import REPOSITORY, free_port, snapshot, stop

pytestmark = pytest.mark.server
TEXT = (REPOSITORY / "Containerfile").read_text(encoding="utf-8").replace("\\\n", " ")
FINAL = TEXT.rpartition("\nFROM ")[2]
INSTALLED = "/opt/lesionbrush"


def copied(root: Path) -> Path:
    """The folder of the image, filled by its COPY lines alone."""
    folder = root / "image"
    folder.mkdir()
    for line in re.findall(r"^COPY (?!--from)(.+)$", TEXT, re.MULTILINE):
        *sources, target = line.split()
        for source in sources:
            origin, place = REPOSITORY / source, folder / target
            if origin.is_dir():
                shutil.copytree(origin, place, ignore=shutil.ignore_patterns("__pycache__", "logs", ".*"))
            else:
                shutil.copy(origin, place)
    return folder


def variables(folder: Path, root: Path) -> dict[str, str]:
    """Of the ENV lines, with this test's folders and interpreter; nothing of ours but these."""
    pairs = re.findall(r"(\w+)=(\S+)", " ".join(re.findall(r"^ENV (.+)$", FINAL, re.MULTILINE)))
    places = {INSTALLED: str(folder), "/run/secrets/lesionbrush_token": str(root / "token")}
    own = {}
    for name, value in pairs:
        for old, new in places.items():
            value = value.replace(old, new)  # noqa: PLW2901
        own[name] = str(root / "tmp") if value == "/tmp" else value
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**own, "PATH": path, "TMPDIR": str(root / "tmp"), "OMP_NUM_THREADS": "1"}


def command(name: str) -> list[str]:
    (line,) = re.findall(rf"^{name} (\[.+\])$", FINAL, re.MULTILINE)
    return [str(part) for part in json.loads(line)]


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """ENTRYPOINT and CMD, but for the port, the address (loopback), and the folder of the studies."""
    root = tmp_path_factory.mktemp("container")
    folder, port = copied(root), free_port()
    (root / "before.json").write_text(json.dumps(snapshot(folder)))
    for name in ("tmp", "studies"):
        (root / name).mkdir()
    (root / "token").write_text(TOKEN)
    changed = {"/studies": str(root / "studies"), "0.0.0.0": "127.0.0.1", "8000": str(port)}
    entry, arguments = command("ENTRYPOINT"), command("CMD")
    assert set(changed) <= set(arguments)
    started = [sys.executable, *entry[1:], *(changed.get(word, word) for word in arguments)]
    assert entry[0] == "python"
    with (root / "server.log").open("w") as log:
        process = subprocess.Popen(
            started, cwd=root / "tmp", env=variables(folder, root), stdout=log, stderr=subprocess.STDOUT
        )
    server = Started(process, f"http://127.0.0.1:{port}", root)
    try:
        wait_until_live(server)
        yield server
    finally:
        stop(process)


def test_it_starts_with_the_models_that_were_copied(container: Started) -> None:
    said = requests.get(f"{container.url}/lesionbrush/v1/", headers=bearer(), timeout=60).json()
    assert said["models"]["lung_lesion"]["problem"] is None


def test_it_wants_the_token_and_logs_json(container: Started) -> None:
    assert requests.get(f"{container.url}/info/", timeout=30).status_code == 401
    lines = [line for line in container.log.splitlines() if '"lesionbrush.access"' in line]
    assert all(json.loads(line)["status"] for line in lines)
    assert lines


def test_its_own_probe_is_content(container: Started) -> None:
    """The HEALTHCHECK's command, with this port."""
    (line,) = re.findall(r"^HEALTHCHECK .*?CMD (\[.+\])$", FINAL, re.MULTILINE)
    program, *rest = json.loads(line)
    assert program == "python"
    asked = [part.replace(":8000/", f":{container.port}/") for part in rest]
    assert subprocess.run([sys.executable, *asked], timeout=30, check=False).returncode == 0
    wrong = [part.replace(":8000/", f":{free_port()}/") for part in rest]
    gone = subprocess.run([sys.executable, *wrong], stderr=subprocess.DEVNULL, timeout=30, check=False)
    assert gone.returncode != 0


def test_it_writes_to_its_volume_and_tmp_alone(container: Started) -> None:
    """So that its root file system can be read-only."""
    requests.get(f"{container.url}/info/", headers=bearer(), timeout=60)
    assert snapshot(container.root / "image") == json.loads((container.root / "before.json").read_text())


def test_logs_of_the_checkout_stay_out_of_the_image() -> None:
    """The stock command writes `app/logs`; nothing that git leaves out may come along."""
    left_out = (REPOSITORY / ".containerignore").read_text(encoding="utf-8").splitlines()
    assert {"**/logs", "**/__pycache__", "**/.*"} <= set(left_out)
