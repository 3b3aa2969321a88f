"""Through a running server whose studies are a real Orthanc: list, synthesize, accept, read back."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest
import requests
from dicom_fixtures import Series, write_series
from dicom_kit import Hospital
from lesionbrush.core.volume import Volume
from lesionbrush.files.io import read_dicom_series, read_volume, write_volume
from lesionbrush.server.archive.dicomweb import Archive
from LesionBrushLib.client import Client
from orthanc_kit import PASSWORD, Orthanc, orthanc
from server_fixtures import START_TIMEOUT_S
from server_kit import (
    FAST,
    MODEL,
    REPOSITORY,
    SPACING_MM,
    edit_region,
    free_port,
    make_ct,
    make_mask,
    make_model,
    server_environment,
    stop,
)

pytestmark = pytest.mark.server
V1 = "/lesionbrush/v1"


@dataclass(frozen=True)
class Hospitals:
    """A server, its archive, and the one CT series in it."""

    url: str
    pacs: Orthanc
    series: str
    reference: Volume
    log: Path
    cache: Path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospitals]:
    """Started with the stock command, offline, on an archive with a password."""
    root = tmp_path_factory.mktemp("site")
    with orthanc(root / "orthanc") as pacs:
        write_series(root / "ct", Series(make_ct().array, SPACING_MM, edit=Hospital().edit))
        header = pydicom.dcmread(next((root / "ct").iterdir()))
        files = sorted((root / "ct").iterdir())
        assert Archive(pacs.address, pacs.environ).store(header.StudyInstanceUID, files) == {}
        make_model(root / "models")
        port = free_port()
        (root / "scratch").mkdir()
        command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(REPOSITORY / "app")]
        command += ["--studies", pacs.address, "--host", "127.0.0.1", "--port", str(port)]
        environment = {
            **server_environment(root / "scratch", root / "models"),
            **pacs.environ,
            "LESIONBRUSH_DICOMWEB_CACHE": str(root / "cache"),
            "https_proxy": "http://127.0.0.1:9",  # a download of tools at start would fail
        }
        log = root / "server.log"
        with log.open("w") as stream:
            process = subprocess.Popen(command, cwd=root, env=environment, stdout=stream, stderr=stream)
        try:
            url = f"http://127.0.0.1:{port}"
            Client(url).wait_until_ready(START_TIMEOUT_S, alive=lambda: process.poll() is None)
            reference = read_dicom_series(root / "ct")
            yield Hospitals(url, pacs, str(header.SeriesInstanceUID), reference, log, root / "cache")
        except BaseException:
            print(log.read_text()[-6000:])
            raise
        finally:
            stop(process)


@pytest.fixture
def mask(site: Hospitals, tmp_path: Path) -> Path:
    write_volume(site.reference.with_array(make_mask().array), tmp_path / "mask.nii.gz")
    return tmp_path / "mask.nii.gz"


def done(site: Hospitals, mask: Path) -> str:
    """The address of a finished job on the series of the archive."""
    with mask.open("rb") as label:
        answer = requests.post(
            f"{site.url}{V1}/jobs",
            params={"model": MODEL, "image": site.series},
            data={"params": '{"steps": 2, "seed": 5}'},
            files={"label": (mask.name, label)},
            timeout=60,
        )
    assert answer.status_code == 202, answer.text
    job = f"{site.url}{V1}/jobs/{answer.json()['id']}"
    deadline = time.monotonic() + 120
    while (status := requests.get(job, timeout=10).json())["state"] in ("queued", "running"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert status["state"] == "done", status
    return job


def test_the_series_of_the_archive_are_listed(site: Hospitals) -> None:
    listing = requests.get(f"{site.url}/datastore/", params={"output": "all"}, timeout=30).json()
    assert site.series in listing["objects"]


def test_a_series_can_be_downloaded(site: Hospitals, tmp_path: Path) -> None:
    answer = requests.get(f"{site.url}/datastore/image", params={"image": site.series}, timeout=60)
    assert answer.status_code == 200
    (tmp_path / "ct.nrrd").write_bytes(answer.content)
    assert np.array_equal(read_volume(tmp_path / "ct.nrrd").array, site.reference.array)


def test_the_stock_route_takes_a_series(site: Hospitals, mask: Path, tmp_path: Path) -> None:
    client, out = Client(site.url), tmp_path / "out.nii.gz"
    made = client.infer(MODEL, mask_path=mask, out_path=out, image_id=site.series, params=FAST)
    changed = read_volume(made.paths[0]).array != site.reference.array
    assert changed.any()
    assert not changed[~edit_region()].any()


def test_an_accepted_result_is_in_the_archive_and_keeps_the_promise(
    site: Hospitals, mask: Path, tmp_path: Path
) -> None:
    job = done(site, mask)
    first = requests.post(f"{job}/variants/1/accept", timeout=60)
    assert first.status_code == 200, first.text
    again = requests.post(f"{job}/variants/1/accept", timeout=60)
    uid = first.json()["image"]
    assert again.json()["image"] == uid
    back = read_dicom_series(site.pacs.files(uid, tmp_path / "back"))
    assert np.array_equal(back.affine, site.reference.affine)
    changed = back.array != site.reference.array
    assert changed.any()
    assert not changed[~edit_region()].any()
    record = requests.get(f"{job}/variants/1", timeout=10).json()
    assert int(changed.sum()) == record["voxels_changed"]
    header = pydicom.dcmread(next((tmp_path / "back").iterdir()))
    assert header[0x0008, 0x001C].value == "YES"
    listing = requests.get(f"{site.url}/datastore/", params={"output": "all"}, timeout=30).json()
    assert listing["objects"][uid]["image"]["info"]["synthetic"]
    asked = {"label": uid, "tag": "final"}
    label = requests.get(f"{site.url}/datastore/label", params=asked, timeout=60)
    assert label.status_code == 200, label.text
    (tmp_path / "label.nrrd").write_bytes(label.content)
    found = read_volume(tmp_path / "label.nrrd")
    assert np.array_equal(found.array, make_mask().array)
    assert np.allclose(found.affine, site.reference.affine, atol=1e-4)
    head = requests.head(f"{site.url}/datastore/label", params={"image": uid, "tag": "final"}, timeout=60)
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(label.content)))
    assert requests.get(f"{site.url}/datastore/label/info", params=asked, timeout=60).ok


@pytest.mark.parametrize(
    ("label", "tag", "said"),
    [
        ("the one", "final", (404, "unknown_label")),
        ("the one", "original", (404, "unknown_label")),
        ("1.2.3", "final", (404, "unknown_image")),
        ("../x", "final", (422, "invalid_request")),
    ],
)
def test_a_label_that_is_not_there(site: Hospitals, label: str, tag: str, said: tuple[int, str]) -> None:
    """The hospital's own CT has no SEG."""
    asked = {"label": site.series if label == "the one" else label, "tag": tag}
    answer = requests.get(f"{site.url}/datastore/label", params=asked, timeout=30)
    assert (answer.status_code, answer.json()["detail"]["code"]) == said


@pytest.mark.parametrize(
    "image", ["../../statistics", "1.2/../..", "1.2.3?x=1", "1.2.%33", "http://1.2.3", "1" * 65, "1..2"]
)
def test_no_client_value_reaches_the_archive_unless_it_is_a_uid(site: Hospitals, image: str) -> None:
    answer = requests.get(f"{site.url}/datastore/image", params={"image": image}, timeout=30)
    assert answer.status_code == 422
    assert answer.json()["detail"]["code"] == "invalid_request"


def test_an_unknown_series_is_404(site: Hospitals) -> None:
    answer = requests.get(f"{site.url}/datastore/image", params={"image": "1.2.3"}, timeout=30)
    assert (answer.status_code, answer.json()["detail"]["code"]) == (404, "unknown_image")


def test_images_cannot_be_put_past_the_archive(site: Hospitals, mask: Path) -> None:
    with mask.open("rb") as file:
        answer = requests.put(
            f"{site.url}/datastore/image",
            params={"image": "1.2.4"},
            files={"file": (mask.name, file)},
            timeout=30,
        )
    assert answer.status_code in (404, 422)


def test_the_log_tells_no_secret_and_no_patient(site: Hospitals) -> None:
    log = site.log.read_text()
    assert PASSWORD not in log
    for secret in ("4711", "Müller", "Doe"):
        assert secret not in log
