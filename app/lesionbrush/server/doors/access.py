"""Who may come in: bearer tokens, and the role each of them has."""

from __future__ import annotations

import hmac
import os
import secrets
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from pathlib import Path

from pydantic import SecretStr

from lesionbrush.errors import InvalidRequest
from lesionbrush.server.settings import ServerSettings, variable

MIN_CHARACTERS = 24
_MAX_BYTES = 4096
_READING = ("GET", "HEAD")


class Role(Enum):
    WRITE = "write"
    READ = "read"

    def allows(self, method: str) -> bool:
        return self is Role.WRITE or method in _READING


@dataclass(frozen=True)
class Access:
    """The SHA-256 of each token with its role; none at all when the server has no token."""

    digests: tuple[tuple[Role, bytes], ...] = ()

    @property
    def guarded(self) -> bool:
        return bool(self.digests)

    def role(self, authorization: str) -> Role | None:
        """What a header `Authorization: Bearer <token>` opens. The time taken tells nothing of the tokens."""
        scheme, _, token = authorization.partition(" ")
        sent = sha256(token.strip().encode()).digest()
        # No early end: every token is compared, and all of each.
        matches = [role for role, digest in self.digests if hmac.compare_digest(sent, digest)]
        return matches[0] if matches and scheme.lower() == "bearer" else None


def load_access(settings: ServerSettings) -> Access:
    """The tokens of a server. Raises InvalidRequest: unreadable, too short, twice the same, reading alone."""
    write = _token("token", settings.token, settings.token_file)
    read = _token("read_token", settings.read_token, settings.read_token_file)
    if read is not None and write is None:
        raise InvalidRequest(
            f"{variable('read_token')} needs {variable('token')} beside it: nobody could write"
        )
    if read is not None and read == write:
        raise InvalidRequest(f"{variable('read_token')} and {variable('token')} are the same token")
    found = ((Role.WRITE, write), (Role.READ, read))
    return Access(tuple((role, sha256(token.encode()).digest()) for role, token in found if token))


def _token(name: str, value: SecretStr | None, file: Path | None) -> str | None:
    if value is not None and file is not None:
        raise InvalidRequest(f"set {variable(name)} or {variable(name + '_file')}, not both")
    if file is not None:
        return _check(f"the token in {variable(name + '_file')}", _content(name, file))
    return None if value is None else _check(variable(name), value.get_secret_value().strip())


def _content(name: str, file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return stream.read(_MAX_BYTES).decode("ascii").strip()
    except OSError as error:
        raise InvalidRequest(f"{variable(name + '_file')} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{variable(name + '_file')} holds no token: it is no plain text") from error


def _check(where: str, token: str) -> str:
    """The text never has the token in it."""
    if len(token) < MIN_CHARACTERS:
        raise InvalidRequest(
            f"{where} has {len(token)} characters, at least {MIN_CHARACTERS} are needed: make one with "
            "python run.py serve --make-token FILE"
        )
    if not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidRequest(f"{where} has characters that do not go into a header: use letters and digits")
    return token


def make_token(path: Path) -> None:
    """A new random token in a new file that its owner alone can read. Raises InvalidRequest, OSError."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise InvalidRequest(f"{path} exists already, and is not overwritten: remove it first") from error
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(32) + "\n")


def readable_by_others(file: Path) -> bool:
    """Whether other users of the machine can read a token; Windows does not say it this way."""
    return os.name != "nt" and bool(file.stat().st_mode & 0o077)
