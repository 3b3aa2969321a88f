"""The server's private folder: for nobody else, for one server, and without leftovers."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from threading import Event

import pytest
from lesionbrush.errors import InvalidRequest
from lesionbrush.server.errors import StudiesInUse
from lesionbrush.server.storage import private
from lesionbrush.server.storage.private import PrivateRoot, close_private_root, private_root
from lesionbrush.server.storage.vault import References
from storage_kit import APP, KEPT, ct_bytes, file_list, put, reopened, ticking

pytest_plugins = "storage_fixtures"


class TestPrivateRoot:
    @pytest.mark.skipif(os.name == "nt", reason="no data: Windows has no such permissions")
    def test_nobody_else_can_enter(self, root: PrivateRoot) -> None:
        folders = [root.path, root.references, root.results, root.accepts, root.tmp, root.aside]
        assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}
        root.path.chmod(0o755)
        root.tmp.chmod(0o777)
        reopened(root).close()
        assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}

    def test_leftovers_go_and_references_stay(
        self, root: PrivateRoot, references: References, tmp_path: Path
    ) -> None:
        sent = put(references, ct_bytes(tmp_path))
        (root.results / "job" / "deep").mkdir(parents=True)
        (root.results / "job" / "deep" / "box.raw").write_bytes(b"half")
        (root.tmp / "upload.draft").write_bytes(b"half")
        with root.workspace() as folder:
            (folder / "mask.nii").write_bytes(b"half")
            again = reopened(root)
            assert file_list(again.results) == file_list(again.tmp) == []
        assert References(again, KEPT, clock=ticking()).about(sent).reference == sent
        again.close()

    def test_a_workspace_goes(self, root: PrivateRoot) -> None:
        def crash() -> None:
            with root.workspace() as folder:
                (folder / "mask.nii").write_bytes(b"half")
                raise RuntimeError

        with pytest.raises(RuntimeError):
            crash()
        assert list(root.tmp.iterdir()) == []

    def test_two_servers_on_one_folder_are_refused(self, root: PrivateRoot) -> None:
        """From another process, and a link to the folder does not help."""
        link = root.path.parent.with_name("link")
        link.symlink_to(root.path.parent, target_is_directory=True)
        with pytest.raises(
            StudiesInUse, match=r"already works on the studies folder 'link': stop it, or give"
        ):
            PrivateRoot(link)
        program = (
            f"import sys, pathlib; sys.path.insert(0, {str(APP)!r})\n"
            "from lesionbrush.server.storage.private import PrivateRoot\n"
            f"PrivateRoot(pathlib.Path({str(link)!r}))"
        )
        second = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
        assert second.returncode != 0
        assert "StudiesInUse: another LesionBrush server" in second.stderr
        assert (root.tmp).is_dir()

    def test_a_refused_server_removes_nothing(self, root: PrivateRoot) -> None:
        (root.tmp / "in_use").write_bytes(b"x")
        with pytest.raises(StudiesInUse):
            PrivateRoot(root.path.parent)
        assert (root.tmp / "in_use").exists()

    def test_one_process_has_one(self, tmp_path: Path) -> None:
        try:
            assert private_root(tmp_path / "new") is private_root(tmp_path / "new" / ".." / "new")
        finally:
            close_private_root(tmp_path / "new")
        close_private_root(tmp_path / "new")
        PrivateRoot(tmp_path / "new").close()

    def test_what_is_in_its_place_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / private.NAME).symlink_to(tmp_path / "elsewhere", target_is_directory=True)
        with pytest.raises(InvalidRequest, match="is not a folder: remove it"):
            PrivateRoot(tmp_path)

    @pytest.mark.skipif(os.name == "nt", reason="no data: Windows has no owners of this kind")
    def test_a_folder_of_somebody_else_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        with pytest.raises(InvalidRequest, match="belongs to another user"):
            PrivateRoot(tmp_path)

    def test_links_among_leftovers_are_not_followed(self, root: PrivateRoot, tmp_path: Path) -> None:
        (tmp_path / "precious").mkdir()
        (tmp_path / "precious" / "ct.nii").write_bytes(b"ct")
        (root.tmp / "link").symlink_to(tmp_path / "precious", target_is_directory=True)
        root.results.rmdir()
        root.results.symlink_to(tmp_path / "precious", target_is_directory=True)
        reopened(root).close()
        assert (tmp_path / "precious" / "ct.nii").read_bytes() == b"ct"

    def test_sweeping_ends_when_it_is_closed(self, tmp_path: Path) -> None:
        opened, swept = PrivateRoot(tmp_path), Event()
        opened.sweep_regularly(swept.set, interval_s=0.001)
        assert swept.wait(10)
        opened.close()
        swept.clear()
        assert not swept.wait(0.02)

    def test_temporary_files_of_everybody_land_here(
        self, root: PrivateRoot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("TMPDIR", "TEMP", "TMP"):
            monkeypatch.setenv(name, "to be put back")
        monkeypatch.setattr(tempfile, "tempdir", None)
        root.use_for_temporary_files()
        with tempfile.NamedTemporaryFile() as file:
            assert Path(file.name).parent == root.tmp
        assert os.environ["TMPDIR"] == str(root.tmp)
