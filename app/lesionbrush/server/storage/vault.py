"""Uploaded references by their hash, and results by their job: on disk, private, and not for ever."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock
from typing import IO, Literal, get_args
from uuid import uuid4

from anyio.to_thread import run_sync

from lesionbrush.core.volume import Volume
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.durable import sync_all, sync_folder
from lesionbrush.server.doors.limits import SizeLimits
from lesionbrush.server.errors import TooLarge, UnknownReference, naming_full_disk
from lesionbrush.server.storage.durable import discard, write_json
from lesionbrush.server.storage.incoming import Incoming
from lesionbrush.server.storage.private import PrivateRoot
from lesionbrush.server.storage.references import ABOUT, read_ct, with_remarks
from lesionbrush.server.storage.retention import Bounds, Clock, Shelf, size_of
from lesionbrush.server.storage.uploads import unpack
from lesionbrush.server.threads import few_at_a_time

Format = Literal["nii", "nii.gz", "nrrd", "mha", "zip"]
FORMATS: tuple[str, ...] = get_args(Format)
REFERENCE_BOUNDS = Bounds(limit_bytes=20_000_000_000, max_age_s=24 * 3600.0)
ROOM_IN_UPLOADS = 5
RESULT_BOUNDS = Bounds(limit_bytes=20_000_000_000, max_age_s=3600.0)

_SHA256 = re.compile(r"[0-9a-f]{64}")
_JOB = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class StoredReference:
    """reference: SHA-256 of the uploaded bytes; voxel_sha256: of the int16 HU, i fastest; bytes: uploaded;
    remarks: on files of an archive that were not kept."""

    reference: str
    voxel_sha256: str
    shape: tuple[int, ...]
    bytes: int
    format: str
    remarks: tuple[str, ...] = ()


def reference_bounds() -> Bounds:
    """`REFERENCE_BOUNDS`, with room for some of the largest uploads the settings allow.

    Raises InvalidRequest.
    """
    room_bytes = ROOM_IN_UPLOADS * SizeLimits.current().upload_bytes
    return replace(REFERENCE_BOUNDS, limit_bytes=max(REFERENCE_BOUNDS.limit_bytes, room_bytes))


class References:
    """CTs by the SHA-256 of the bytes that were sent.

    `<folder>/<sha256>/` holds `about.json` and `reference.<format>` (or the folder `reference` of an unpacked
    .zip). It is published by one rename, after all of it is on the disk, so an entry is always whole.
    bounds: `reference_bounds()` when left out; read: proves that it is a CT; on_stored: is told the path and
    the decoded CT, for a cache.
    """

    def __init__(
        self,
        private: PrivateRoot,
        bounds: Bounds | None = None,
        *,
        read: Callable[[Path], Volume] = read_ct,
        on_stored: Callable[[Path, Volume], None] = lambda path, volume: None,
        clock: Clock = time.time,
    ) -> None:
        self.private, self._read, self.on_stored = private, read, on_stored
        _remove_damaged(private)
        self.shelf = Shelf(private.references, private.tmp, bounds or reference_bounds(), clock)
        self._decoding = Lock()  # one at a time: a decoded CT may take a gigabyte
        self.sweep()

    def path(self, sha256: str) -> Path:
        """The file, or the folder of a DICOM series. It may go at any time: `using` keeps it.

        Raises UnknownReference.
        """
        return self._volume(sha256, self.shelf.use(sha256))

    def about(self, sha256: str) -> StoredReference:
        """Raises UnknownReference."""
        folder = self.shelf.use(sha256)
        found = _about(folder) if folder is not None else None
        if found is None:
            raise _unknown(sha256)
        return found

    @contextmanager
    def using(self, sha256: str) -> Iterator[Path]:
        """As `path`; it stays while this is open. Raises UnknownReference."""
        with self.shelf.holding(sha256) as folder:
            yield self._volume(sha256, folder)

    def hold(self, sha256: str) -> Path:
        """As `path`; it stays until `release` is called as often. Raises UnknownReference."""
        return self._volume(sha256, self.shelf.hold(sha256))

    def release(self, sha256: str) -> None:
        self.shelf.release(sha256)

    def sweep(self) -> list[str]:
        """Drop what is past its time or room, and say what it was."""
        return self.shelf.sweep()

    async def receive(
        self, sha256: str, format: str, chunks: AsyncIterator[bytes], size_bytes: int
    ) -> StoredReference:
        """Store a body as it comes in, at most `size_bytes` of it; disk and hash are kept off the event loop.

        Raises InvalidRequest (hash or format), TooLarge, HashMismatch, StorageFull, and what `read` raises;
        then, or when the sender goes away, nothing stays.
        """
        with self._incoming(sha256, format, size_bytes) as incoming:
            buffer = bytearray()
            async for chunk in chunks:
                buffer += chunk
                if len(buffer) >= _CHUNK_BYTES:
                    await run_sync(incoming.write, bytes(buffer))
                    buffer.clear()
            await run_sync(incoming.write, bytes(buffer))
            return await few_at_a_time(self._finish)(incoming)

    def receive_file(self, sha256: str, format: str, stream: IO[bytes], size_bytes: int) -> StoredReference:
        """As `receive`, from an open file, in the caller's thread."""
        with self._incoming(sha256, format, size_bytes) as incoming:
            while chunk := stream.read(_CHUNK_BYTES):
                incoming.write(chunk)
            return self._finish(incoming)

    @contextmanager
    def _incoming(self, sha256: str, format: str, size_bytes: int) -> Iterator[Incoming]:
        require_sha256(sha256)
        if format not in FORMATS:
            raise InvalidRequest(f"format {format!r}: use one of {', '.join(FORMATS)}")
        limit_bytes = min(SizeLimits.current().upload_bytes, self.shelf.bounds.limit_bytes)
        if not 0 < size_bytes <= limit_bytes:
            size = f"is {size_bytes / 1e9:.3f} GB" if size_bytes else "has no bytes, or no Content-Length"
            raise TooLarge(f"the reference {size}; this server takes up to {limit_bytes / 1e9:.3f} GB")
        folder = self.private.tmp / f"{uuid4().hex}.reference"
        with naming_full_disk():
            folder.mkdir(0o700)
        try:
            with self.shelf.room_for(size_bytes), Incoming(folder, sha256, format, size_bytes) as incoming:
                yield incoming
        finally:
            discard(folder, self.private.tmp)

    def _finish(self, incoming: Incoming) -> StoredReference:
        incoming.close()
        path: Path = incoming.path
        remarks: tuple[str, ...] = ()
        with ExitStack() as stack:
            if incoming.format == "zip":
                came = unpack(incoming.path, incoming.folder / "reference")
                path, remarks = came.folder, came.remarks
                stack.enter_context(came.naming())
                more = max(size_of(path) - incoming.size_bytes, 0)
                stack.enter_context(self.shelf.room_for(more))
            with self._decoding:
                volume = with_remarks(self._read(path), remarks)
                about = StoredReference(
                    incoming.sha256,
                    volume.voxel_sha256,
                    volume.shape,
                    incoming.received,
                    incoming.format,
                    remarks,
                )
                with naming_full_disk():
                    sync_all(path)
                    write_json(incoming.folder / ABOUT, asdict(about))
                    sync_folder(incoming.folder)
                    kept = self.shelf.publish(incoming.folder, incoming.sha256)
                self.on_stored(self._volume(incoming.sha256, kept), volume)
        return about

    @staticmethod
    def _volume(sha256: str, folder: Path | None) -> Path:
        try:
            if folder is not None:
                return next(path for path in folder.iterdir() if path.name != ABOUT)
        except (OSError, StopIteration):  # it went meanwhile
            pass
        raise _unknown(sha256)


class Results:
    """One private folder per job, filled by whoever runs it. A job that is held keeps its folder."""

    def __init__(
        self, private: PrivateRoot, bounds: Bounds = RESULT_BOUNDS, *, clock: Clock = time.time
    ) -> None:
        self.shelf = Shelf(private.results, private.tmp, bounds, clock)

    def folder(self, job_id: str) -> Path:
        """The job's folder, made when it is not there. Raises InvalidRequest for an id that is no name."""
        if not _JOB.fullmatch(job_id):
            raise InvalidRequest(f"job id {job_id[:64]!r}: use up to 64 letters, digits, '_' and '-'")
        return self.shelf.make(job_id)

    def has(self, job_id: str) -> bool:
        """False once it was dropped: the job has expired."""
        return job_id in self.shelf

    def hold(self, job_id: str) -> Path:
        """As `folder`; it stays until `release` is called as often."""
        self.folder(job_id)
        path = self.shelf.hold(job_id)
        assert path is not None
        return path

    def release(self, job_id: str) -> None:
        self.shelf.release(job_id)

    @contextmanager
    def using(self, job_id: str) -> Iterator[Path]:
        """As `folder`; it stays while this is open."""
        path = self.hold(job_id)
        try:
            yield path
        finally:
            self.release(job_id)

    def drop(self, job_id: str) -> None:
        """The job's bytes go, if there are any."""
        if _JOB.fullmatch(job_id):
            self.shelf.drop(job_id)

    def sweep(self) -> list[str]:
        """Drop what is past its time or room; the ids of the jobs that have expired with it."""
        return self.shelf.sweep()


def require_sha256(text: str) -> str:
    if not _SHA256.fullmatch(text):
        raise InvalidRequest(f"reference {text[:64]!r} is no SHA-256: it is 64 characters, 0-9 and a-f")
    return text


def _unknown(sha256: str) -> UnknownReference:
    return UnknownReference(
        f"no reference {sha256[:12]}... is stored (any more): send it by PUT /references/"
    )


def _about(folder: Path) -> StoredReference | None:
    try:
        values = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        lists = {name: tuple(values.get(name, ())) for name in ("shape", "remarks")}
        return StoredReference(**{**values, **lists})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _remove_damaged(private: PrivateRoot) -> None:
    """Whatever is not a whole entry under its own hash goes; a restart must not stumble over it."""
    for path in private.references.iterdir():
        about = None if path.is_symlink() else _about(path)
        if about is None or about.reference != path.name or len(list(path.iterdir())) != 2:
            discard(path, private.tmp)
