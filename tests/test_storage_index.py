"""The index of the studies, with MONAI Label's own class: the files are the truth, whatever happens to it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from lesionbrush.server.errors import StudiesInUse
from lesionbrush.server.storage.accept import accept_case
from lesionbrush.server.storage.private import PrivateRoot, close_private_root
from lesionbrush.server.storage.studies import Studies
from monailabel.datastore.local import LocalDatastore
from storage_kit import assert_whole, made_case, write

INDEX = "datastore_v2.json"


pytest_plugins = "storage_fixtures"


def restarted(folder: Path) -> Studies:
    close_private_root(folder)
    return Studies(str(folder))


def stock(folder: Path) -> LocalDatastore:
    """As another MONAI Label app sees the folder."""
    return LocalDatastore(str(folder), extensions=("*.nii.gz", "*.nii", "*.nrrd", "*.mha"))


def aside(folder: Path) -> list[str]:
    return [path.read_text() for path in (folder / ".lesionbrush" / "aside").iterdir()]


def test_the_index_is_what_the_files_say(folder: Path) -> None:
    studies = Studies(str(folder))
    assert sorted(studies.list_images()) == ["1.2.840.10", "1.2.840.11"]
    assert studies.get_labeled_images() == ["1.2.840.10"]
    assert studies.status() == {"total": 2, "completed": 1, "label_tags": {"final": 1, "mine": 1}}
    assert studies.locate("1.2.840.11") == folder / "1.2.840.11.nrrd"
    assert json.loads((folder / INDEX).read_text()) == studies.json()


def test_stock_code_reads_the_same(folder: Path) -> None:
    ours = Studies(str(folder))
    before = (folder / INDEX).read_text()
    theirs = stock(folder)
    assert theirs.json() == ours.json()
    assert theirs.datalist() == ours.datalist()
    assert (folder / INDEX).read_text() == before


def test_an_accepted_case_is_completed_for_stock_code(folder: Path) -> None:
    studies, case = Studies(str(folder)), made_case("job", "1.2.840.12")
    assert accept_case(studies, case) == "1.2.840.12"
    assert_whole(folder, "1.2.840.12", case)
    for store in (studies, stock(folder), restarted(folder), stock(folder)):
        assert "1.2.840.12" in store.get_labeled_images()
        info = store.get_image_info("1.2.840.12")
        assert (info["synthetic"], info["model"], info["reference_id"]) == (True, "tiny", "made from job")
        assert info["quick_look"] is False
        assert store.get_label_info("1.2.840.12", "final")["name"] == "1.2.840.12.nii.gz"
        pairs = {Path(pair["image"]).name: Path(pair["label"]) for pair in store.datalist()}
        assert pairs["1.2.840.12.nii.gz"] == folder / "labels" / "final" / "1.2.840.12.nii.gz"


def test_a_case_that_the_index_was_not_told_of_is_found(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the files and the index."""
    studies = Studies(str(folder))
    monkeypatch.setattr(studies, "notice", lambda image: None)
    image = accept_case(studies, made_case("job"))
    again = restarted(folder)
    assert image in again.get_labeled_images()
    assert again.get_image_info(image)["synthetic"] is True


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b'{"name": "x"',
        b"[]",
        b"null",
        b"\xff\xfe",
        b"{}",
        b'{"name": 1, "description": ""}',
        b"[" * 9999,
    ],
)
def test_a_damaged_index_is_made_anew(folder: Path, damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    before = Studies(str(folder)).json()["objects"]
    (folder / INDEX).write_bytes(damage)
    again = restarted(folder)
    assert "the index datastore_v2.json is damaged: it is kept aside, and made anew" in caplog.text
    assert again.json()["objects"].keys() == before.keys()
    assert again.get_labeled_images() == ["1.2.840.10"]
    (kept,) = (folder / ".lesionbrush" / "aside").iterdir()
    assert kept.read_bytes() == damage
    assert json.loads((folder / INDEX).read_text()) == again.json() == stock(folder).json()


def test_a_truncated_index_loses_no_case(folder: Path) -> None:
    """Cut anywhere, as stock code leaves it when the disk is full."""
    studies = Studies(str(folder))
    image = accept_case(studies, made_case("job"))
    whole = (folder / INDEX).read_bytes()
    for length in range(0, len(whole) - 2, 97):
        (folder / INDEX).write_bytes(whole[:length])
        again = restarted(folder)
        assert len(again.list_images()) == 3
        assert image in again.get_labeled_images()
        assert again.get_image_info(image)["model"] == "tiny"


def test_a_folder_in_place_of_the_index(folder: Path) -> None:
    (folder / INDEX).mkdir()
    assert len(Studies(str(folder)).list_images()) == 2
    assert (folder / INDEX).is_file()


def test_an_index_that_is_damaged_while_the_server_runs(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    studies = Studies(str(folder))
    studies.update_image_info("1.2.840.10", {"note": "kept"})
    (folder / INDEX).write_text("{")
    studies.refresh()
    assert "is damaged" in caplog.text
    assert studies.get_image_info("1.2.840.10")["note"] == "kept"
    assert json.loads((folder / INDEX).read_text()) == studies.json()


def test_an_index_does_not_lead_elsewhere(folder: Path, tmp_path: Path) -> None:
    """Nor does it invent images, or hide them."""
    index = Studies(str(folder)).json()
    index["images_dir"] = index["labels_dir"] = str(tmp_path)
    index["objects"] = {"../../secret": index["objects"]["1.2.840.10"]}
    (folder / INDEX).write_text(json.dumps(index))
    again = restarted(folder)
    assert sorted(again.list_images()) == ["1.2.840.10", "1.2.840.11"]
    assert again.locate("1.2.840.10") == folder / "1.2.840.10.nii.gz"


def test_notes_survive_and_files_that_go_are_gone(folder: Path) -> None:
    studies = Studies(str(folder))
    studies.update_image_info("1.2.840.10", {"note": 1})
    studies.update_label_info("1.2.840.10", "mine", {"note": 2})
    (folder / "1.2.840.11.nrrd").unlink()
    (folder / "labels" / "final" / "1.2.840.10.nii.gz").unlink()
    for store in (studies, restarted(folder)):
        store.refresh()
        assert store.list_images() == ["1.2.840.10"]
        assert store.get_labeled_images() == []
        assert store.get_image_info("1.2.840.10")["note"] == 1
        assert store.get_label_info("1.2.840.10", "mine")["note"] == 2


def test_a_stock_server_that_wrote_meanwhile_is_believed(folder: Path) -> None:
    studies = Studies(str(folder))
    other = stock(folder)
    other.update_image_info("1.2.840.10", {"note": "theirs"})
    os.utime(folder / INDEX, (2e9, 2e9))
    studies.refresh()
    assert studies.get_image_info("1.2.840.10")["note"] == "theirs"


def test_ids_with_dots(folder: Path) -> None:
    studies = Studies(str(folder))
    assert studies._to_id("1.2.840.10.nii.gz") == ("1.2.840.10", ".nii.gz")
    assert studies._to_id("1.2.840.10.nrrd") == ("1.2.840.10", ".nrrd")
    assert studies._to_id("1.2.840.10") == ("1.2.840.10", "")
    write(folder.parent / "1.2.840.12.nrrd")
    assert studies.add_image("", str(folder.parent / "1.2.840.12.nrrd"), {}) == "1.2.840.12"


def test_hidden_files_folders_and_strangers_are_no_images(folder: Path) -> None:
    for name in (".hidden.nii.gz", "notes.txt", ".nii.gz", "scan.dcm", "ct.nii.gz.part"):
        (folder / name).write_bytes(b"x")
    (folder / "folder.nii.gz").mkdir()
    write(folder / "labels" / ".trash" / "1.2.840.10.nii.gz")
    write(folder / "labels" / "final" / "no_image.nii.gz")
    studies = Studies(str(folder))
    assert sorted(studies.list_images()) == ["1.2.840.10", "1.2.840.11"]
    assert set(studies.status()["label_tags"]) == {"final", "mine"}


def test_two_files_of_one_name_are_one_image_always_the_same(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for suffix in (".mha", ".nii", ".nii.gz", ".NRRD"):
        write(folder / f"ct{suffix.lower()}")
        (folder / f"ct{suffix.lower()}").rename(folder / f"ct{suffix}")
    studies = Studies(str(folder))
    assert studies.locate("ct") == folder / "ct.nii.gz"
    assert "3 volumes are hidden by others of the same name" in caplog.text


def test_a_second_server_on_the_studies_is_refused(folder: Path) -> None:
    studies = Studies(str(folder))
    with pytest.raises(StudiesInUse, match="another LesionBrush server already works on the studies folder"):
        PrivateRoot(folder)
    assert Studies(str(folder)).private is studies.private  # MONAI Label made the app anew
