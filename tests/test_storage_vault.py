"""Uploaded references: whole, checked, and under their own hash."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from lesionbrush.core.volume import Volume
from lesionbrush.errors import DamagedFile, InvalidRequest, LesionBrushError, NotACT, StorageFull
from lesionbrush.files.io import write_volume
from lesionbrush.server.errors import HashMismatch, TooLarge, UnknownReference
from lesionbrush.server.storage.private import PrivateRoot, private_root
from lesionbrush.server.storage.vault import References
from storage_kit import KEPT, ct_bytes, file_list, full, put, sha

pytest_plugins = "storage_fixtures"


class TestReferences:
    @pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
    def test_what_was_sent_is_there(self, references: References, tmp_path: Path, suffix: str) -> None:
        content = ct_bytes(tmp_path, suffix=suffix)
        about = references.receive_file(sha(content), suffix[1:], io.BytesIO(content), len(content))
        assert references.path(sha(content)).read_bytes() == content
        assert (about.reference, about.shape, about.bytes) == (sha(content), (16, 8, 8), len(content))
        array = np.full((16, 8, 8), -800, "<i2")
        array[0, 0, 0] = 40
        assert about.voxel_sha256 == sha(array.tobytes(order="F"))
        assert references.about(sha(content)) == about

    def test_a_body_in_pieces(
        self, references: References, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("lesionbrush.server.storage.vault._CHUNK_BYTES", 1000)
        content = ct_bytes(tmp_path)

        async def pieces(size: int) -> AsyncIterator[bytes]:
            for start in range(0, len(content), size):
                yield content[start : start + size]

        for size in (7, 999, 10**6):
            about = asyncio.run(references.receive(sha(content), "nii", pieces(size), len(content)))
            assert references.path(about.reference).read_bytes() == content
            references.shelf.drop(about.reference)

    def test_a_sender_that_goes_away_leaves_nothing(self, references: References, tmp_path: Path) -> None:
        content = ct_bytes(tmp_path)

        async def half() -> AsyncIterator[bytes]:
            yield content[:1000]
            raise ConnectionResetError

        with pytest.raises(ConnectionResetError):
            asyncio.run(references.receive(sha(content), "nii", half(), len(content)))
        self.assert_nothing(references)

    def assert_nothing(self, references: References) -> None:
        root = references.private
        assert list(root.tmp.iterdir()) == list(root.references.iterdir()) == []
        assert references.shelf.names() == []
        assert references.shelf._promised_bytes == 0

    @pytest.mark.parametrize(
        ("change", "error", "text"),
        [
            (
                {"name": "0" * 64},
                HashMismatch,
                "not 000000000000... as the address says: send the file again",
            ),
            ({"name": "../../etc/passwd"}, InvalidRequest, "is no SHA-256"),
            ({"name": "A" * 64}, InvalidRequest, "is no SHA-256"),
            ({"name": "0" * 64 + "\n"}, InvalidRequest, "is no SHA-256"),
            ({"format": "png"}, InvalidRequest, "use one of nii, nii.gz, nrrd, mha, zip"),
            ({"format": "nrrd"}, DamagedFile, "damaged or misnamed"),
            ({"format": "zip"}, DamagedFile, "damaged"),
            ({"content": b""}, TooLarge, "up to 0.001 GB"),
            ({"content": b"x" * 10}, DamagedFile, "damaged"),
            ({"content": b"x" * (10**6 + 1)}, TooLarge, "up to 0.001 GB"),
        ],
    )
    def test_what_is_refused_leaves_nothing(
        self, references: References, tmp_path: Path, change: dict, error: type[LesionBrushError], text: str
    ) -> None:
        with pytest.raises(error, match=text.replace(".", r"\.")):
            put(references, **{"content": ct_bytes(tmp_path), **change})
        self.assert_nothing(references)

    @pytest.mark.parametrize(("gb", "announced_gb"), [("6", 5.0), ("40", 30.0)])
    def test_the_upload_limit_is_the_only_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gb: str, announced_gb: float
    ) -> None:
        """It was 4.3 GB here whatever the admin had said."""
        monkeypatch.setenv("LESIONBRUSH_UPLOAD_GB", gb)
        studies = tmp_path / "studies"
        studies.mkdir()
        references = References(private_root(studies))
        content = ct_bytes(tmp_path)
        for size_gb, error in ((announced_gb, HashMismatch), (float(gb) + 1, TooLarge)):
            with pytest.raises(error):
                references.receive_file("0" * 64, "nii", io.BytesIO(content), int(size_gb * 1e9))

    def test_no_ct(self, references: References, tmp_path: Path) -> None:
        path = tmp_path / "mask.nii"
        write_volume(Volume(np.ones((4, 4, 4), np.uint8), np.eye(4)), path)
        with pytest.raises(NotACT):
            put(references, path.read_bytes())
        self.assert_nothing(references)

    def test_more_than_announced(self, references: References, tmp_path: Path) -> None:
        content = ct_bytes(tmp_path)
        with pytest.raises(TooLarge, match="than the 100 that were announced"):
            references.receive_file(sha(content), "nii", io.BytesIO(content), 100)
        self.assert_nothing(references)

    @pytest.mark.parametrize("call", ["os.fsync", "os.replace"])
    def test_a_full_disk(
        self, references: References, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        content = ct_bytes(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(f"lesionbrush.server.storage.durable.{call}", full)
            with pytest.raises(StorageFull):
                put(references, content)
        self.assert_nothing(references)

    def test_a_series_in_a_zip_is_a_folder(self, root: PrivateRoot) -> None:
        archive = io.BytesIO()
        with ZipFile(archive, "w") as zipped:
            zipped.writestr("../../evil.dcm", b"x" * 5000)
            zipped.writestr("2.dcm", b"y")
        seen: list[Path] = []

        def read(path: Path) -> Volume:
            seen.append(path)
            assert [file.name for file in sorted(path.iterdir())] == ["00000.dcm", "00001.dcm"]
            return Volume(np.zeros((2, 2, 2), np.int16), np.eye(4))

        references = References(root, KEPT, read=read, on_stored=lambda path, _: seen.append(path))
        name = put(references, archive.getvalue(), "zip")
        assert references.path(name).is_dir()
        assert seen[1] == references.path(name)
        assert 5001 < references.shelf.bytes < 6000
        assert len(file_list(root.path.parent)) == 4  # two slices, the record, the lock

    def test_the_same_bytes_twice_are_kept_once(self, references: References, tmp_path: Path) -> None:
        content = ct_bytes(tmp_path)
        first = put(references, content)
        with references.using(first) as path:
            assert put(references, content) == first
            assert path.read_bytes() == content
        assert len(references.shelf.names()) == 1
        assert list(references.private.tmp.iterdir()) == []

    @pytest.mark.parametrize("name", ["0" * 64, "..", "../references", ""])
    def test_unknown(self, references: References, name: str) -> None:
        for ask in (references.path, references.about, references.hold):
            with pytest.raises(UnknownReference, match=r"is stored \(any more\): send it"):
                ask(name)
        with pytest.raises(UnknownReference), references.using(name):
            pass
