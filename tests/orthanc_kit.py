"""A real Orthanc with its DICOMweb plugin, on a loopback port, with a storage of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
from dicom_kit import missing
from server_kit import free_port

PLUGIN = "libOrthancDicomWeb.so"
PLUGIN_FOLDERS = ("/usr/share/orthanc/plugins", "/usr/local/share/orthanc/plugins")
USER, PASSWORD = "lesionbrush", "a-password-of-this-test"
START_S = 60


@dataclass(frozen=True)
class Orthanc:
    """root: its own REST API; address: DICOMweb."""

    root: str
    process: subprocess.Popen[bytes]

    @property
    def address(self) -> str:
        return f"{self.root}/dicom-web"

    @property
    def environ(self) -> dict[str, str]:
        return {"LESIONBRUSH_DICOMWEB_USER": USER, "LESIONBRUSH_DICOMWEB_PASSWORD": PASSWORD}

    def get(self, path: str) -> requests.Response:
        """Of Orthanc's own API: an independent way to see what it has."""
        return requests.get(f"{self.root}{path}", auth=(USER, PASSWORD), timeout=30)

    def put(self, files: Iterator[Path]) -> None:
        for file in files:
            answer = requests.post(
                f"{self.root}/instances", data=file.read_bytes(), auth=(USER, PASSWORD), timeout=30
            )
            answer.raise_for_status()

    def files(self, series_uid: str, folder: Path) -> Path:
        """All instances of a series, as Orthanc has them."""
        folder.mkdir()
        found = requests.post(
            f"{self.root}/tools/find",
            json={"Level": "Instance", "Query": {"SeriesInstanceUID": series_uid}},
            auth=(USER, PASSWORD),
            timeout=30,
        ).json()
        for number, instance in enumerate(found):
            content = self.get(f"/instances/{instance}/file").content
            (folder / f"{number:05d}.dcm").write_bytes(content)
        return folder


@contextmanager
def orthanc(folder: Path) -> Iterator[Orthanc]:
    program, plugin = _installed()
    port = free_port()
    storage = folder / "storage"
    storage.mkdir(parents=True)
    config = {
        "Name": "test",
        "StorageDirectory": str(storage),
        "IndexDirectory": str(storage),
        "HttpPort": port,
        "HttpBindAddresses": ["127.0.0.1"],
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD},
        "DicomServerEnabled": False,
        "Plugins": [str(plugin)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    settings = folder / "orthanc.json"
    settings.write_text(json.dumps(config))
    with (folder / "orthanc.log").open("w") as log:
        process = subprocess.Popen([program, str(settings)], stdout=log, stderr=subprocess.STDOUT)
    try:
        running = Orthanc(f"http://127.0.0.1:{port}", process)
        _wait(running, folder / "orthanc.log")
        yield running
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _installed() -> tuple[str, Path]:
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
    plugins = [Path(folder) / PLUGIN for folder in PLUGIN_FOLDERS]
    plugin = next((path for path in plugins if path.is_file()), None)
    if program is None or plugin is None:
        missing("Orthanc")
    assert program is not None
    assert plugin is not None
    return program, plugin


def _wait(running: Orthanc, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and running.process.poll() is None:
        try:
            if running.get("/dicom-web/series").status_code == 200:
                return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise AssertionError(f"Orthanc did not start:\n{log.read_text()[-4000:]}")
