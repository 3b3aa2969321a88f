"""Tokens and settings: what is taken, and what is refused before the server starts."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from doors_kit import READ_TOKEN, TOKEN
from lesionbrush.errors import InvalidRequest
from lesionbrush.server.doors.access import MIN_CHARACTERS, Role, load_access, make_token, readable_by_others
from lesionbrush.server.doors.perimeter import Perimeter, is_loopback, require_bindable
from lesionbrush.server.settings import ServerSettings


def read(**variables: str) -> ServerSettings:
    environ = {f"LESIONBRUSH_{name}": value for name, value in variables.items()}
    return ServerSettings.from_environment(environ)


def test_a_token_from_a_file_or_a_variable(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"\n{TOKEN}\n")
    for settings in (read(TOKEN_FILE=str(tmp_path / "token")), read(TOKEN=TOKEN)):
        access = load_access(settings)
        assert access.role(f"Bearer {TOKEN}") is Role.WRITE
        assert access.role(f"Bearer {READ_TOKEN}") is None
    both = load_access(read(TOKEN=TOKEN, READ_TOKEN=READ_TOKEN))
    assert [both.role(f"Bearer {token}") for token in (TOKEN, READ_TOKEN)] == [Role.WRITE, Role.READ]
    assert not load_access(read()).guarded
    assert not load_access(read(TOKEN="", TOKEN_FILE="")).guarded


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (
            {"TOKEN": "x" * (MIN_CHARACTERS - 1)},
            "LESIONBRUSH_TOKEN has 23 characters, at least 24",
        ),
        ({"TOKEN": " "}, "has 0 characters"),
        ({"TOKEN": "x" * 30 + " y"}, "characters that do not go into a header"),
        ({"TOKEN": "ü" * 30}, "characters that do not go into a header"),
        ({"TOKEN": "x" * 30 + "\ny"}, "characters that do not go into a header"),
        ({"READ_TOKEN": READ_TOKEN}, "nobody could write"),
        ({"TOKEN": TOKEN, "READ_TOKEN": TOKEN}, "are the same token"),
        ({"TOKEN": TOKEN, "TOKEN_FILE": "x"}, "not both"),
        ({"TOKEN_FILE": "/no/such/file"}, "LESIONBRUSH_TOKEN_FILE cannot be read: No such file"),
    ],
)
def test_tokens_that_are_refused(variables: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words) as refused:
        load_access(read(**variables))
    assert not any(value in str(refused.value) for value in variables.values() if len(value) > 20)


@pytest.mark.parametrize("content", [b"", b"\n", b"short", b"\xff" * 40, b"x" * 5000])
def test_token_files_that_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    settings = read(TOKEN_FILE=str(tmp_path / "token"))
    if len(content) > 4096:  # no more is read of it
        assert load_access(settings).role("Bearer " + "x" * 4096) is Role.WRITE
        return
    with pytest.raises(InvalidRequest, match=r"LESIONBRUSH_TOKEN_FILE"):
        load_access(settings)


def test_no_token_shows_in_what_is_printed() -> None:
    settings = read(TOKEN=TOKEN)
    assert TOKEN not in f"{settings!r} {settings} {load_access(settings)}"


def test_a_new_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    make_token(file)
    if os.name != "nt":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not readable_by_others(file)
    assert load_access(read(TOKEN_FILE=str(file))).guarded
    assert len(file.read_text().strip()) >= 40
    before = file.read_text()
    with pytest.raises(InvalidRequest, match="exists already"):
        make_token(file)
    assert file.read_text() == before
    file.chmod(0o644)
    assert readable_by_others(file) is (os.name != "nt")


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"UPLOAD_GB": "much"}, "LESIONBRUSH_UPLOAD_GB"),
        ({"UPLOAD_GB": "0"}, "LESIONBRUSH_UPLOAD_GB"),
        ({"FREE_GB": "-1"}, "LESIONBRUSH_FREE_GB"),
        ({"SHUTDOWN": "never"}, "LESIONBRUSH_SHUTDOWN"),
        ({"LOG_FORMAT": "xml"}, "LESIONBRUSH_LOG_FORMAT"),
        ({"GRACE_SECONDS": "nan"}, "LESIONBRUSH_GRACE_SECONDS"),
        ({"ORIGINS": "*"}, "'\\*' is no origin"),
        ({"ORIGINS": "viewer.example"}, "is no origin"),
        ({"ORIGINS": "https://viewer.example/path"}, "is no origin"),
        ({"ORIGINS": "https://*.example"}, "is no origin"),
        ({"ORIGINS": "file://x"}, "is no origin"),
    ],
)
def test_settings_that_are_refused(variables: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        Perimeter.of(read(**variables))


def test_settings_that_are_taken() -> None:
    origins = read(ORIGINS="https://a.example, http://b.example:8443").origins
    assert origins == ("https://a.example", "http://b.example:8443")
    limits = Perimeter.of(read(UPLOAD_GB="0.5", UNPACKED_GB="2", VOXELS="99", FREE_GB="0")).limits
    assert (limits.upload_bytes, limits.unpacked_bytes) == (500_000_000, 2_000_000_000)
    assert (limits.voxels, limits.free_bytes) == (99, 0)
    assert read(NOBODY_KNOWS="this") == read()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.9", "ct.hospital.example", "", "2001:db8::1"])
def test_no_token_no_other_address(host: str) -> None:
    with pytest.raises(InvalidRequest, match="without a token this server does not listen at"):
        require_bindable(host, load_access(read()))
    require_bindable(host, load_access(read(TOKEN=TOKEN)))


def test_this_machine_needs_no_token() -> None:
    for host in ("127.0.0.1", "127.0.0.2", "::1", "localhost"):
        require_bindable(host, load_access(read()))
    assert not is_loopback("localhost.example")
