"""Asks a server for its GET /info/ again and again, to see how long others wait."""

from __future__ import annotations

import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event

import requests

from lesionbrush.errors import LesionBrushError

PROBE_EVERY_S = 0.02
SILENCE_S = 120.0


class ProbeFailed(LesionBrushError):
    """The server does not answer, or not as it should."""

    code = "server_failed"


class Probe:
    """Asks while it is open, from a process of its own: threads that play clients would make it wait itself.

    seconds: of each answer, once it is closed. Raises ProbeFailed.
    """

    def __init__(self, url: str) -> None:
        context = get_context("spawn")
        self.seconds: list[float] = []
        self._stop = context.Event()
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_ask, args=(url, self._stop, theirs), daemon=True)
        self._theirs = theirs

    def __enter__(self) -> Probe:
        self._process.start()
        self._theirs.close()
        self._receive()  # it has begun
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        try:
            self.seconds = self._receive()
        finally:
            self._process.join()

    def _receive(self) -> list[float]:
        try:
            seconds: list[float] = self._ours.recv()
        except EOFError:
            raise ProbeFailed("GET /info/ was not answered: look into the log of the server") from None
        return seconds


def _ask(url: str, stop: Event, answers: Connection) -> None:
    seconds: list[float] = []
    with requests.Session() as session:
        session.trust_env = False
        _info_s(session, url)  # connects
        answers.send(seconds)
        while not stop.wait(PROBE_EVERY_S):
            seconds.append(_info_s(session, url))
    answers.send(seconds)


def _info_s(session: requests.Session, url: str) -> float:
    began = time.perf_counter()
    session.get(f"{url}/info/", timeout=SILENCE_S).raise_for_status()
    return time.perf_counter() - began
