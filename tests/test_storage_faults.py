"""Accepting on a full disk, and what people and broken disks leave for the next start."""

from __future__ import annotations

import json
import os
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from lesionbrush.errors import StorageFull
from lesionbrush.server.storage import accept, durable
from lesionbrush.server.storage.accept import accept_case
from lesionbrush.server.storage.cases import Cases
from storage_kit import Folder, assert_nothing_new, assert_whole, contents, full, made_case, restarted, where

pytest_plugins = "storage_fixtures"


class TestFullDisk:
    def test_whatever_step_it_hits_nothing_stays(
        self, studies: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Every rename and every flush of an accept fails in its turn, until none is left to fail."""
        accept_case(studies, made_case("before"))
        before, failed = contents(where(studies)), 0
        for call in ("replace", "fsync", "mkdir"):
            for turn in count(1):
                with monkeypatch.context() as patch:
                    calls = self.failing(patch, call, turn)
                    try:
                        accept_case(studies, made_case("job", "ct"))
                    except StorageFull:
                        failed += 1
                        assert_nothing_new(studies, before)
                    else:  # it was a step that can do without
                        assert_whole(where(studies), "ct", made_case("job", "ct"))
                for name in contents(where(studies)) - before:
                    (where(studies) / name).unlink()
                if len(calls) < turn:
                    break
        print(f"{failed} ways to fail")
        assert failed > 12
        assert accept_case(studies, made_case("job", "ct")) == "ct"

    def failing(self, patch: pytest.MonkeyPatch, name: str, turn: int) -> list[int]:
        calls: list[int] = []
        original = getattr(os, name)

        def call(*arguments: Any, **named: Any) -> Any:
            calls.append(1)
            if len(calls) == turn:
                full()
            return original(*arguments, **named)

        patch.setattr(os, name, call)
        return calls

    @pytest.mark.parametrize("text", ["write_text", "write_bytes"])
    def test_while_the_record_is_written(
        self, studies: Folder, monkeypatch: pytest.MonkeyPatch, text: str
    ) -> None:
        if text == "write_text":
            monkeypatch.setattr(Path, "write_text", full)
        else:
            monkeypatch.setattr(accept, "file_sha256", full)
        with pytest.raises(StorageFull):
            accept_case(studies, made_case("job"))
        assert_nothing_new(studies, set())


class TestRecovery:
    """What a kill leaves is in test_storage_crash; here is what people and broken disks leave."""

    def interrupted(self, studies: Folder, monkeypatch: pytest.MonkeyPatch, image: str = "ct") -> Path:
        """A case that was decided and is not in place."""

        def dies(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Cases, "_finish", dies)
            with pytest.raises(KeyboardInterrupt):
                accept_case(studies, made_case("job", image))
        (pending,) = studies.private.accepts.iterdir()
        return pending

    def test_a_decided_case_is_completed(self, studies: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
        self.interrupted(studies, monkeypatch)
        again = restarted(studies)
        assert_whole(where(again), "ct", made_case("job", "ct"))
        assert accept_case(again, made_case("job")) == "ct"

    @pytest.mark.parametrize("plan", ["", "[]", "{}", '{"image": "../evil"}', '{"image": 7'])
    def test_a_damaged_plan_is_kept_aside(
        self, studies: Folder, monkeypatch: pytest.MonkeyPatch, plan: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        pending = self.interrupted(studies, monkeypatch)
        (pending / "plan.json").write_text(plan)
        self.assert_kept_aside(studies, pending, caplog)
        assert contents(where(studies)) == set()

    def assert_kept_aside(self, studies: Folder, pending: Path, caplog: pytest.LogCaptureFixture) -> None:
        again = restarted(studies)
        assert "cannot be completed; its files are kept aside" in caplog.text
        assert [path.name for path in again.private.aside.iterdir()] == [pending.name]
        assert list(again.private.accepts.iterdir()) == []

    def test_what_somebody_put_there_meanwhile_is_not_overwritten(
        self, studies: Folder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        pending = self.interrupted(studies, monkeypatch)
        (where(studies) / "ct.nii.gz").write_bytes(b"somebody's")
        self.assert_kept_aside(studies, pending, caplog)
        assert contents(where(studies)) == {"ct.nii.gz"}
        assert (where(studies) / "ct.nii.gz").read_bytes() == b"somebody's"

    def test_half_a_case_is_not_completed(
        self, studies: Folder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        pending = self.interrupted(studies, monkeypatch)
        (pending / "label.nii.gz").unlink()
        self.assert_kept_aside(studies, pending, caplog)
        assert contents(where(studies)) == set()

    def test_drafts_of_uploads_go(self, studies: Folder) -> None:
        labels = where(studies) / "labels" / "mine"
        labels.mkdir(parents=True)
        for folder in (where(studies), labels):
            (folder / ".lesionbrush-1.part").write_bytes(b"half")
            (folder / ".lesionbrush-2").mkdir()
            (folder / ".lesionbrush-2" / "volume.nii").write_bytes(b"half")
        restarted(studies)
        assert contents(where(studies)) == set()

    @pytest.mark.parametrize(
        "text", ["", "[1]", '{"image": "other", "key_sha256": "0"}', '{"key_sha256": 3}']
    )
    def test_strange_records_are_passed_over(self, studies: Folder, text: str) -> None:
        (where(studies) / "ct.provenance.json").write_text(text)
        assert restarted(studies).cases._images == {}


def test_files_without_a_rename_that_lasts_are_not_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "index.json").write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            durable.write_text(tmp_path / "index.json", "new", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["index.json"]
    assert (tmp_path / "index.json").read_text() == "old"
    durable.write_json(tmp_path / "plan.json", {"image": "ct"})
    assert json.loads((tmp_path / "plan.json").read_text()) == {"image": "ct"}
