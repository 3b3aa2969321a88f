"""What run.py does and says where no Python fits."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import get_python

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("platform", "words"),
    [
        ("linux", ("Debian, Ubuntu: ", "pipx install uv", "python3.12-venv")),
        ("win32", ("winget install astral-sh.uv", "winget install Python.Python.3.12")),
        ("darwin", ("brew install uv", "brew install python@3.12")),
        ("freebsd14", ("pipx install uv",)),
    ],
)
def test_how_to_get_one_is_said_in_two_lines(platform: str, words: tuple[str, ...]) -> None:
    first, *lines = get_python.advice(platform).splitlines()
    assert "needs Python 3.10, 3.11 or 3.12" in first
    assert len(lines) == 2
    assert all(word in "\n".join(lines) for word in words)


def test_the_readme_says_the_same() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    commands = ("pipx install uv", "winget install astral-sh.uv", "brew install uv")
    for platform, command in zip(("linux", "win32", "darwin"), commands, strict=True):
        assert command in get_python.advice(platform)
        assert command in readme


UV = """#!/bin/sh
echo "$UV_PYTHON_PREFERENCE $*" >> "{log}"
[ "$2" = install ] && {install}
[ "$2" = find ] && cat "{kept}"
"""


@pytest.fixture
def uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Pretend that uv is there and brings a Python, or not; returns what it was asked for."""
    log, kept = tmp_path / "log", tmp_path / "kept"

    def pretend(brings: bool) -> Path:
        install = f"echo /uv/python3.12 > {kept}" if brings else "exit 1"
        (tmp_path / "uv").write_text(UV.format(log=log, kept=kept, install=install))
        (tmp_path / "uv").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        return log

    return pretend


@pytest.mark.skipif(sys.platform == "win32", reason="Windows runs no shell script as uv")
class TestUv:
    def test_it_brings_one_once(self, uv) -> None:
        log = uv(brings=True)
        for _ in range(2):
            assert get_python.by_uv() == "/uv/python3.12"
        find = "only-managed python find --system --no-project 3.12"
        assert [line.strip() for line in log.read_text().splitlines()] == [
            find, "python install 3.12", find, find,
        ]  # fmt: skip

    def test_it_cannot(self, uv) -> None:
        uv(brings=False)
        assert get_python.by_uv() is None

    def test_it_is_not_there(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        assert get_python.by_uv() is None
