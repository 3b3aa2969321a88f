"""The address of a server as a person writes it, and as it is used."""

import re
from dataclasses import dataclass
from typing import Optional
from urllib.parse import SplitResult, urlsplit

DEFAULT_URL = "http://127.0.0.1:8000"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
PORTS = {"http": 80, "https": 443}
_OURS = re.compile(r"/(lesionbrush/v1|info)(/.*)?$")
"""Our own routes, which get into an address by copying one from a browser or a log."""
_ALMOST_HTTP = re.compile(r"(https?)(:?[/\\]+|:)", re.IGNORECASE)


class BadAddress(ValueError):
    """A server's address that cannot be used; the text says why."""


@dataclass(frozen=True)
class Address:
    """A server. url: without a slash at the end, to be shown and used; origin: scheme, host and port."""

    url: str
    origin: str
    loopback: bool
    encrypted: bool


def parse_address(text: str) -> Address:
    """The address a user typed; http:// may be left out. BadAddress says what is wrong with it."""
    text = text.strip()
    if not text:
        raise BadAddress(f"type the server's address, such as {DEFAULT_URL}")
    text = _with_scheme(text)
    if any(c.isspace() for c in text):
        raise BadAddress(f"{text!r} is no address of a server: there is a space in it; {_LIKE}")
    parts, port = _split(text)
    scheme, host = parts.scheme.lower(), parts.hostname
    if scheme not in PORTS:
        raise BadAddress(f"{text!r} is no address of a server: it starts with {scheme}://; {_LIKE}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise BadAddress("leave out user, password, ? and #: the token has its own field")
    if not host or not _is_name(host):
        raise BadAddress(f"{text!r} is no address of a server: it names no computer; {_LIKE}")
    host = f"[{host}]" if ":" in host else host
    origin = f"{scheme}://{host}:{port or PORTS[scheme]}"
    path = _OURS.sub("", parts.path).rstrip("/")
    shown = f"{scheme}://{host}{f':{port}' if port else ''}{path}"
    return Address(shown, origin, parts.hostname in LOOPBACK, scheme == "https")


_LIKE = f"it should look like {DEFAULT_URL}"


def _with_scheme(text: str) -> str:
    """With http:// where there is none. BadAddress for what was meant to be one, such as http:/host."""
    almost = _ALMOST_HTTP.match(text)
    if almost is None:
        return text if "://" in text else f"http://{text}"
    scheme, between = almost.groups()
    if between != "://":
        meant = f"{scheme.lower()}://{text[almost.end() :]}"
        raise BadAddress(f"{text!r} is no address of a server: write {meant}")
    return text


def _is_name(host: str) -> bool:
    """Not so for a dot too many and the like, which the libraries below refuse with errors of their own."""
    try:
        return bool(host.encode("idna"))
    except UnicodeError:
        return False


def _split(text: str) -> "tuple[SplitResult, Optional[int]]":
    """The parts and the port, if it is named."""
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise BadAddress(f"{text!r} is no address ({error}); {_LIKE}") from error
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise BadAddress(f"{text!r} is no address: a port is a number from 1 to 65535; {_LIKE}")
    return parts, port
