"""Writing the index: atomic, on a full disk, and while others read."""

from __future__ import annotations

import json
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
from lesionbrush.errors import StorageFull
from lesionbrush.server.storage.accept import accept_case
from lesionbrush.server.storage.private import close_private_root
from lesionbrush.server.storage.studies import Studies
from storage_kit import full, made_case, write

INDEX = "datastore_v2.json"


pytest_plugins = "storage_fixtures"


def restarted(folder: Path) -> Studies:
    close_private_root(folder)
    return Studies(str(folder))


class TestWriting:
    def test_a_write_that_fails_leaves_the_old_index(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        studies = Studies(str(folder))
        before = (folder / INDEX).read_bytes()
        for call in ("fsync", "replace"):
            with monkeypatch.context() as patch:
                patch.setattr(os, call, full)
                with pytest.raises(StorageFull):
                    studies.update_image_info("1.2.840.10", {"note": 1})
            assert (folder / INDEX).read_bytes() == before
        assert list((folder / ".lesionbrush" / "tmp").iterdir()) == []

    def test_a_full_disk_does_not_keep_anybody_from_reading(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        studies = Studies(str(folder))
        write(folder / "late.nii")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            assert studies.locate("late") == folder / "late.nii"
            assert "the index cannot be written now: the disk is full" in caplog.text
        assert "late" not in (folder / INDEX).read_text()
        studies.refresh()
        assert "late" in (folder / INDEX).read_text()

    def test_a_case_whose_index_cannot_be_written_is_accepted_all_the_same(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        studies = Studies(str(folder))

        def broken() -> None:
            raise OSError(5, "the disk is broken")

        with monkeypatch.context() as patch:
            patch.setattr(studies, "refresh", broken)
            image = accept_case(studies, made_case("job"))
        assert "the index cannot be written now: the disk is broken" in caplog.text
        assert studies.locate(image).is_file()

    def test_readers_and_writers_at_once(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        """Nobody sees half an index, in memory or on disk, while cases come and notes are made."""
        caplog.set_level(logging.WARNING)
        studies, done = Studies(str(folder)), Event()

        def read() -> int:
            seen = 0
            while not done.is_set():
                assert studies.get_image_uri("1.2.840.10")
                assert {"1.2.840.10", "1.2.840.11"} <= set(
                    json.loads((folder / INDEX).read_text())["objects"]
                )
                assert studies.status()["completed"] >= 1
                studies.refresh()
                seen += 1
            return seen

        def note(number: int) -> None:
            for turn in range(20):
                studies.update_image_info("1.2.840.10", {f"note-{number}": turn})

        with ThreadPoolExecutor(8) as threads:
            readers = [threads.submit(read) for _ in range(2)]
            notes = [threads.submit(note, number) for number in range(2)]
            images = list(threads.map(lambda n: accept_case(studies, made_case(f"job-{n}")), range(8)))
            for each in notes:
                each.result()
            done.set()
            assert all(reader.result() for reader in readers)
        for store in (studies, restarted(folder)):
            assert set(images) <= set(store.get_labeled_images())
            info = store.get_image_info("1.2.840.10")
            assert (info["note-0"], info["note-1"]) == (19, 19)
        assert "is damaged" not in caplog.text
