"""Accepting a variant: it becomes a completed case of the studies, with the record of where it comes from.

Imports neither torch nor MONAI Label.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Protocol, runtime_checkable

import numpy as np
from pydantic import Field

from lesionbrush.core.provenance import Provenance, now
from lesionbrush.core.registry import file_sha256
from lesionbrush.core.volume import Volume
from lesionbrush.errors import EmptyMask, InvalidRequest
from lesionbrush.files.io import write_volume
from lesionbrush.server.errors import naming_full_disk
from lesionbrush.server.storage.cases import IMAGE, LABEL, RECORD, Cases
from lesionbrush.server.storage.durable import write_json
from lesionbrush.server.storage.names import require_name

_ID_DIGITS = 20
QUICK = "fast"
"""The quality of a quick look."""


@dataclass(frozen=True)
class AcceptedCase:
    """synthetic: (I, J, K) HU; mask: not 0 in the lesion, same grid; reference_id: what it was made from.

    reference_id: None for a CT that was made from none; user: who accepted; key: the same key is the same
    case, however often it comes; image: the wanted id. label_names: what the values of `mask` mean, where it
    has several.
    """

    synthetic: Volume
    mask: Volume
    provenance: Provenance
    reference_id: str | None
    user: str
    key: str
    image: str | None = None
    label_names: Mapping[int, str] = field(default_factory=dict)


class AcceptedRecord(Provenance):
    """What lies beside an accepted image: the provenance, and who accepted it when.

    key_sha256: of the idempotency key; files_sha256: of `image` and `label` as they were written;
    label_names: what the values of `label` mean, empty where they are 0 and 1, the lesion; quick_look: see
    `is_quick_look`.
    """

    image: str
    reference_id: str | None
    user: str
    accepted: str
    key_sha256: str
    files_sha256: dict[str, str]
    label_names: dict[int, str] = Field(default_factory=dict)
    quick_look: bool = False


def is_quick_look(record: Provenance) -> bool:
    """True for what was made in few steps, or painted into what was: nothing to train or to measure with."""
    earlier: Provenance | None = record
    while earlier is not None and earlier.request.get("quality") != QUICK:
        earlier = earlier.made_from
    return earlier is not None


@runtime_checkable
class TakesCases(Protocol):
    """Studies that store a case in their own way, idempotent by its key; the id of the case."""

    def take(self, accepted: AcceptedCase) -> str: ...


class HasCases(Protocol):
    """What a studies folder has to offer. notice: a case of this id has come, the index should know."""

    cases: Cases

    def notice(self, image: str) -> None: ...


def accept_case(studies: HasCases | TakesCases, accepted: AcceptedCase) -> str:
    """Store image, label `final` and record, all or nothing; returns the id of the case.

    A key that was accepted before gets the id it got then, whatever else comes with it now. May be called
    from any thread; takes as long as it takes to compress a CT. Raises InvalidRequest (id, user, key),
    GeometryMismatch, EmptyMask, AlreadyStored, StorageFull.
    """
    _check(accepted)
    if isinstance(studies, TakesCases):
        return studies.take(accepted)
    key = sha256(accepted.key.encode()).hexdigest()
    with _ONE_PER_KEY.of(key):
        known = studies.cases.find(key)
        if known is not None:
            return known
        image = accepted.image or f"synthetic-{key[:_ID_DIGITS]}"
        studies.cases.require_free(image)
        with naming_full_disk(), studies.cases.private.workspace() as draft:
            _write(accepted, draft, image, key)
            studies.cases.publish(draft, image, key)
    studies.notice(image)
    return image


def _check(accepted: AcceptedCase) -> None:
    if accepted.image is not None:
        require_name("image", accepted.image)
    reference = "none" if accepted.reference_id is None else accepted.reference_id
    for what, text in (("user", accepted.user), ("key", accepted.key), ("reference", reference)):
        if not 0 < len(text) <= 256 or not text.isprintable():
            raise InvalidRequest(f"{what} {text[:64]!r}: use 1 to 256 printable characters")
    accepted.synthetic.require_same_grid(accepted.mask)
    if not accepted.mask.array.any():
        raise EmptyMask("the mask of an accepted case has no voxel")


def _write(accepted: AcceptedCase, draft: Path, image: str, key: str) -> None:
    """The three files, each of them on the disk when this returns."""
    alone = (accepted.mask.array != 0).astype(np.uint8)
    mask = accepted.mask if accepted.label_names else replace(accepted.mask, array=alone)
    write_volume(accepted.synthetic, draft / IMAGE, accepted.provenance.note)
    write_volume(mask, draft / LABEL, accepted.provenance.note)
    record = AcceptedRecord(
        **dict(accepted.provenance),
        image=image,
        reference_id=accepted.reference_id,
        user=accepted.user,
        accepted=now(),
        key_sha256=key,
        files_sha256={"image": file_sha256(draft / IMAGE), "label": file_sha256(draft / LABEL)},
        label_names=dict(accepted.label_names),
        quick_look=is_quick_look(accepted.provenance),
    )
    write_json(draft / RECORD, record.model_dump(mode="json"))


class _Locks:
    """A lock for each key in use, so that two who accept the same wait for each other and others do not."""

    def __init__(self) -> None:
        self._guard = Lock()
        self._locks: dict[str, tuple[Lock, int]] = {}

    @contextmanager
    def of(self, key: str) -> Iterator[None]:
        with self._guard:
            lock, users = self._locks.get(key, (Lock(), 0))
            self._locks[key] = lock, users + 1
        try:
            with lock:
                yield
        finally:
            with self._guard:
                _, users = self._locks[key]
                self._locks[key] = lock, users - 1
                if users == 1:
                    del self._locks[key]


_ONE_PER_KEY = _Locks()
