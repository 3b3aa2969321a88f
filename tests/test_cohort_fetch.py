"""Series of a DICOMweb archive as the references of a cohort."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from cli_kit import Command
from dicom_fixtures import Series, write_series
from lesionbrush.cli import cohort_fetch
from lesionbrush.cohorts.references import find_references
from lesionbrush.cohorts.specification import ReferenceRule
from lesionbrush.files.io import read_volume
from lesionbrush.server.archive.dicomweb import ListedSeries
from lesionbrush.server.errors import ArchiveUnreachable

pytest_plugins = "cli_fixtures"
URL = "https://archive.example/dicom-web"
GOOD, BROKEN, XRAY = "1.2.3", "1.2.4", "1.2.5"


class FakeArchive:
    """Two CTs, of which one breaks off in its second slice, and an x-ray."""

    folder: Path
    asked: list[str]

    def __init__(self, address: str) -> None:
        assert address == URL

    def find_ct(self, series: str | None = None) -> list[ListedSeries]:
        kinds = {GOOD: "CT", BROKEN: "CT", XRAY: "DX"}
        return [
            ListedSeries(uid, "1.2", None, kind, "", "", "", "")
            for uid, kind in kinds.items()
            if uid == series or (series is None and kind == "CT")
        ]

    def retrieve(self, study: str, series: str) -> Iterator[pydicom.Dataset]:
        self.asked.append(series)
        for number, path in enumerate(sorted(self.folder.iterdir())):
            if series == BROKEN and number == 1:
                raise ArchiveUnreachable("the archive answers with status 503")
            yield pydicom.dcmread(path)


@pytest.fixture(autouse=True)
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[FakeArchive]:
    hu = np.random.default_rng(0).integers(-900, 100, (12, 10, 4)).astype(np.int16)
    write_series(tmp_path / "sent", Series(hu))
    FakeArchive.folder, FakeArchive.asked = tmp_path / "sent", []
    monkeypatch.setattr(cohort_fetch, "Archive", FakeArchive)
    return FakeArchive


def test_a_series_is_there_whole_or_not_at_all(command: Command, tmp_path: Path) -> None:
    outcome = command("cohort", "fetch", URL, "-o", tmp_path / "cts")
    assert outcome.code == 1
    assert "1.2.4: the archive answers with status 503" in outcome.err
    assert "1 of 2 series fetched, 1 failed" in outcome.out
    assert [path.name for path in (tmp_path / "cts").iterdir()] == [GOOD]
    assert (tmp_path / "cts" / GOOD).stat().st_mode & 0o077 == 0
    fetched, sent = (read_volume(folder).array for folder in (tmp_path / "cts" / GOOD, tmp_path / "sent"))
    assert np.array_equal(fetched, sent)
    (reference,) = find_references([ReferenceRule(folder=tmp_path / "cts", files="*", license="CC BY 4.0")])
    assert reference.path.name == GOOD


def test_what_is_there_is_not_fetched_again(
    command: Command, tmp_path: Path, archive: type[FakeArchive]
) -> None:
    for _ in range(2):
        assert command("cohort", "fetch", URL, "-o", tmp_path / "cts", "--series", GOOD, GOOD).code == 0
    assert archive.asked == [GOOD]


@pytest.mark.parametrize(
    ("uid", "said"), [("../x", "is no DICOM UID"), (XRAY, "has no CT series"), ("1.9", "has no CT series")]
)
def test_what_is_no_ct_there_is_refused(command: Command, tmp_path: Path, uid: str, said: str) -> None:
    outcome = command("cohort", "fetch", URL, "-o", tmp_path / "cts", "--series", uid)
    assert outcome.code == 2
    assert said in outcome.one_line
    assert not (tmp_path / "cts").exists()
