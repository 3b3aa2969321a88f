"""What goes to a DICOMweb archive, what comes of its answers, without a real one (test_orthanc has that)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from lesionbrush.errors import InvalidRequest, LesionBrushError
from lesionbrush.server.archive import dicomweb
from lesionbrush.server.archive.dicomweb import Archive, check_address, is_address, require_uid
from lesionbrush.server.archive.dicomweb_cache import cache_folder
from lesionbrush.server.errors import STATUS, ArchiveUnreachable, PushFailed

ADDRESS = "http://pacs.example/dicom-web"


class TestAddresses:
    @pytest.mark.parametrize("address", [ADDRESS, f"{ADDRESS}/", "https://[::1]:8042/dicom-web", "http://h"])
    def test_of_archives_are_taken(self, address: str) -> None:
        assert is_address(address)
        assert check_address(address) == address.rstrip("/")

    @pytest.mark.parametrize(
        "address",
        ["http://me:secret@pacs/dicom-web", "http://secret@pacs", "http://pacs/?token=secret", "http://pacs/#secret",
         "http://", "ftp://secret", "http://pacs:secret/", "http://[secret"],
    )  # fmt: skip
    def test_with_more_than_host_and_path_are_refused_and_not_repeated(self, address: str) -> None:
        with pytest.raises(InvalidRequest) as caught:
            Archive(address, {})
        assert "secret" not in str(caught.value)

    def test_folders_are_none(self) -> None:
        assert not is_address("studies")
        assert not is_address("/http://x")

    def test_each_have_a_cache_of_their_own(self, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.setenv("LESIONBRUSH_DICOMWEB_CACHE", str(tmp_path))
        first, second = cache_folder(ADDRESS), cache_folder("http://other/dicom-web")
        assert first.parent == second.parent == tmp_path
        assert first != second
        assert first == cache_folder(f"{ADDRESS}/")
        assert first.stat().st_mode & 0o077 == 0


class TestCredentials:
    def header(self, environ: dict[str, str]) -> str | None:
        auth = Archive(ADDRESS, environ)._client._session.auth
        if auth is None:
            return None
        request = dicomweb.requests.Request("GET", ADDRESS, auth=auth).prepare()
        return str(request.headers["Authorization"])

    def test_come_from_the_environment_or_a_file(self, tmp_path: Path) -> None:
        prefix = dicomweb.PREFIX
        basic = self.header({f"{prefix}USER": "me", f"{prefix}PASSWORD": "secret"})
        assert basic == "Basic bWU6c2VjcmV0"
        assert self.header({f"{prefix}TOKEN": "secret"}) == "Bearer secret"
        assert self.header({}) is None
        file = tmp_path / "credentials"
        for text, expected in (("me:secret\n", basic), ("Bearer secret\n", "Bearer secret")):
            file.write_text(text)
            assert self.header({f"{prefix}CREDENTIALS_FILE": str(file)}) == expected

    @pytest.mark.parametrize(
        "names", [("USER",), ("PASSWORD",), ("USER", "PASSWORD", "TOKEN"), ("TOKEN", "CREDENTIALS_FILE")]
    )
    def test_half_or_twice_are_refused(self, names: tuple[str, ...]) -> None:
        with pytest.raises(InvalidRequest) as caught:
            Archive(ADDRESS, {f"{dicomweb.PREFIX}{name}": "secret" for name in names})
        assert "secret" not in str(caught.value)

    def test_over_plain_http_are_warned_of(self, caplog: pytest.LogCaptureFixture) -> None:
        given = {f"{dicomweb.PREFIX}TOKEN": "secret"}
        for quiet in ("https://pacs.example/", "http://127.0.0.1:8042/"):
            Archive(quiet, given)
        assert caplog.text == ""
        Archive(ADDRESS, given)
        assert "unencrypted" in caplog.text
        assert "secret" not in caplog.text

    def test_certificates_that_are_not_there_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidRequest, match="CA_FILE"):
            Archive(ADDRESS, {f"{dicomweb.PREFIX}CA_FILE": str(tmp_path / "none.pem")})

    @pytest.mark.parametrize("text", ["secret", "", "Bearer "])
    def test_a_file_that_holds_none_is_refused(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "f").write_text(text)
        with pytest.raises(InvalidRequest) as caught:
            Archive(ADDRESS, {f"{dicomweb.PREFIX}CREDENTIALS_FILE": str(tmp_path / "f")})
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "uid", ["", "1", "1.", ".1", "1..2", "1.2/3", "../1.2", "1.2?x", "1.2%2e", "1.a", "1.2 ", "1.2\n",
            "1." * 32 + "1", "１.２"]
)  # fmt: skip
def test_only_uids_reach_an_address(uid: str) -> None:
    with pytest.raises(InvalidRequest):
        require_uid(uid)
    archive = Archive("http://127.0.0.1:9/", {})
    for ask in (archive.find_ct, lambda u: archive.instances("1.2", u), lambda u: archive.instances(u, "1.2"),
                lambda u: archive.store(u, []), lambda u: list(archive.retrieve("1.2", u))):  # fmt: skip
        with pytest.raises(InvalidRequest):
            ask(uid)


class Answering(BaseHTTPRequestHandler):
    """Answers each path with what its first part says."""

    seen: list[tuple[str, str | None]] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers.get("Authorization")))
        kind = self.path.split("/")[1]
        status = {"redirect": 302, "broken": 200, "html": 200, "null": 200}.get(kind) or int(kind)
        self.send_response(status)
        if kind == "redirect":
            self.send_header("Location", f"http://localhost:{self.server.server_port}/200/stolen")  # type: ignore[attr-defined]
        body = {"html": b"<html>", "broken": b'[{"0020000E": ', "null": b"[1]"}.get(kind, b"[]")
        self.send_header("Content-Type", "text/html" if kind == "html" else "application/dicom+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Not into the test's output."""


@pytest.fixture(scope="module")
def answering() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("kind", ["redirect", "broken", "html", "null", "401", "403", "404", "500", "503"])
def test_a_strange_answer_is_an_error_with_a_reason(answering: str, kind: str) -> None:
    Answering.seen.clear()
    archive = Archive(f"{answering}/{kind}", {f"{dicomweb.PREFIX}TOKEN": "secret"})
    with pytest.raises(LesionBrushError) as caught:
        archive.find_ct()
    assert type(caught.value) in STATUS
    assert "secret" not in str(caught.value)
    assert answering not in str(caught.value)
    assert not [path for path, _ in Answering.seen if "stolen" in path]  # redirects are not followed
    assert len(Answering.seen) == 1  # and nothing is tried again and again


def test_an_archive_that_never_answers_does_not_hang(monkeypatch) -> None:
    import socket

    monkeypatch.setattr(dicomweb, "READ_S", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(ArchiveUnreachable, match="does not answer"):
            Archive(f"http://127.0.0.1:{silent.getsockname()[1]}", {}).find_ct()


def test_every_error_has_a_status() -> None:
    assert {STATUS[kind] for kind in (ArchiveUnreachable, PushFailed)} == {502, 503}
