"""What a command is about to write is looked at before it reads, loads or samples, one refusal each."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from lesionbrush.cli.files import number_paths
from lesionbrush.cli.outputs import (
    PICTURE,
    SHAPES,
    VOLUME,
    Output,
    check_folder,
    check_outputs,
    pictures,
    reports,
    require_room,
    save_picture,
)
from lesionbrush.errors import InvalidRequest, StorageFull
from PIL import Image

Usage = namedtuple("Usage", "total used free")


def tree(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def refuses(said: str, *outputs: Output, inputs: tuple[Path | None, ...] = ()) -> None:
    with pytest.raises(InvalidRequest, match=said):
        check_outputs(outputs, inputs)


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("OUT.NII.GZ", ["OUT-1.NII.GZ", "OUT-2.NII.GZ"]),
        ("Out.Nii.gz", ["Out-1.Nii.gz", "Out-2.Nii.gz"]),
        ("a.MHA", ["a-1.MHA", "a-2.MHA"]),
        ("m.PNG", ["m-1.PNG", "m-2.PNG"]),
        ("1.2.3.nii", ["1.2.3-1.nii", "1.2.3-2.nii"]),
        ("plain", ["plain-1", "plain-2"]),
    ],
)
def test_variants_keep_the_ending_as_it_was_spelled(name: str, names: list[str]) -> None:
    assert [path.name for path in number_paths(Path(name), 2)] == names
    assert number_paths(Path(name), 1) == [Path(name)]


@pytest.mark.parametrize("name", ["a.nii.gz", "A.NII.GZ", "a.Nrrd", "a.MHA", "x.y.nii"])
def test_an_ending_is_known_in_any_case(tmp_path: Path, name: str) -> None:
    check_outputs([Output(tmp_path / "new" / "er" / name, VOLUME, recorded=True)])
    assert tree(tmp_path) == set()


@pytest.mark.parametrize(
    ("name", "endings", "said"),
    [
        ("OUT.NII-1.GZ", VOLUME, "OUT.NII-1.GZ: unknown file type; use one of .nii.gz, .nii"),
        ("a.nhdr", VOLUME, "unknown file type"),
        ("a.jpg", PICTURE, "ends with .png"),
        ("a.npy", SHAPES, "ends with .npz"),
    ],
)
def test_another_ending_is_refused(tmp_path: Path, name: str, endings: tuple[str, ...], said: str) -> None:
    refuses(said, Output(tmp_path / name, endings))


class TestInputsAreKept:
    def test_by_the_same_name_another_spelling_and_a_link(self, tmp_path: Path) -> None:
        ct = tmp_path / "ct.nii"
        ct.write_bytes(b"x")
        (tmp_path / "link.nii").symlink_to(ct)
        os.link(ct, tmp_path / "hard.nii")
        (tmp_path / "folder").mkdir()
        for name in ("ct.nii", "./ct.nii", "folder/../ct.nii", "link.nii", "hard.nii"):
            refuses("is an input", Output(tmp_path / name, VOLUME), inputs=(None, ct))

    def test_as_a_link_that_is_the_input(self, tmp_path: Path) -> None:
        (tmp_path / "ct.nii").write_bytes(b"x")
        (tmp_path / "link.nii").symlink_to(tmp_path / "ct.nii")
        refuses("is an input", Output(tmp_path / "ct.nii", VOLUME), inputs=(tmp_path / "link.nii",))

    def test_the_record_of_a_result_is_no_input(self, tmp_path: Path) -> None:
        record = tmp_path / "out.provenance.json"
        record.write_text("{}")
        refuses("is an input", Output(tmp_path / "out.nii", VOLUME, recorded=True), inputs=(record,))

    def test_a_result_may_be_called_as_its_series_is(self, tmp_path: Path) -> None:
        """The series has no record, and the result beside it gets one."""
        (tmp_path / "series").mkdir()
        (tmp_path / "ct.nii.gz").touch()
        for name in ("series", "ct.nii.gz"):
            out = Output(tmp_path / f"{name.partition('.')[0]}.nrrd", VOLUME, recorded=True)
            check_outputs([out], [tmp_path / name])

    def test_nor_the_record_of_an_input(self, tmp_path: Path) -> None:
        for name in ("a.NII.GZ", "a.provenance.json"):
            (tmp_path / name).write_text("{}")
        out = Output(tmp_path / "a.nrrd", VOLUME, recorded=True)
        refuses(r"a.provenance.json is an input", out, inputs=(tmp_path / "a.NII.GZ",))


@pytest.mark.parametrize(
    ("first", "second"),
    [("a.png", "a.png"), ("a.png", "folder/../a.png"), ("a.png", "link.png")],
)
def test_two_results_are_two_files(tmp_path: Path, first: str, second: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.png").symlink_to("a.png")
    refuses("would be written twice", *pictures(tmp_path / first, None, tmp_path / second))


class TestWhatIsThere:
    def test_a_file_of_somebody_else_stays(self, tmp_path: Path) -> None:
        (tmp_path / "patient.nii").touch()
        refuses("patient.nii is there already", Output(tmp_path / "patient.nii", VOLUME, recorded=True))

    def test_an_older_result_is_replaced(self, tmp_path: Path) -> None:
        for name in ("out.nii", "out.provenance.json"):
            (tmp_path / name).touch()
        check_outputs([Output(tmp_path / "out.nii", VOLUME, recorded=True)])

    def test_work_by_hand_is_not(self, tmp_path: Path) -> None:
        (tmp_path / "layout.json").touch()
        refuses("layout.json is there already", Output(tmp_path / "layout.json", new=True))
        check_outputs([Output(tmp_path / "other.json", new=True)])

    def test_a_picture_of_ours_may_be_drawn_anew(self, tmp_path: Path) -> None:
        save_picture(Image.new("L", (2, 2)), tmp_path / "new" / "ours.png")
        check_outputs(pictures(tmp_path / "new" / "ours.png"))

    @pytest.mark.parametrize("kind", ["another program's", "no picture"])
    def test_any_other_is_kept(self, tmp_path: Path, kind: str) -> None:
        there = tmp_path / "figure.png"
        there.write_bytes(b"notes")
        if kind == "another program's":
            Image.new("L", (2, 2)).save(there)
        refuses("figure.png is there already, does not say that LesionBrush drew it", *pictures(there))


class TestPlaces:
    def test_a_folder_of_that_name(self, tmp_path: Path) -> None:
        (tmp_path / "out.nii").mkdir()
        refuses("out.nii is a folder", Output(tmp_path / "out.nii", VOLUME))

    def test_a_folder_where_the_record_would_be(self, tmp_path: Path) -> None:
        (tmp_path / "out.provenance.json").mkdir()
        refuses(r"out.provenance.json is a folder", Output(tmp_path / "out.nii", VOLUME, recorded=True))

    def test_a_file_where_a_folder_would_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        refuses("file is no folder", Output(tmp_path / "file" / "new" / "out.nii", VOLUME))
        (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
        refuses("nowhere is no folder", Output(tmp_path / "nowhere" / "out.nii", VOLUME))

    def test_what_is_no_ordinary_file(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "report")
        refuses("no ordinary file", *reports(tmp_path / "report"))

    def test_a_name_that_is_too_long(self, tmp_path: Path) -> None:
        refuses("too long a name", Output(tmp_path / f"{'ü' * 120}.nii", VOLUME))
        check_outputs([Output(tmp_path / f"{'a' * 200}.nii", VOLUME)])

    @pytest.mark.parametrize("there", ["folder", "file"])
    def test_where_one_may_not_write(self, tmp_path: Path, monkeypatch, there: str) -> None:
        out = tmp_path / "out.nii"
        out.write_bytes(b"")
        closed = {"folder": tmp_path, "file": out}[there]
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != closed)
        refuses("may not write" if there == "folder" else "write-protected", Output(out, VOLUME))
        if there == "folder":
            refuses("may not write into the folder", Output(tmp_path / "new" / "er" / "a.nii", VOLUME))
            with pytest.raises(InvalidRequest, match="may not write"):
                check_folder(tmp_path / "new")
        assert tree(tmp_path) == {out}

    def test_a_new_folder(self, tmp_path: Path) -> None:
        check_folder(tmp_path / "new" / "er", new=True)
        check_folder(tmp_path)
        assert tree(tmp_path) == set()
        (tmp_path / "link").symlink_to(tmp_path / "gone")
        for taken in (tmp_path, tmp_path / "link"):
            with pytest.raises(InvalidRequest, match="exists already"):
                check_folder(taken, new=True)


class TestRoom:
    def test_all_results_together_have_to_fit(self, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(10, 0, 5_000_000))
        paths = number_paths(tmp_path / "new" / "out.nii", 3)
        require_room(paths, 1_600_000)
        require_room([], 10**12)
        with pytest.raises(StorageFull, match=r"the 3 results need up to 5.1 MB, and 5.0 MB are free"):
            require_room(paths, 1_700_000)
        with pytest.raises(StorageFull, match=r"the result needs up to 6\.0 MB"):
            require_room(paths[:1], 6_000_000)

    def test_the_disk_that_is_asked_is_the_one_of_the_result(self, tmp_path: Path, monkeypatch) -> None:
        asked: list[Path] = []
        monkeypatch.setattr(shutil, "disk_usage", lambda place: asked.append(place) or Usage(1, 0, 1))
        require_room([tmp_path / "new" / "out.nii"], 1)
        assert asked == [tmp_path]
