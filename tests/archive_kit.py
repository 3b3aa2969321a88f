"""A DICOMweb archive in memory, for what a real one does not do on demand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pydicom
from lesionbrush.server.archive.dicomweb import ListedSeries
from lesionbrush.server.errors import ArchiveUnreachable
from pydicom.dataset import Dataset


class FakeArchive:
    """Holds files in memory. fails_after: instances taken before it goes away; deletes: offers DELETE."""

    def __init__(self, deletes: bool = False) -> None:
        self.held: dict[tuple[str, str], dict[str, Dataset]] = {}
        self.fails_after: int | None = None
        self.deletes, self.asked = deletes, 0

    def add(self, path: Path) -> None:
        header = pydicom.dcmread(path)
        key = str(header.StudyInstanceUID), str(header.SeriesInstanceUID)
        self.held.setdefault(key, {})[str(header.SOPInstanceUID)] = header

    def find_ct(self, series: str | None = None) -> list[ListedSeries]:
        self.asked += 1
        return [
            ListedSeries(uid, study, len(there), "CT", described(there), "1", "", "")
            for (study, uid), there in self.held.items()
            if series in (None, uid)
        ]

    def instances(self, study: str, series: str) -> set[str]:
        return set(self.held.get((study, series), ()))

    def retrieve(self, study: str, series: str) -> Iterator[Dataset]:
        yield from self.held[study, series].values()

    def store(self, study: str, paths: list[Path]) -> dict[str, int]:
        for path in paths:
            if self.fails_after is not None and sum(map(len, self.held.values())) >= self.fails_after:
                raise ArchiveUnreachable("gone")
            self.add(path)
        return {}

    def remove(self, study: str, series: str) -> bool:
        if self.deletes:
            self.held.pop((study, series), None)
        return self.deletes


def described(there: dict[str, Dataset]) -> str:
    return str(next(iter(there.values())).get("SeriesDescription", ""))
