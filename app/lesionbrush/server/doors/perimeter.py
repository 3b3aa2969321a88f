"""From where a request may come: this machine alone without a token; and never from a web page not listed."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from lesionbrush.errors import InvalidRequest
from lesionbrush.server.doors.access import Access, load_access
from lesionbrush.server.doors.limits import SizeLimits
from lesionbrush.server.settings import ServerSettings

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
_FORWARDING = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
NEEDS_TOKEN = (
    "this server has no token and so answers this machine alone: set LESIONBRUSH_TOKEN_FILE, or listen at "
    "127.0.0.1"
)


class DoorRefusal(NamedTuple):
    status: int
    code: str
    message: str


@dataclass(frozen=True)
class Perimeter:
    """access: the tokens; origins: web pages that may use the server; limits: what it takes in."""

    access: Access
    origins: tuple[str, ...]
    limits: SizeLimits

    @classmethod
    def of(cls, settings: ServerSettings) -> Perimeter:
        """Raises InvalidRequest."""
        return cls(load_access(settings), settings.origins, SizeLimits.of(settings))

    def refusal(self, scope: Scope, headers: Headers) -> DoorRefusal | None:
        """Why a request is not even looked at."""
        if not self.access.guarded:
            ends = (scope.get("server"), scope.get("client"))
            if not all(end and is_loopback(end[0]) for end in ends):
                return DoorRefusal(403, "token_required", NEEDS_TOKEN)
            if any(name in headers for name in _FORWARDING):
                return DoorRefusal(403, "token_required", NEEDS_TOKEN)
            if host_name(headers.get("host", "")) not in LOCAL_NAMES:
                # A web page whose name was made to lead here (DNS rebinding) still sends its own name.
                return DoorRefusal(
                    421, "wrong_host", "without a token, call this server localhost or 127.0.0.1"
                )
        return None

    def lists(self, origin: str) -> bool:
        return origin in self.origins

    def foreign_page(self, scope: Scope, headers: Headers) -> DoorRefusal | None:
        """A page elsewhere can send forms without asking: what changes something needs a listed origin."""
        origin = headers.get("origin")
        if origin is None or scope["method"] in _SAFE_METHODS or self.lists(origin):
            return None
        if urlsplit(origin).netloc == headers.get("host"):
            return None
        return DoorRefusal(
            403, "foreign_origin", "web pages of this origin may not use the server (--origin)"
        )


def require_bindable(host: str, access: Access) -> None:
    """InvalidRequest for an address that others can reach, when there is no token."""
    if not access.guarded and not is_loopback(host):
        raise InvalidRequest(
            f"without a token this server does not listen at {host}, where others can reach it: make a token "
            "(python run.py serve --make-token FILE) and name it in LESIONBRUSH_TOKEN_FILE or --token-file; "
            "or listen at --host 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """An address of this machine that only this machine can reach."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def host_name(header: str) -> str:
    """The name in a Host header, without port and brackets; "" for a malformed one."""
    if set(header) & set("@/?#\\"):
        return ""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""
