"""Sessions of MONAI Label's clients: a CT is sent once, and named by an id until the session ends."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from hashlib import sha256 as hasher
from threading import RLock
from uuid import uuid4

from fastapi import UploadFile

from lesionbrush.server.errors import UnknownReference, UnknownSession, naming_full_disk
from lesionbrush.server.storage.durable import discard, write_json
from lesionbrush.server.storage.private import PrivateRoot
from lesionbrush.server.storage.retention import Bounds, Clock, Shelf
from lesionbrush.server.storage.uploads import SERIES, SUFFIXES, suffix_of
from lesionbrush.server.storage.vault import References, StoredReference

MOST_S = 3600
"""A session ends when it was not used for so long, or for as long as its client said, if that is shorter."""
MOST_SESSIONS = 1000
"""Of one server. One more ends the one that was used least recently."""

_CHUNK_BYTES = 1 << 20
_ABOUT = "about.json"


@dataclass(frozen=True)
class Session:
    """reference: hash of its CT; *_s: seconds since 1970; expiry_s: from the last use."""

    id: str
    reference: str
    created_s: float
    used_s: float
    expiry_s: float


class Sessions:
    """`<private>/sessions/<id>/about.json`: no CT, which is with the references and goes when those go.

    Ids are random, so that nobody guesses another's. Safe to use from any thread.
    """

    def __init__(self, private: PrivateRoot, references: References, clock: Clock = time.time) -> None:
        self.private, self.references, self.clock = private, references, clock
        bounds = Bounds(limit_bytes=1_000_000_000, max_age_s=MOST_S)
        self.shelf = Shelf(private.sessions, private.tmp, bounds, clock)
        self._lock = RLock()

    def open(self, reference: str, expiry_s: float = 0) -> Session:
        """A new session about an uploaded CT. expiry_s: 0 for the longest. Raises StorageFull."""
        now, ident = self.clock(), uuid4().hex
        session = Session(ident, reference, now, now, min(expiry_s or MOST_S, MOST_S))
        draft = self.private.tmp / f"{ident}.session"
        with self._lock, naming_full_disk():
            for oldest in self.shelf.names()[: len(self.shelf.names()) + 1 - MOST_SESSIONS]:
                self.shelf.drop(oldest)
            try:
                draft.mkdir(0o700)
                write_json(draft / _ABOUT, asdict(session))
                self.shelf.publish(draft, ident)
            finally:
                discard(draft, self.private.tmp)
        return session

    def find(self, ident: str) -> Session:
        """As it stands; asking does not prolong it. Raises UnknownSession, also when its CT has gone."""
        with self._lock:
            session = self._read(ident)
            if session is None:
                raise _unknown(ident)
            return session

    def use(self, ident: str) -> Session:
        """As `find`; its time and that of its CT begin anew."""
        with self._lock:
            session = self.find(ident)
            self.shelf.use(ident)
            self.references.shelf.use(session.reference)
            return self.find(ident)

    def close(self, ident: str) -> Session:
        """End it; its CT goes with the references, as somebody else may have sent the same. As `find`."""
        with self._lock:
            session = self.find(ident)
            self.shelf.drop(ident)
            return session

    def sweep(self) -> None:
        """Drop what has ended."""
        with self._lock:
            for ident in self.shelf.names():
                if self._read(ident) is None:
                    self.shelf.drop(ident)

    def _read(self, ident: str) -> Session | None:
        """None when it is not there, is damaged, has ended, or its CT is not there any more."""
        if ident not in self.shelf:
            return None
        folder = self.shelf.folder / ident
        try:
            used_s = folder.stat().st_mtime
            values = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
            session = Session(**{**values, "used_s": used_s})
        except (OSError, ValueError, TypeError):
            return None
        ended = self.clock() > session.used_s + session.expiry_s
        return None if ended or session.reference not in self.references.shelf else session


def keep_upload(references: References, upload: UploadFile) -> StoredReference:
    """A CT that came in a form, a volume or a .zip of one DICOM series, as an uploaded reference.

    Raises InvalidRequest (its type), and what `References.receive` raises.
    """
    suffix = suffix_of(upload.filename or "", (*SUFFIXES, SERIES))
    found, size_bytes = hasher(), 0
    while chunk := upload.file.read(_CHUNK_BYTES):
        found.update(chunk)
        size_bytes += len(chunk)
    digest = found.hexdigest()
    try:
        return references.about(digest)
    except UnknownReference:
        upload.file.seek(0)
        return references.receive_file(digest, suffix.lstrip("."), upload.file, size_bytes)


def _unknown(ident: str) -> UnknownSession:
    return UnknownSession(f"no session {ident[:8]}... is open (any more): create one with PUT /session/")
