"""Bodies of requests, multipart/form-data (RFC 7578) too, without a volume in memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Callable, NamedTuple, Optional, Union
from uuid import uuid4

CHUNK_BYTES = 1 << 20
SENT_AT_ONCE_BYTES = 1 << 18  # small, so that a cancel is heard on a slow line
OnProgress = Callable[[int, int], None]


class BrokenAnswer(ValueError):
    """An answer that is not what the server's headers promise."""


class FilePart(NamedTuple):
    """A file, or the bytes of one. name: what the server is told, never where it is on this machine."""

    name: str
    source: Union[Path, bytes]


class Body:
    """What a request sends: bytes, or a file that is read meanwhile.

    on_progress: called with (bytes sent, bytes in all); what it raises ends the request.
    """

    def __init__(
        self, source: Union[Path, bytes], content_type: str, on_progress: Optional[OnProgress] = None
    ) -> None:
        self.source, self.content_type, self.on_progress = source, content_type, on_progress
        self._length = _size(source)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        return _counted(_pieces(self.source), len(self), self.on_progress)


class Form:
    """The body of a request, read from disk while it is sent.

    on_progress: called with (bytes sent, bytes in all).
    """

    def __init__(
        self, fields: dict[str, str], files: dict[str, FilePart], on_progress: Optional[OnProgress] = None
    ) -> None:
        self.boundary = uuid4().hex
        self.on_progress = on_progress
        self._fields = "".join(self._head(f'name="{name}"', text + "\r\n") for name, text in fields.items())
        self._files = [
            (
                self._head(f'name="{name}"; filename="{part.name}"', "").encode(),
                part.source,
                _size(part.source),
            )
            for name, part in files.items()
        ]
        self._tail = f"--{self.boundary}--\r\n".encode()

    @property
    def content_type(self) -> str:
        return f"multipart/form-data; boundary={self.boundary}"

    def _head(self, disposition: str, text: str) -> str:
        return f"--{self.boundary}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{text}"

    def __len__(self) -> int:
        files = sum(len(head) + size + 2 for head, _, size in self._files)
        return len(self._fields.encode()) + files + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        return _counted(self._chunks(), len(self), self.on_progress)

    def _chunks(self) -> Iterator[bytes]:
        yield self._fields.encode()
        for head, source, _ in self._files:
            yield head
            yield from _pieces(source)
            yield b"\r\n"
        yield self._tail


def _size(source: Union[Path, bytes]) -> int:
    return len(source) if isinstance(source, bytes) else source.stat().st_size


def _pieces(source: Union[Path, bytes]) -> Iterator[bytes]:
    if isinstance(source, bytes):
        for start in range(0, len(source), SENT_AT_ONCE_BYTES):
            yield source[start : start + SENT_AT_ONCE_BYTES]
        return
    with source.open("rb") as stream:
        yield from iter(lambda: stream.read(SENT_AT_ONCE_BYTES), b"")


def _counted(pieces: Iterator[bytes], total: int, on_progress: Optional[OnProgress]) -> Iterator[bytes]:
    sent = 0
    for piece in pieces:
        yield piece
        sent += len(piece)
        if on_progress is not None:
            on_progress(sent, total)
