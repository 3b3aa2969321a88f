"""Whose synthetic CT is kept, because its client was shown the lesion's label map alone."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import NamedTuple

MOST_RUNS = 1000
MOST_CHARACTERS = 256


class UnseenRun(NamedTuple):
    """A job whose CT its client has not seen. name: what the client calls the lesion."""

    job: str
    name: str


class Runs:
    """The last run of each client on each image, for as long as there is room."""

    def __init__(self) -> None:
        self._runs: OrderedDict[tuple[str, str], UnseenRun] = OrderedDict()
        self._lock = Lock()

    def remember(self, client: str, image: str, run: UnseenRun) -> None:
        """Nothing, where no image was named that a label can be submitted for."""
        if not 0 < len(image) <= MOST_CHARACTERS:
            return
        with self._lock:
            self._runs[client, image] = run
            self._runs.move_to_end((client, image))
            while len(self._runs) > MOST_RUNS:
                self._runs.popitem(last=False)

    def find(self, client: str, image: str) -> UnseenRun | None:
        with self._lock:
            return self._runs.get((client, image))
