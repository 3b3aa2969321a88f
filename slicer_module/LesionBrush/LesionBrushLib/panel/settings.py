"""What is remembered on this computer between sessions: servers, tokens, and to whom a CT may be sent.

Kept in the application's settings file, in plain text; a token is kept only if the user says so.
"""

from datetime import datetime, timezone
from typing import Any, Optional

from ..client.addresses import DEFAULT_URL, Address, BadAddress, parse_address

__all__ = ["Address", "BadAddress", "Settings", "consent_text", "parse_address"]

PREFIX = "LesionBrush/"


class Settings:
    """Typed access to a store with `value(key, default)`, `setValue(key, value)` and `remove(key)`."""

    def __init__(self, store: Any) -> None:
        self._store = store

    @property
    def url(self) -> str:
        return self._text("server", DEFAULT_URL)

    @url.setter
    def url(self, url: str) -> None:
        self._store.setValue(PREFIX + "server", url)

    @property
    def model(self) -> str:
        return self._text("model", "")

    @model.setter
    def model(self, name: str) -> None:
        self._store.setValue(PREFIX + "model", name)

    @property
    def keep_token(self) -> bool:
        return self._text("keepToken", "true") == "true"

    @keep_token.setter
    def keep_token(self, keep: bool) -> None:
        self._store.setValue(PREFIX + "keepToken", "true" if keep else "false")

    def token(self, address: Address) -> str:
        """The token of one server, or nothing."""
        return self._text(self._of("token", address), "")

    def set_token(self, address: Address, token: str) -> None:
        """Remember a token, or forget it: when it is empty, or not to be kept."""
        key = PREFIX + self._of("token", address)
        if token and self.keep_token:
            self._store.setValue(key, token)
        else:
            self._store.remove(key)

    def agreed(self, address: Address) -> Optional[str]:
        """When the user agreed that CTs go to this server (ISO 8601), or None."""
        return self._text(self._of("consent", address), "") or None

    def agree(self, address: Address) -> None:
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._store.setValue(PREFIX + self._of("consent", address), now)

    def withdraw(self, address: Address) -> None:
        """The user is asked again before the next CT goes to this server."""
        self._store.remove(PREFIX + self._of("consent", address))

    @property
    def ca_file(self) -> str:
        """Path of a certificate file (.pem) for https, or nothing."""
        return self._text("certificate", "")

    @ca_file.setter
    def ca_file(self, path: str) -> None:
        self._store.setValue(PREFIX + "certificate", path)

    def speed(self, address: Address, model: str) -> str:
        """How long the last synthesis with a model took, in words; nothing before the first."""
        return self._text(self._of(f"speed/{model}", address), "")

    def set_speed(self, address: Address, model: str, words: str) -> None:
        self._store.setValue(PREFIX + self._of(f"speed/{model}", address), words)

    def _of(self, what: str, address: Address) -> str:
        """A key per server; slashes would make groups of settings."""
        return f"{what}/{address.origin.replace('/', '_')}"

    def _text(self, key: str, default: str) -> str:
        value = self._store.value(PREFIX + key, default)
        return default if value is None else str(value)


def consent_text(address: Address) -> str:
    """What the user is asked before the first CT goes to a server."""
    where = (
        "This address is on this computer; if it is the end of a tunnel, the CT leaves it all the same."
        if address.loopback
        else "The CT leaves this computer."
    )
    secrecy = (
        ""
        if address.encrypted or address.loopback
        else ("\n\nThe connection is NOT encrypted: others on the network can read the CT and the token.")
    )
    return (
        f"To make a lesion, LesionBrush sends the CT, the painted mask and what else you choose for a model\n"
        f"(such as masks, layouts of organs, the CT of another case, texts) to\n\n"
        f"{address.url}\n\n{where}{secrecy}\n\n"
        "Sent: voxels of these volumes, their position in space, the masks, names of organs, the texts, the\n"
        "chosen parameters. Not sent: the patient's name and number, dates, file names.\n\n"
        "A face can be recognized in a CT of the head. Send only what you are allowed to.\n\n"
        "Agree for this server? You are asked once; you can withdraw this under Connect."
    )
