"""What is wrong with a connection, in words a user can act on."""

import ipaddress
from typing import Callable, NamedTuple, Optional
from urllib.parse import urlsplit

import requests

from .addresses import BadAddress
from .answers import ConnectionReport, ServerFacts
from .errors import ServerError, ServerUnreachable
from .transport import Transport, speaks_plain_http

PROTOCOL = 1
NAME = "LesionBrush"


class Finding(NamedTuple):
    """code: a stable name; text: to be shown, with `{url}` in it."""

    code: str
    text: str


BAD_ADDRESS = Finding("bad_address", "{said}")
UNKNOWN_HOST = Finding(
    "unknown_host", "no computer of that name was found for {url}: check the spelling, or use its IP address"
)
REFUSED = Finding(
    "refused",
    "the computer at {url} is there, but no server listens on that port: start it there (`run.py serve`), "
    "or correct the port",
)
NO_ANSWER = Finding(
    "no_answer",
    "nothing answered at {url} within a few seconds: check address and port, the network (VPN), and "
    "whether a firewall lets this port through",
)
TLS = Finding(
    "tls",
    "no safe connection to {url}: its certificate was not accepted. Name the certificate file of your "
    "hospital's authority in the settings, or use the name that is in the certificate",
)
NO_CERTIFICATE = Finding(
    "tls", "the certificate file named in the settings is missing or none: choose another (.pem)"
)
NO_TLS_THERE = Finding("tls", "the server at {url} speaks plain http: write http:// instead of https://")
NOT_HTTP = Finding(
    "not_lesionbrush",
    "what listens at {url} broke off without an answer: if the server uses TLS write https://, else check "
    "the port",
)
NOT_OURS = Finding(
    "not_lesionbrush",
    "a web server answers at {url}, but it is no LesionBrush server: check address and port",
)
REDIRECTED = Finding(
    "redirected", "{url} sends visitors elsewhere: ask for the server's own address (perhaps https://)"
)
TOKEN_MISSING = Finding(
    "token_missing", "the server at {url} wants a token: enter the one its administrator gave you"
)
TOKEN_WRONG = Finding(
    "token_wrong", "the server at {url} does not accept this token: copy it again, without spaces"
)
SERVER_TROUBLE = Finding("server_error", "the server at {url} has trouble of its own: {said}")
NEWER = Finding(
    "version_mismatch",
    "the server at {url} is newer than this module (it speaks protocol {theirs}, this module {ours}): "
    "update the module",
)


def diagnose(transport: Transport, about: Callable[[], ServerFacts]) -> ConnectionReport:
    """Ask the server what it is. Never raises what `about` may raise by its own word."""
    said, theirs = "", 0
    try:
        facts = about()
    except ServerError as error:
        finding, said = _of_refusal(error, transport.has_token), str(error)
    except ServerUnreachable as error:
        finding, said = _of_failure(error), str(error)
    else:
        if facts.protocol <= PROTOCOL:
            return ConnectionReport(
                True, "ok", _greeting(transport.url, facts), facts, _remarks(transport, facts)
            )
        finding, theirs = NEWER, facts.protocol
    text = finding.text.format(url=transport.url, said=said, theirs=theirs, ours=PROTOCOL)
    return ConnectionReport(False, finding.code, text)


def _of_refusal(error: ServerError, has_token: bool) -> Finding:
    if error.status == 401:
        return TOKEN_WRONG if has_token else TOKEN_MISSING
    if 300 <= error.status < 400:
        return REDIRECTED
    if error.status >= 500 or error.code != "http_error":
        return SERVER_TROUBLE
    if error.status == 400 and "https" in error.message.lower():  # nginx: plain HTTP sent to an HTTPS port
        return NOT_HTTP
    return NOT_OURS


def _of_failure(error: ServerUnreachable) -> Finding:
    """By the library's error; what is only in its words is looked for there."""
    cause, words = error.__cause__, _words(error.__cause__)
    if isinstance(cause, requests.exceptions.SSLError):
        if "certificate file" in words:
            return NO_CERTIFICATE
        return NO_TLS_THERE if speaks_plain_http(cause) else TLS
    if isinstance(cause, _ADDRESS_ERRORS):
        return BAD_ADDRESS
    if isinstance(cause, requests.Timeout):
        return NO_ANSWER
    if not isinstance(cause, requests.ConnectionError):
        return NOT_OURS  # it answered, with something else than our JSON
    return next((finding for text, finding in _WORDS.items() if text in words), NOT_HTTP)


_ADDRESS_ERRORS = (
    BadAddress,
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidSchema,
)
_WORDS = {
    "refused": REFUSED,
    "getaddrinfo": UNKNOWN_HOST,
    "resolve": UNKNOWN_HOST,
    "name or service": UNKNOWN_HOST,
    "nodename": UNKNOWN_HOST,
    "unreachable": NO_ANSWER,
    "no route": NO_ANSWER,
    "timed out": NO_ANSWER,
}
"""What operating systems and versions of urllib3 call it."""


def _words(error: Optional[BaseException]) -> str:
    return repr(error).lower()


def _greeting(url: str, facts: ServerFacts) -> str:
    count = sum(model.can_run for model in facts.models.values())
    models = "1 model" if count == 1 else f"{count} models"
    return f"connected to {NAME} {facts.version} at {url}: {models} ready"


def _remarks(transport: Transport, facts: ServerFacts) -> "tuple[str, ...]":
    remarks = [
        f"{model.name} cannot run: {model.problem}" for model in facts.models.values() if model.problem
    ]
    if not facts.models:
        remarks.append("the server has no model: install one there")
    if facts.read_only:
        remarks.append("this token may only read: nothing can be synthesized with it")
    if transport.url.startswith("http://") and not is_this_computer(transport.url):
        remarks.append("the connection is not encrypted: CT and token can be read on the way; use https://")
    return tuple(remarks)


def is_this_computer(url: str) -> bool:
    """Whether an address cannot leave this computer."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
