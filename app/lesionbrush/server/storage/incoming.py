"""A body on its way to the disk, hashed as it passes."""

from __future__ import annotations

from hashlib import sha256 as hasher
from pathlib import Path

from lesionbrush.server.errors import HashMismatch, TooLarge, naming_full_disk


class Incoming:
    """`<folder>/reference.<format>`, of at most `size_bytes`."""

    def __init__(self, folder: Path, sha256: str, format: str, size_bytes: int) -> None:
        self.folder, self.sha256, self.format, self.size_bytes = folder, sha256, format, size_bytes
        self.path = folder / f"reference.{format}"
        self.received = 0
        self._hash = hasher()
        self._file = self.path.open("xb")

    def __enter__(self) -> Incoming:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, chunk: bytes) -> None:
        """Raises TooLarge, StorageFull."""
        self.received += len(chunk)
        if self.received > self.size_bytes:
            raise TooLarge(f"more bytes came than the {self.size_bytes} that were announced")
        self._hash.update(chunk)
        with naming_full_disk():
            self._file.write(chunk)

    def close(self) -> None:
        """Raises HashMismatch, StorageFull."""
        with naming_full_disk():
            self._file.close()
        found = self._hash.hexdigest()
        if found != self.sha256:
            raise HashMismatch(
                f"the {self.received} bytes that came have SHA-256 {found[:12]}..., "
                f"not {self.sha256[:12]}... as the address says: send the file again"
            )
