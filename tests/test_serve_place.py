"""`serve` and `serve --check`: why a folder or a port cannot be, in a sentence; and nothing is made."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dicom_fixtures import Series, write_series
from lesionbrush.cli import serve as command
from lesionbrush.cli.__main__ import main
from lesionbrush.files.io import write_volume
from lesionbrush.server.operation.check import findings
from lesionbrush.server.operation.serve import APP
from server_kit import free_port, make_ct, make_model, make_noise_model

Tried = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> Tried:
    """`refused("--studies", ...)`: what both ways say; neither starts or makes anything."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the server was started")

    monkeypatch.setattr(command, "serve", never)
    make_model(tmp_path / "models")
    monkeypatch.setenv("LESIONBRUSH_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)

    def tried(*arguments: object) -> str:
        given = [str(argument) for argument in arguments]
        given += [] if "--port" in given else ["--port", str(free_port())]
        before = set(tmp_path.rglob("*"))
        assert main(["serve", *given]) == 2
        line = capsys.readouterr().err
        assert line.count("\n") == 1
        assert main(["serve", "--check", *given]) == 1
        found = [line for line in capsys.readouterr().out.splitlines() if line.startswith("WRONG")]
        assert len(found) == 1
        assert found[0].split(": ", 1)[1].strip() in line
        assert set(tmp_path.rglob("*")) == before
        return line

    return tried


def test_a_file(refused: Tried, tmp_path: Path) -> None:
    write_volume(make_ct(), tmp_path / "ct.nii.gz")
    assert "--studies ct.nii.gz is a file; name a folder" in refused("--studies", tmp_path / "ct.nii.gz")
    inside = tmp_path / "ct.nii.gz" / "new" / "studies"
    assert "--studies studies cannot be made: 'ct.nii.gz' is a file" in refused("--studies", inside)
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    assert "--studies link is a file" in refused("--studies", tmp_path / "link")


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_of_somebody_else(refused: Tried, tmp_path: Path, monkeypatch, exists: bool) -> None:
    studies = tmp_path / "studies"
    if exists:
        studies.mkdir()
    closed = studies if exists else tmp_path
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != closed and access(path, mode))
    words = "cannot be read and written" if exists else "is not there and cannot be made"
    assert words in refused("--studies", studies)


def test_a_folder_of_the_program(refused: Tried, tmp_path: Path) -> None:
    for inside in (APP / "studies", APP, tmp_path / "models" / "tiny"):
        assert "lies inside the program" in refused("--studies", inside)


@pytest.mark.parametrize("below", ["", "series"])
def test_a_folder_of_dicom_files(refused: Tried, tmp_path: Path, below: str) -> None:
    write_series(tmp_path / "cts" / below, Series(make_ct().array[:, :, :3], (1.1, 1.1, 1.5)))
    assert "--studies cts holds DICOM files" in refused("--studies", tmp_path / "cts")


def test_a_folder_of_volumes_beside_dicom_files(tmp_path: Path, capsys, monkeypatch) -> None:
    make_model(tmp_path / "models")
    monkeypatch.setenv("LESIONBRUSH_MODELS", str(tmp_path / "models"))
    write_series(tmp_path / "cts" / "series", Series(make_ct().array[:, :, :3], (1.1, 1.1, 1.5)))
    write_volume(make_ct(), tmp_path / "cts" / "ct.nii")
    given = ["--studies", str(tmp_path / "cts"), "--port", str(free_port())]
    assert main(["serve", "--check", *given]) == 0, capsys.readouterr().out


def test_an_address_with_a_slash_too_few(refused: Tried) -> None:
    for typed in ("http:/pacs/dicom-web", "https//pacs/dicom-web"):
        assert "an address is written http://host:port/dicom-web" in refused("--studies", typed)


@pytest.mark.parametrize("port", [0, -1, 65536, 70000])
def test_a_port_out_of_range(refused: Tried, port: int) -> None:
    assert f"--port {port}: ports are numbers from 1 to 65535" in refused("--studies", "new", "--port", port)


def test_a_port_in_use(refused: Tried) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "choose another --port" in refused("--studies", "new", "--port", taken.getsockname()[1])


@pytest.mark.parametrize("host", ["http://127.0.0.1", "127.0.0.1 ", "", "a@b"])
def test_a_host_that_is_no_name(tmp_path: Path, capsys, monkeypatch, host: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["serve", "--studies", "new", "--host", host]) == 2
    assert "give the name or the IP address" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_check_says_what_will_be_offered(tmp_path: Path) -> None:
    """A misspelt folder is an empty one, and CTs in sub-folders are not seen."""
    cts = tmp_path / "cts"
    (cts / "patient").mkdir(parents=True)
    (cts / "labels").mkdir()
    write_volume(make_ct(), cts / "a.nii.gz")
    told = {name: disk_of(tmp_path / name) for name in ("cts", "ctss")}
    assert told["cts"].endswith(f"{cts} has 1 volumes, and 1 sub-folders that are not looked into")
    assert told["ctss"].endswith("ctss is not there yet and will be made, without a CT")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"system": "nobody"}, "'nobody' is not known"),
        ({"timesteps": "many"}, "the card of 'tiny' does not fit"),
    ],
)
def test_the_check_finds_a_model_that_cannot_be_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], words: str
) -> None:
    make_model(tmp_path / "models", **change)
    make_noise_model(tmp_path / "models")
    monkeypatch.setenv("LESIONBRUSH_MODELS", str(tmp_path / "models"))
    told = findings(tmp_path, "127.0.0.1", free_port(), encrypted=False)
    sound, wrong = sorted((one for one in told if one.topic == "models"), key=lambda one: one.wrong)
    assert (sound.wrong, wrong.wrong) == (False, True)
    assert sound.text.startswith("noise: weights")
    assert words in wrong.text


def disk_of(folder: Path) -> str:
    found = findings(folder, "127.0.0.1", free_port(), encrypted=False)
    return next(finding.text for finding in found if finding.topic == "disk")
