"""References and results are kept for their time and in their room; never dropped while in use."""

from __future__ import annotations

from pathlib import Path

import pytest
from lesionbrush.errors import InvalidRequest, StorageFull
from lesionbrush.server.errors import UnknownReference
from lesionbrush.server.storage import retention
from lesionbrush.server.storage.private import PrivateRoot
from lesionbrush.server.storage.references import ReferenceCache
from lesionbrush.server.storage.retention import Bounds, Shelf, Sweeper
from lesionbrush.server.storage.vault import References, Results
from storage_kit import KEPT, ct_bytes, file_list, full, put, reopened, ticking

pytest_plugins = "storage_fixtures"


class TestReferences:
    def test_the_least_recently_used_goes_first(self, root: PrivateRoot, tmp_path: Path) -> None:
        contents = [ct_bytes(tmp_path, value) for value in (-1000, -900, -800)]
        references = References(root, Bounds(6000, 1e6), clock=ticking())
        a, b = (put(references, content) for content in contents[:2])
        references.path(a)
        c = put(references, contents[2])
        assert references.shelf.names() == [a, c]
        with pytest.raises(UnknownReference):
            references.path(b)
        assert references.shelf.bytes <= 6000

    def test_what_is_in_use_is_never_dropped(self, root: PrivateRoot, tmp_path: Path) -> None:
        contents = [ct_bytes(tmp_path, value) for value in (-1000, -900, -800)]
        references = References(root, Bounds(6000, 1e6), clock=ticking())
        a, b = (put(references, content) for content in contents[:2])
        references.hold(a)
        references.hold(a)
        with references.using(b) as path:
            with pytest.raises(StorageFull, match="are in use: try again later"):
                put(references, contents[2])
            assert path.is_file()
        references.release(a)
        c = put(references, contents[2])
        assert references.shelf.names() == [a, c]
        references.release(a)
        put(references, contents[1])
        assert references.shelf.names() == [a, b]  # letting go is a use

    def test_what_is_old_goes_unless_it_is_in_use(self, root: PrivateRoot, tmp_path: Path) -> None:
        now = [1e9]
        references = References(root, KEPT, clock=lambda: now[0])
        a, b = (put(references, ct_bytes(tmp_path, value)) for value in (-1000, -900))
        with references.using(a):
            now[0] += 101
            assert references.sweep() == [b]
        assert references.sweep() == []  # the time counts from the last use
        now[0] += 101
        assert references.sweep() == [a]
        assert list(root.references.iterdir()) == []

    def test_a_restart_knows_what_was_used_last(self, root: PrivateRoot, tmp_path: Path) -> None:
        now = [1e9]
        references = References(root, KEPT, clock=lambda: now[0])
        a = put(references, ct_bytes(tmp_path, -1000))
        now[0] += 50
        b = put(references, ct_bytes(tmp_path, -900))
        now[0] += 1
        again = reopened(root)
        assert References(again, KEPT, clock=lambda: now[0]).shelf.names() == [a, b]
        assert References(again, KEPT, clock=lambda: now[0] + 60).shelf.names() == [b]
        again.close()

    def test_a_damaged_entry_goes_at_the_next_start(self, root: PrivateRoot, tmp_path: Path) -> None:
        references = References(root, KEPT)
        names = [put(references, ct_bytes(tmp_path, value)) for value in (-1000, -900, -800, -700)]
        (root.references / names[0] / "about.json").write_text("")
        (root.references / names[1] / "about.json").unlink()
        (root.references / names[2]).rename(root.references / ("0" * 64))
        (root.references / "stray.txt").write_text("")
        again = reopened(root)
        assert References(again, KEPT).shelf.names() == [names[3]]
        assert [path.name for path in root.references.iterdir()] == [names[3]]
        again.close()

    def test_what_somebody_removed_by_hand_is_unknown(self, references: References, tmp_path: Path) -> None:
        content = ct_bytes(tmp_path)
        name = put(references, content)
        for file in (references.private.references / name).iterdir():
            file.unlink()
        with pytest.raises(UnknownReference):
            references.path(name)
        (references.private.references / name).rmdir()
        with pytest.raises(UnknownReference):
            references.path(name)
        assert put(references, content) == name


class TestResults:
    def test_a_folder_per_job(self, root: PrivateRoot) -> None:
        results = Results(root, KEPT)
        folder = results.folder("job-1")
        (folder / "box").write_bytes(b"x")
        assert results.folder("job-1") == folder != results.folder("job-2")
        results.drop("job-1")
        results.drop("job-1")
        results.drop("../tmp")
        assert not folder.exists()
        assert not results.has("job-1")
        assert results.has("job-2")
        assert root.tmp.is_dir()

    @pytest.mark.parametrize("job", ["", "..", "a/b", "a.b", "a" * 65, "a\n"])
    def test_a_bad_id(self, root: PrivateRoot, job: str) -> None:
        with pytest.raises(InvalidRequest, match="use up to 64 letters"):
            Results(root, KEPT).folder(job)

    def test_results_are_bounded(self, root: PrivateRoot) -> None:
        now = [1e9]
        results = Results(root, Bounds(1000, 100.0), clock=lambda: now[0])
        for job in "abc":
            now[0] += 1
            with results.using(job) as folder:
                (folder / "box").write_bytes(b"x" * 450)
        assert results.shelf.names() == ["b", "c"]
        results.hold("b")
        (results.folder("c") / "more").write_bytes(b"x" * 450)
        assert results.sweep() == ["c"]
        now[0] += 200
        assert results.sweep() == []
        results.release("b")
        now[0] += 101
        assert results.sweep() == ["b"]
        assert file_list(root.results) == []


def test_the_sweeper_sweeps_survives_a_bad_disk_and_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []

    def sweep() -> None:
        calls.append(1)
        if len(calls) == 1:
            full()

    sweeper = Sweeper(sweep, interval_s=0.001)
    while len(calls) < 3:
        pass
    sweeper.close()
    assert "sweeping failed" in caplog.text


def test_what_vanishes_while_it_is_measured_counts_nothing(tmp_path: Path) -> None:
    assert retention.size_of(tmp_path / "gone") == 0
    assert Shelf(tmp_path, tmp_path, KEPT).hold("gone") is None


def test_a_ct_that_came_in_is_not_read_again(root: PrivateRoot, tmp_path: Path) -> None:
    cache = ReferenceCache()
    references = References(root, KEPT, on_stored=cache.keep, clock=ticking())
    path = references.path(put(references, ct_bytes(tmp_path)))
    first = cache.get(path)
    path.chmod(0o400)
    assert cache.get(path) is first
    path.chmod(0o600)
    path.write_bytes(ct_bytes(tmp_path, -900))
    assert cache.get(path).array.min() == -900
    small = ReferenceCache(limit_bytes=1)
    small.keep(path, first)
    assert small._entries == {}
