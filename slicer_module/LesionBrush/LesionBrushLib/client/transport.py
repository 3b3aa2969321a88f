"""One server over HTTP: the addresses of protocol 1, the token, what is an answer and what is an error."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any, Callable, Optional, TypeVar, Union
from urllib.parse import quote

import requests

from .addresses import DEFAULT_URL, BadAddress, parse_address
from .errors import ServerError, ServerUnreachable
from .wire import Body, BrokenAnswer, Form

PREFIX = "/lesionbrush/v1"
CONNECT_TIMEOUT_S = 5.0
STALLED_UPLOAD_S = 60.0
"""How long no piece of an upload may get through. urllib3 counts this by the time-out of the connection."""

T = TypeVar("T")

_LASTING = (
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidSchema,
    requests.exceptions.SSLError,
)


@dataclass(frozen=True)
class Call:
    """One request. timeout_s: how long the server may be silent, None for the transport's own limit."""

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    body: Union[Body, Form, None] = None
    headers: dict[str, str] = field(default_factory=dict)
    timeout_s: Optional[float] = None


class Transport:
    """Sends requests to one server; several threads may. Raises ServerError and ServerUnreachable.

    ca_file: certificate of the authority that vouches for the server, where the system does not know it.
    """

    def __init__(
        self, url: str, token: Optional[str] = None, timeout_s: float = 600.0, ca_file: Optional[Path] = None
    ) -> None:
        self.url, self._bad_address = _address(url)
        self.timeout_s, self.has_token = timeout_s, bool(token)
        self.session = requests.Session()
        self.session.trust_env = False  # no proxy, and no password file, ever has a part in this
        # With no cookies a session keeps nothing of a request, so that threads can share it.
        self.session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.session.headers["Accept-Encoding"] = "identity"
        self._ca_file = ca_file
        if token and token.strip():  # a file with a token ends with a line break
            self.session.headers["Authorization"] = f"Bearer {token.strip()}"

    def json(self, call: Call) -> Any:
        return self.ask(call, lambda said: said)

    def ask(self, call: Call, read: Callable[[Any], T]) -> T:
        """What `read` makes of the answer's JSON. Where it raises BrokenAnswer, the server is of no use."""
        with self.send(call) as response:
            return read(response.json())

    @contextmanager
    def send(self, call: Call) -> Iterator[requests.Response]:
        """The answer to a request, its body still to be read."""
        if self._bad_address is not None:
            raise ServerUnreachable(str(self._bad_address), lasting=True) from self._bad_address
        timeout_s = self.timeout_s if call.timeout_s is None else call.timeout_s
        connect_s = STALLED_UPLOAD_S if call.body is not None and len(call.body) else CONNECT_TIMEOUT_S
        kind = {"Content-Type": call.body.content_type} if call.body is not None else {}
        try:
            self._require_certificate()
            with self.session.request(
                call.method,
                self.url + call.path,
                params=call.query,
                data=call.body,
                headers={**kind, **call.headers},
                timeout=(connect_s, timeout_s),
                stream=True,
                allow_redirects=False,  # a CT goes where the user sent it
            ) as response:
                if not 200 <= response.status_code < 300:
                    raise server_error(response)
                yield response
        except (requests.RequestException, BrokenAnswer) as error:
            lasting = isinstance(error, _LASTING)
            raise ServerUnreachable(self._unreachable(error, timeout_s), lasting=lasting) from error

    def _require_certificate(self) -> None:
        """`requests` would say so too, but with an error of no type of its own."""
        if self._ca_file is None:
            return
        try:
            ssl.create_default_context(cafile=str(self._ca_file))
        except OSError as error:  # ssl's own errors are some
            raise requests.exceptions.SSLError("the certificate file cannot be read") from error
        self.session.verify, self._ca_file = str(self._ca_file), None

    def _unreachable(self, error: Exception, timeout_s: float) -> str:
        if isinstance(error, requests.exceptions.SSLError):
            if self._ca_file is not None:
                return "the certificate file named in the settings is missing or none: choose another (.pem)"
            if speaks_plain_http(error):
                return f"the server at {self.url} speaks plain http: write http:// instead of https://"
            return (
                f"no safe connection to {self.url}: its certificate was not accepted. Name the "
                "certificate of your hospital's authority in the settings, or correct the address"
            )
        if isinstance(error, _LASTING):
            return f"{self.url} is no address of a server: write one like {DEFAULT_URL}"
        if isinstance(error, requests.ConnectTimeout) or not isinstance(error, requests.Timeout):
            kind = type(error).__name__
            perhaps = "write https:// if it uses TLS, " if self.url.startswith("http:") else ""
            return (
                f"no usable answer from {self.url} ({kind}): start the server there, {perhaps}"
                "or look into its log"
            )
        return f"{self.url} was silent for {timeout_s:g} s: ask for fewer steps, or wait longer"


def _address(url: str) -> "tuple[str, Optional[BadAddress]]":
    """As it is used, http:// put before it where it was left out; or as it was given, and what is wrong."""
    try:
        return parse_address(url).url, None
    except BadAddress as error:
        return url.strip(), error


def speaks_plain_http(error: BaseException) -> bool:
    """Whether the handshake failed because there is no TLS on the other side; only OpenSSL's words tell."""
    words = repr(error).lower()
    return any(text in words for text in _NO_TLS)


_NO_TLS = (
    "wrong version number",
    "wrong_version_number",
    "record layer",
    "unknown protocol",
    "unexpected eof",
)


def server_error(response: requests.Response) -> ServerError:
    """The error in the server's own shape, or whatever it did say."""
    status, wait_s = response.status_code, _retry_after_s(response)
    try:
        detail = response.json()["detail"]
        return ServerError(status, detail["code"], detail["message"], wait_s)
    except (ValueError, KeyError, TypeError):
        text = response.text[:500] or response.reason
        return ServerError(status, "http_error", f"the server answered {status}: {text}", wait_s)


def _retry_after_s(response: requests.Response) -> Optional[float]:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else None  # dates are for web sites


# Nothing that comes from elsewhere gets into a path as it is.


def job_path(job_id: str, n: Optional[int] = None) -> str:
    """Of a job, or of one of its variants, from 1."""
    return f"{PREFIX}/jobs/{quote(job_id, safe='')}" + ("" if n is None else f"/variants/{n}")


def reference_path(sha256: str) -> str:
    return f"{PREFIX}/references/{quote(sha256, safe='')}"
