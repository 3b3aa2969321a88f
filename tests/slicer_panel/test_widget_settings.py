"""What is remembered: addresses, tokens, consent per server."""

from __future__ import annotations

import pytest
from LesionBrushLib.panel.settings import BadAddress, Settings, consent_text, parse_address
from panel_kit import Store


@pytest.mark.parametrize(
    ("typed", "url", "origin"),
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        (" HTTPS://Lab.example.org/ ", "https://lab.example.org", "https://lab.example.org:443"),
        ("http://gpu:9000/lesions/", "http://gpu:9000/lesions", "http://gpu:9000"),
        ("http://[::1]:8000", "http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_addresses(typed: str, url: str, origin: str) -> None:
    address = parse_address(typed)
    assert (address.url, address.origin) == (url, origin)


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("", "type the server's address"),
        ("ftp://lab", "no address of a server"),
        ("http://", "no address of a server"),
        ("http://lab:high", "no address"),
        ("http://lab a", "no address of a server"),
        ("http://me:secret@lab", "leave out user, password"),
        ("http://lab/?token=x", "leave out user, password"),
    ],
)
def test_what_is_no_address_is_said(typed: str, words: str) -> None:
    with pytest.raises(BadAddress, match=words):
        parse_address(typed)


def test_consent_is_per_server() -> None:
    settings = Settings(Store())
    here, there = parse_address("127.0.0.1:8000"), parse_address("https://lab.example.org")
    assert settings.agreed(here) is None
    settings.agree(here)
    assert settings.agreed(here)
    assert settings.agreed(there) is None
    assert settings.agreed(parse_address("127.0.0.1:8001")) is None
    assert settings.agreed(parse_address("https://127.0.0.1:8000")) is None
    settings.withdraw(here)
    assert settings.agreed(here) is None


def test_tokens_are_per_server_and_only_kept_if_wanted() -> None:
    store = Store()
    settings, address = Settings(store), parse_address("https://lab.example.org")
    settings.set_token(address, "secret")
    assert Settings(store).token(address) == "secret"
    assert settings.token(parse_address("https://other.example.org")) == ""
    settings.keep_token = False
    settings.set_token(address, "secret")
    assert "secret" not in str(store)
    assert settings.token(address) == ""


def test_defaults() -> None:
    settings = Settings(Store())
    assert (settings.url, settings.model, settings.keep_token) == ("http://127.0.0.1:8000", "", True)


def test_the_question_says_where_the_ct_goes() -> None:
    text = consent_text(parse_address("http://lab.example.org:8000"))
    assert "http://lab.example.org:8000" in text
    assert "The CT leaves this computer." in text
    assert "NOT encrypted" in text
    assert "NOT encrypted" not in consent_text(parse_address("https://lab.example.org"))
    assert "tunnel" in consent_text(parse_address("127.0.0.1:8000"))
