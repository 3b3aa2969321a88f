"""A DICOM series on its way to a server: nothing is lost without a word, and no name leaves the computer."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pydicom
import pytest
from dicom_fixtures import Series, write_series
from lesionbrush.errors import DamagedFile, NotACT
from lesionbrush.server.storage.private import PrivateRoot, close_private_root
from lesionbrush.server.storage.references import read_ct
from lesionbrush.server.storage.vault import References
from LesionBrushLib.client import uploads as client_uploads
from LesionBrushLib.client.errors import ServerError, WrongInput
from LesionBrushLib.client.uploads import MOST_FILES, Upload, names_in_archive
from storage_kit import put

NAMES = [f"Doe_Jane_{k + 1:03d}" for k in range(4)]
HU = np.random.default_rng(0).integers(-1000, 2000, (7, 6, 4))


@pytest.fixture
def series(tmp_path: Path) -> Path:
    write_series(tmp_path / "series", Series(HU, names=NAMES))
    return tmp_path / "series"


@pytest.fixture
def references(tmp_path: Path):
    (tmp_path / "studies").mkdir()
    root = PrivateRoot(tmp_path / "studies")
    yield References(root)
    close_private_root(tmp_path / "studies")


def sent(series: Path) -> bytes:
    with Upload.of(series).packed() as packed:
        return Path(packed.source).read_bytes()


def without_preamble(path: Path) -> None:
    path.write_bytes(path.read_bytes()[132:])


class TestTheClient:
    def test_sends_every_file_without_its_name(self, series: Path) -> None:
        (series / "notes.txt").write_text("words")
        (series / "more").mkdir()
        shutil.copy(series / NAMES[0], series / "more" / "copy.dcm")
        content = sent(series)
        with ZipFile(io.BytesIO(content)) as zipped:
            assert zipped.namelist() == [f"{k:05d}" for k in range(4)] + ["below/00004.dcm", "00005"]
        assert b"Doe" not in content

    @pytest.mark.parametrize("content", [b"", b"words", bytes(300)])
    def test_does_not_send_a_series_with_a_lost_slice(self, series: Path, content: bytes) -> None:
        (series / NAMES[3]).write_bytes(content)
        with pytest.raises(WrongInput, match=rf"^{NAMES[3]} is named like the slices and"):
            sent(series)

    @pytest.mark.parametrize("target", ["nowhere", "."])
    def test_does_not_pass_over_links(self, series: Path, target: str) -> None:
        (series / NAMES[3]).unlink()
        (series / NAMES[3]).symlink_to(target)
        what = "links to a folder" if target == "." else "is a link that leads nowhere"
        with pytest.raises(WrongInput, match=rf"^{NAMES[3]} {what}: copy what it leads to"):
            sent(series)

    @pytest.mark.parametrize("start", [b"\x02\0\1\2\xff\xff\xff\xff", b"\x08\0\1\2\3\4\5\6"])
    def test_knows_dicom_as_the_server_does(self, series: Path, start: bytes) -> None:
        (series / NAMES[3]).write_bytes(start + bytes(200))
        with pytest.raises(WrongInput, match="holds no DICOM data"):
            sent(series)

    def test_counts_before_it_packs(self, series: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert MOST_FILES == 20_000
        monkeypatch.setattr(client_uploads, "MOST_FILES", 3)
        with pytest.raises(WrongInput, match="series holds 4 files: choose the folder of one series"):
            names_in_archive(series)

    def test_says_the_users_own_names(self, series: Path) -> None:
        """The server speaks of numbers."""
        with pytest.raises(ServerError) as caught, Upload.of(series).packed():
            raise ServerError(422, "damaged_file", "00002 is damaged, 00003.dcm is not, and 12.00001 is none")
        wanted = f"{NAMES[2]} is damaged, 00003.dcm is not, and 12.00001 is none"
        assert (str(caught.value), caught.value.message) == (wanted, wanted)
        assert caught.value.code == "damaged_file"


class TestTheServer:
    @pytest.mark.parametrize("change", [lambda path: None, without_preamble], ids=["preamble", "none"])
    def test_reads_what_was_sent(
        self, series: Path, references: References, change: Callable[[Path], None]
    ) -> None:
        for path in series.iterdir():
            change(path)
        name = put(references, sent(series), "zip")
        assert np.array_equal(read_ct(references.path(name)).array, HU)

    def test_a_cd(self, series: Path, references: References) -> None:
        (series / "DICOM").mkdir()
        for name in NAMES:
            (series / name).rename(series / "DICOM" / name)
        assert np.array_equal(read_ct(references.path(put(references, sent(series), "zip"))).array, HU)

    def test_other_series_below(self, series: Path, references: References) -> None:
        write_series(series / "below", Series(HU + 1))
        volume = read_ct(references.path(put(references, sent(series), "zip")))
        assert np.array_equal(volume.array, HU)
        assert "images of other series in sub-folders: 4" in volume.source.remarks[0]

    def test_keeps_what_there_is_to_say(self, series: Path, references: References) -> None:
        """Also for the second lesion painted on it, and after a restart."""
        (series / "notes.txt").write_text("words")
        (series / "._slice").write_bytes(b"\0\5\x16\7")
        shutil.copy(series / NAMES[0], series / "copy")
        name = put(references, sent(series), "zip")
        first, again = (read_ct(references.path(name)).source.remarks for _ in range(2))
        assert first == again
        assert first == (
            "4 files of its folder were used, 1 were not (copies of slices: 1)",
            "2 files of the .zip are no DICOM, or hidden, and were not used",
        )
        assert references.about(name).remarks == first[1:]

    def test_says_the_names_of_an_archive(self, series: Path, references: References) -> None:
        """Of one that somebody packed by hand, with names."""
        path = series / NAMES[1]
        header = pydicom.dcmread(path)
        header.RescaleType = "MGML"
        header.save_as(path)
        with pytest.raises(NotACT, match=rf"RescaleType MGML in {NAMES[1]}\)"):
            put(references, by_hand(series), "zip")

    @pytest.mark.parametrize("content", [b"", b"words"])
    def test_a_lost_slice_in_an_archive(self, series: Path, references: References, content: bytes) -> None:
        (series / NAMES[3]).write_bytes(content)
        with pytest.raises(DamagedFile, match=rf"^{NAMES[3]} is named like the slices and holds no"):
            put(references, by_hand(series), "zip")


def by_hand(series: Path) -> bytes:
    packed = io.BytesIO()
    with ZipFile(packed, "w") as zipped:
        for path in sorted(series.iterdir()):
            zipped.write(path, f"Thorax/{path.name}")
    return packed.getvalue()
