"""Test connection: whatever is wrong, the user reads what to do about it."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from job_fake import MODEL, Fake, running
from LesionBrushLib.client import ConnectionReport, JobClient, ModelFacts, Patience, ServerError, diagnosis
from LesionBrushLib.client.answers import MadeFor
from server_kit import free_port


@pytest.fixture
def fake() -> Iterator[Fake]:
    with running(Fake()) as fake:
        yield fake


def report(url: str, token: str | None = None, **given: Any) -> ConnectionReport:
    return JobClient(url, token, patience=Patience(silent_s=0.5), **given).test_connection()


@contextmanager
def answering(
    status: int = 200, body: bytes = b"<html>", headers: dict[str, str] | None = None
) -> Iterator[str]:
    """A web server that says the same to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@contextmanager
def listening(say: Callable[[socket.socket], None]) -> Iterator[str]:
    """Something that is no web server."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            say(connection)

    threading.Thread(target=serve, daemon=True).start()
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    listener.close()


def test_all_is_well(fake: Fake) -> None:
    found = report(fake.url + "/")
    assert (found.ok, found.code) == (True, "ok")
    assert found.text == f"connected to LesionBrush 9 at {fake.url}: 1 model ready"
    assert found.facts is not None
    model = found.facts.models["lung"]
    assert (model.title, model.window_hu, model.can_run, model.license) == ("Lung", (-1000, 400), True, "")
    assert found.remarks == ()


def test_what_one_should_know_even_so(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.facts = {**fake.facts, "models": {"old": {**MODEL, "problem": "no weights"}}, "read_only": True}
    monkeypatch.setattr(diagnosis, "is_this_computer", lambda url: False)
    words = " / ".join(report(fake.url).remarks)
    for part in ("old cannot run: no weights", "may only read", "not encrypted"):
        assert part in words
    fake.facts = {**fake.facts, "models": {}}
    assert "install one" in " / ".join(report(fake.url).remarks)


def test_a_model_that_this_module_does_not_understand_cannot_run(fake: Fake) -> None:
    """The others can."""
    points = {"name": "points", "kind": "points", "required": True}
    free = {**points, "required": False}
    cards = {"film": {"kind": "film"}, "pointed": {"takes": [points]}, "free": {"takes": [free]}}
    models = {name: {**MODEL, "card": card} for name, card in cards.items()}
    fake.facts = {**fake.facts, "models": {"lung": MODEL, **models}}
    found = report(fake.url)
    assert found.text.endswith("2 models ready")
    assert found.remarks == (
        "film cannot run: it makes a 'film', which this module does not know: update the module",
        "pointed cannot run: it needs points, a 'points', which this module cannot send: update it",
    )
    assert found.facts is not None
    assert found.facts.models["free"].takes == ()


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http:/server:8000", "bad_address"),
        ("", "bad_address"),
        ("http://", "bad_address"),
        ("ftp://server", "bad_address"),
        ("http://server:port", "bad_address"),
        ("http://user:word@127.0.0.1", "bad_address"),
        ("http://127.0.0.1:8000/?x=1", "bad_address"),
        pytest.param(f"http://127.0.0.1:{free_port()}", "refused", id="refused"),
    ],
)
def test_wrong_addresses(url: str, code: str) -> None:
    found = report(url)
    assert (found.ok, found.code) == (False, code)
    assert found.facts is None


def test_a_name_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert report("http://no-such-host.invalid:8000").code == "unknown_host"


def test_tokens(fake: Fake) -> None:
    fake.token = "right"
    assert report(fake.url).code == "token_missing"
    found = report(fake.url, "wrong")
    assert found.code == "token_wrong"
    assert "copy it again" in found.text
    assert report(fake.url, "right").ok


def test_a_newer_protocol(fake: Fake) -> None:
    fake.facts = {**fake.facts, "protocol": 2}
    found = report(fake.url)
    assert found.code == "version_mismatch"
    assert "update the module" in found.text


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({}, "not_lesionbrush"),
        ({"body": b"{}"}, "not_lesionbrush"),
        ({"body": b"[]"}, "not_lesionbrush"),
        ({"body": b'{"version": "1", "protocol": 1, "models": 3}'}, "not_lesionbrush"),
        ({"body": b'{"version": "1", "models": {}}'}, "not_lesionbrush"),
        ({"body": b'{"version": "1", "protocol": 1, "models": {"a": {}}}'}, "not_lesionbrush"),
        (
            {"body": b'{"version": "1", "protocol": 1, "models": {"a": {"card": {"takes": [{}]}}}}'},
            "not_lesionbrush",
        ),
        ({"status": 404}, "not_lesionbrush"),
        ({"status": 400, "body": b"The plain HTTP request was sent to HTTPS port"}, "not_lesionbrush"),
        ({"status": 301, "headers": {"Location": "https://elsewhere/"}}, "redirected"),
        ({"status": 500}, "server_error"),
        ({"status": 502}, "server_error"),
    ],
)
def test_another_server(answer: dict[str, Any], code: str) -> None:
    with answering(**answer) as url:
        found = report(url)
    assert (found.ok, found.code) == (False, code)
    if answer.get("status") == 400:
        assert "https://" in found.text


def test_what_is_no_web_server() -> None:
    with listening(lambda connection: connection.close()) as address:
        assert report(f"http://{address}").code == "not_lesionbrush"
    with listening(lambda connection: connection.sendall(b"SSH-2.0-OpenSSH\r\n")) as address:
        assert report(f"http://{address}").code in ("not_lesionbrush", "no_answer")
    kept = []
    with listening(kept.append) as address:
        found = report(f"http://{address}")
    assert found.code == "no_answer"
    assert "firewall" in found.text


def test_tls_where_there_is_none(fake: Fake) -> None:
    found = report(fake.url.replace("http://", "https://"))
    assert found.code == "tls"
    assert "http:// instead of https://" in found.text


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `ca.pem`, which vouches for itself and for 127.0.0.1, and its `key.pem`."""
    folder, key = tmp_path_factory.mktemp("tls"), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a hospital")])
    today = datetime.now(timezone.utc)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.not_valid_before(today).not_valid_after(today + timedelta(days=1)).serial_number(1)
    builder = builder.add_extension(address, False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
    signed = builder.sign(key, hashes.SHA256())
    (folder / "ca.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    unlocked = serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, unlocked))
    return folder


def test_a_certificate_nobody_vouches_for(authority: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "ca.pem", authority / "key.pem")
    with running(Fake(), context) as fake:
        found = report(fake.url)
        assert found.code == "tls"
        assert "certificate" in found.text
        assert report(fake.url.replace("https://", "http://")).code == "not_lesionbrush"
        assert report(fake.url, ca_file=authority / "ca.pem").ok
        (authority / "torn.pem").write_text("-----BEGIN CERTIFICATE-----")
        for name in ("missing.pem", "torn.pem"):
            found = report(fake.url, ca_file=authority / name)
            assert found.code == "tls"
            assert "choose another" in found.text


def test_other_refusals_are_the_servers_own_words(fake: Fake) -> None:
    fake.refuse["facts"] = (429, b'{"detail": {"code": "too_many", "message": "come back later"}}', {})
    found = report(fake.url)
    assert found.code == "server_error"
    assert "come back later" in found.text
    with pytest.raises(ServerError, match="come back later"):
        JobClient(fake.url).models()


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.1:1", True),
        ("http://localhost", True),
        ("http://[::1]:8", True),
        ("http://10.0.0.1", False),
    ],
)
def test_what_is_this_computer(url: str, here: bool) -> None:
    assert diagnosis.is_this_computer(url) is here


@pytest.mark.parametrize(
    ("said", "read"),
    [
        (
            {"name": "lung", "hu": [-1000, -300], "least_share": 0.3},
            MadeFor("lung", (-1000.0, -300.0), 0.3),
        ),
        (None, None),
        ({"name": "lung"}, None),
        ({"name": "lung", "hu": [1], "least_share": 0.3}, None),
        ("lung", None),
    ],
)
def test_the_tissue_of_a_card_is_read_and_a_strange_one_is_none(said: object, read: object) -> None:
    assert ModelFacts("a", {"tissue": said}, {}).made_for == read
