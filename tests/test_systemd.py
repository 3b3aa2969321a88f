"""The systemd unit of docs/server.md, by systemd's own check."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from dicom_kit import missing
from nginx_kit import changed, example
from server_kit import REPOSITORY

INSTALLED = "/opt/lesionbrush"


def verified(folder: Path, text: str) -> list[str]:
    """What `systemd-analyze verify` says of a unit; nothing when it is sound."""
    program = shutil.which("systemd-analyze")
    if program is None:
        missing("systemd-analyze")
    assert program is not None
    unit = folder / "lesionbrush.service"
    unit.write_text(text)
    command = [program, "verify", "--man=no", "--generators=no", "--recursive-errors=no", str(unit)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    said = [line for line in ended.stderr.splitlines() if unit.name in line]
    assert ended.returncode == 0 or said, ended.stderr
    return said


@pytest.fixture
def unit(tmp_path: Path) -> str:
    """The page's unit, with an interpreter that is there."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    return changed(example("ini"), {f"{INSTALLED}/.venv/bin/python": str(python)})


def test_systemd_finds_nothing_wrong(unit: str, tmp_path: Path) -> None:
    assert verified(tmp_path, unit) == []


@pytest.mark.parametrize(
    ("sound", "broken"),
    [
        ("KillSignal=SIGTERM", "KillSignal=SIGNONE"),
        ("ProtectSystem=strict", "ProtectSystem=very"),
        ("TimeoutStopSec=90", "TimeoutStopSec=ninety"),
        ("ExecStart=", "ExecStart=/nowhere"),
        ("StateDirectory=", "StateDirektory="),
    ],
)
def test_it_does_find_what_is(unit: str, tmp_path: Path, sound: str, broken: str) -> None:
    assert verified(tmp_path, changed(unit, {sound: broken})) != []


def test_it_stops_later_than_the_server_does(unit: str) -> None:
    """Or systemd would kill jobs that may finish."""
    (grace,) = re.findall(r"LESIONBRUSH_GRACE_SECONDS=(\d+)", unit)
    (stop,) = re.findall(r"TimeoutStopSec=(\d+)", unit)
    assert int(stop) >= int(grace) + 15


def test_its_commands_are_ones_of_ours(unit: str) -> None:
    """The check and the start name the same studies, and options that there are."""
    from argparse import ArgumentParser

    from lesionbrush.cli import serve

    parser = ArgumentParser(exit_on_error=False)
    serve.add_arguments(parser)
    commands = re.findall(r"^ExecStart(?:Pre)?=\S+ -m lesionbrush\.cli serve (.+)$", unit, re.MULTILINE)
    check, start = (parser.parse_args(command.split()) for command in commands)
    assert (check.check, start.check) == (True, False)
    assert check.studies == start.studies


def test_its_folders_are_those_of_the_checkout(unit: str) -> None:
    (path,) = re.findall(r"PYTHONPATH=(\S+)", unit)
    for folder in path.split(":"):
        assert (REPOSITORY / Path(folder).relative_to(INSTALLED)).is_dir()
