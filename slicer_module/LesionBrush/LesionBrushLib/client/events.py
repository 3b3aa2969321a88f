"""Server-sent events (the WHATWG HTML standard, 9.2), read in a thread of its own so that a wait can end."""

import codecs
import queue
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Optional, Union

import requests

from .errors import ServerError, ServerUnreachable
from .transport import Call, Transport
from .wire import BrokenAnswer

LONGEST_EVENT = 16 << 20
"""Characters; a preview has some ten thousand."""


@dataclass(frozen=True)
class Event:
    """name: its type; data: its text; id: of the last event that had one."""

    name: str
    data: str
    id: str


class StreamEnded(Exception):
    """The server closed the stream, or there is none: then `refused` says so."""

    def __init__(self, refused: bool = False) -> None:
        super().__init__("the stream of events ended")
        self.refused = refused


def parse(pieces: Iterable[bytes]) -> Iterator[Event]:
    """Events from pieces of a stream, cut anywhere. Raises BrokenAnswer for an endless one."""
    name, last_id = "", ""
    data: list[str] = []
    for line in _lines(pieces):
        if not line:
            if data:
                yield Event(name or "message", "\n".join(data), last_id)
            name, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif field == "id" and "\0" not in value:
            last_id = value
        if sum(map(len, data)) > LONGEST_EVENT:
            raise BrokenAnswer("an event does not end")


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    """Lines end with \\r\\n, \\n or \\r; what follows the last end is no line."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    left: list[str] = []
    length, after_cr = 0, False
    for piece in pieces:
        text = decoder.decode(piece)
        if not text:
            continue
        if after_cr and text.startswith("\n"):  # the second half of \r\n
            text = text[1:]
        after_cr = text.endswith("\r")
        parts = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        for part in parts[:-1]:
            yield "".join([*left, part])
            left, length = [], 0
        left.append(parts[-1])
        length += len(parts[-1])
        if length > LONGEST_EVENT:
            raise BrokenAnswer("a line of the stream does not end")


class EventStream:
    """The events of one connection, from the one after `last_id` on."""

    def __init__(self, transport: Transport, path: str, last_id: str, timeout_s: float) -> None:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-cache"}
        if last_id:
            headers["Last-Event-ID"] = last_id
        self._call = Call("GET", path, headers=headers, timeout_s=timeout_s)
        self._transport = transport
        self._unwanted = threading.Event()
        self._news: queue.SimpleQueue[Union[Event, Exception]] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True, name="LesionBrush events").start()

    def next(self, timeout_s: float) -> Optional[Event]:
        """The next event, None when there was none in time.

        Raises StreamEnded, ServerUnreachable when the connection broke, ServerError when it was refused.
        """
        try:
            news = self._news.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if isinstance(news, Exception):
            raise news
        return news

    def close(self) -> None:
        """Read no more. The thread notices with the next piece that comes, or when its time-out is over."""
        self._unwanted.set()

    def _read(self) -> None:
        try:
            with self._transport.send(self._call) as response:
                if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
                    raise StreamEnded(refused=True)
                for event in parse(self._pieces(response)):
                    self._news.put(event)
            self._news.put(StreamEnded())
        except (StreamEnded, ServerError, ServerUnreachable) as error:
            self._news.put(error)

    def _pieces(self, response: requests.Response) -> Iterator[bytes]:
        """As they come: with a size, `iter_content` would wait until so many bytes are there."""
        chunked = getattr(response.raw, "chunked", False)
        for piece in response.iter_content(None if chunked else 1):
            if self._unwanted.is_set():
                return
            yield piece
