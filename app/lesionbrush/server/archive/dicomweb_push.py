"""Accepted cases on their way into the archive: the synthetic series first, the SEG that completes it last.

DICOMweb knows no transaction. A push is safe to repeat because the same case always has the same UIDs: what
arrived the first time is found there and not sent again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom

from lesionbrush.errors import LesionBrushError
from lesionbrush.files.dicom_export.case import DicomCase
from lesionbrush.server.archive.dicomweb import Archive
from lesionbrush.server.errors import PushFailed

BATCH_BYTES = 32_000_000
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Part:
    path: Path
    series: str
    instance: str


def push(archive: Archive, case: DicomCase, folder: Path) -> None:
    """Store a case that is written to `folder` on the way. Done twice, the archive holds it once.

    Raises PushFailed: what had arrived is removed again, or the text says what is left behind, and where.
    Raises DamagedFile, OSError before anything was sent.
    """
    parts = [_part(path) for path in case.write(folder)]
    study = case.series.study_uid
    there: set[str] = set()
    try:
        there = _present(archive, study, parts)
        for batch in _batches([part for part in parts if part.instance not in there]):
            refused = archive.store(study, [part.path for part in batch])
            if refused:
                reasons = ", ".join(sorted({f"{reason:04X}" for reason in refused.values()}))
                raise PushFailed(f"the archive refused {len(refused)} instances (reason {reasons})")
        missing = {part.instance for part in parts} - _present(archive, study, parts)
        if missing:
            raise PushFailed(f"the archive took {len(missing)} instances and does not have them")
    except LesionBrushError as error:
        raise PushFailed(f"{error}. {_undo(archive, study, parts, there)}") from error


def _part(path: Path) -> _Part:
    header = pydicom.dcmread(path, specific_tags=["SeriesInstanceUID", "SOPInstanceUID"])
    return _Part(path, str(header.SeriesInstanceUID), str(header.SOPInstanceUID))


def _series(parts: Sequence[_Part]) -> list[str]:
    return list(dict.fromkeys(part.series for part in parts))


def _present(archive: Archive, study: str, parts: Sequence[_Part]) -> set[str]:
    wanted = {part.instance for part in parts}
    return wanted & set().union(*(archive.instances(study, series) for series in _series(parts)))


def _batches(parts: Sequence[_Part]) -> Iterator[list[_Part]]:
    """Consecutive parts of up to BATCH_BYTES, the last one, which may be the SEG, alone."""
    batch: list[_Part] = []
    size = 0
    for number, part in enumerate(parts):
        bytes_ = part.path.stat().st_size
        if batch and (size + bytes_ > BATCH_BYTES or number == len(parts) - 1):
            yield batch
            batch, size = [], 0
        batch.append(part)
        size += bytes_
    if batch:
        yield batch


def _undo(archive: Archive, study: str, parts: Sequence[_Part], before: set[str]) -> str:
    """Take back what this push brought, and say how that went. Never what was there before it."""
    again = "accept it again to complete it"
    try:
        left = _present(archive, study, parts)
    except LesionBrushError:
        return f"What it holds of the series {parts[0].series} is not known: {again}"
    if not left:
        return "Nothing of it is in the archive"
    if not before:
        tried = [archive.remove(study, series) for series in _series(parts)]
        try:
            left = _present(archive, study, parts) if any(tried) else left
        except LesionBrushError:
            logger.warning("the archive went away while a push was taken back")
        if not left:
            return "What had arrived was removed from the archive again"
    return f"{len(left)} of {len(parts)} instances are in the archive, in series {parts[0].series}: {again}"
