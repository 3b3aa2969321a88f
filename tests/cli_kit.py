"""What a test of a command gets back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """What a command did: exit code, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def one_line(self) -> str:
        """The error, which is one line and no more."""
        assert self.err.count("\n") == 1, self.err
        return self.err


Command = Callable[..., Outcome]
