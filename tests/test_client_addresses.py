"""An address as a person writes it: taken by clients and panel, or refused in a sentence that helps."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import Authority
from job_fake import Fake, running
from LesionBrushLib.client import Client, JobClient, Patience, ServerUnreachable
from LesionBrushLib.client.addresses import BadAddress, parse_address
from LesionBrushLib.panel.settings import parse_address as of_the_panel

TAKEN = [
    ("localhost:8950", "http://localhost:8950"),
    (" localhost:8950/ ", "http://localhost:8950"),
    ("gpu", "http://gpu"),
    ("10.0.0.7:8000", "http://10.0.0.7:8000"),
    ("[::1]:8000", "http://[::1]:8000"),
    ("HTTP://GPU:8000", "http://gpu:8000"),
    ("https://lab.example.org/lesions/", "https://lab.example.org/lesions"),
    ("http://gpu:8000/lesionbrush/v1/", "http://gpu:8000"),
    ("http://gpu:8000/lesions/lesionbrush/v1/jobs/17", "http://gpu:8000/lesions"),
    ("http://gpu:8000/info/", "http://gpu:8000"),
    ("http://gpu:", "http://gpu"),
]
REFUSED = [
    ("", "type the server's address, such as http://127.0.0.1:8000"),
    ("http://", "names no computer"),
    (":8000", "names no computer"),
    ("http://:8000", "names no computer"),
    ("http://a..b:8000", "names no computer"),
    (f"http://{'a' * 64}.org", "names no computer"),
    ("http:/gpu:8000", "write http://gpu:8000"),
    ("https:gpu", "write https://gpu"),
    ("http//gpu:8000", "write http://gpu:8000"),
    ("http:///gpu", "write http://gpu"),
    ("http:\\\\gpu", "write http://gpu"),
    ("ftp://gpu", "it starts with ftp://"),
    ("http://gpu one:8000", "there is a space in it"),
    ("gpu :8000", "there is a space in it"),
    ("gpu:70000", "a port is a number from 1 to 65535"),
    ("gpu:0", "a port is a number from 1 to 65535"),
    ("gpu:-1", "a port is a number from 1 to 65535"),
    ("gpu:eight", "a port is a number from 1 to 65535"),
    ("http://[::1:8000", "is no address"),
    ("http://me:secret@gpu", "leave out user, password"),
    ("gpu?token=x", "leave out user, password"),
]


@pytest.mark.parametrize(("typed", "url"), TAKEN)
def test_what_is_taken(typed: str, url: str) -> None:
    assert parse_address(typed).url == Client(typed).url == JobClient(typed).url == url
    assert parse_address(url).url == url


@pytest.mark.parametrize(("typed", "words"), REFUSED)
def test_what_is_refused(typed: str, words: str) -> None:
    with pytest.raises(BadAddress) as caught:
        parse_address(typed)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)
    for ask in (Client(typed).images, JobClient(typed).models):
        with pytest.raises(ServerUnreachable) as refused:
            ask()
        assert words in str(refused.value)
        assert refused.value.lasting
    found = JobClient(typed).test_connection()
    assert (found.ok, found.code) == (False, "bad_address")
    assert words in found.text


def test_client_and_panel_read_addresses_alike() -> None:
    assert of_the_panel is parse_address


def test_an_address_without_http_reaches_the_server() -> None:
    with running(Fake()) as fake:
        address = fake.url.removeprefix("http://")
        assert "lung" in Client(address).models()
        assert JobClient(address).test_connection().ok


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a server with TLS, and its authority's certificate."""
    hospital = Authority.make(tmp_path_factory.mktemp("hospital"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*hospital.sign("127.0.0.1"))
    with running(Fake(), context) as fake:
        yield fake.url, hospital.file


def test_https_to_a_server_without_tls() -> None:
    with running(Fake()) as fake:
        url = fake.url.replace("http://", "https://")
        for ask in (Client(url).images, JobClient(url).models):
            with pytest.raises(
                ServerUnreachable, match="speaks plain http: write http:// instead"
            ) as refused:
                ask()
            assert refused.value.lasting
        assert "speaks plain http: write http://" in JobClient(url).test_connection().text


def test_http_to_a_server_with_tls(encrypted: tuple[str, Path]) -> None:
    url, certificate = encrypted
    assert JobClient(url, ca_file=certificate).test_connection().ok
    plain = JobClient(url.replace("https://", "http://"), patience=Patience(silent_s=2))
    with pytest.raises(ServerUnreachable, match="write https:// if it uses TLS"):
        plain.about()
    assert "if the server uses TLS write https://" in plain.test_connection().text


def test_a_certificate_nobody_knows_is_still_called_that(encrypted: tuple[str, Path]) -> None:
    with pytest.raises(ServerUnreachable, match="its certificate was not accepted"):
        JobClient(encrypted[0]).about()
