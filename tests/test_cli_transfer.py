"""`run.py transfer`: what it writes, that it goes on where it stopped, what it refuses before it begins."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from cli_kit import Command, Outcome
from lesionbrush.cli import transfer_work
from lesionbrush.cli.files import changes_on_disk
from lesionbrush.cli.transfer_sheet import window_of
from lesionbrush.cli.transfer_table import TransferRecord
from lesionbrush.core.inputs import Layout
from lesionbrush.core.volume import Volume
from lesionbrush.files.io import read_volume, write_volume
from lesionbrush.files.layouts import write_layout
from lesionbrush.files.records import read_sidecar
from lesionbrush.montage import BONE, LUNG, SOFT
from PIL import Image
from server_kit import MARGIN_MM, make_ct
from transfer_kit import ball, grid, union

pytest_plugins = "cli_fixtures"
FAST = ("--device", "cpu", "--param", "steps=2")
OWN = grid((1.5, 1.5, 3.0), 90.0)
LUNG_AT, LIVER_AT = (-20, 0, 0), (24, 0, 0)


@dataclass(frozen=True)
class Files:
    """A target whose left lung and liver are balls, and a source with a lesion in each, on another grid."""

    ct: Path
    organs: Path
    source: Path
    source_organs: Path

    def command(self, out: Path, *more: object, source: Path | None = None) -> list[object]:
        """With the organs of the source where that is a single mask."""
        single = source is None or source.is_file()
        own = ["--source-organs", self.source_organs] if single else []
        return ["transfer", source or self.source, self.ct, "-o", out, "--organs", self.organs, *own, *more]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("transfer")
    ct = make_ct()
    middle = ct.affine[:3, :3] @ ((np.array(ct.shape) - 1) / 2) + ct.affine[:3, 3]
    on = ct.shape, ct.affine
    lung, liver = (ball(middle + np.array([x, 0, 0]), radius, on) for x, radius in ((-14, 15), (17, 13)))
    labels = Volume((lung.array + 2 * liver.array).astype(np.uint8), ct.affine)
    own_labels = ball(LUNG_AT, 22, OWN).array * 7 + ball(LIVER_AT, 18, OWN).array * 3
    found = Files(*(folder / f"{name}.nii.gz" for name in ("target", "organs", "nodule", "own_organs")))
    write_volume(ct, found.ct)
    write_layout(Layout(labels, {1: "lung_left", 2: "liver"}), found.organs)
    write_volume(ball((-22, 3, 0), 6, OWN), found.source)
    write_layout(Layout(Volume(own_labels, OWN[1]), {7: "Left lung", 3: "Liver"}), found.source_organs)
    return found


@pytest.fixture
def cases(files: Files, tmp_path: Path) -> Path:
    """A folder of two cases, of which the second has two lesions, one of them in the liver."""
    folder = tmp_path / "cases"
    lesions = {"a": ball((-22, 3, 0), 5, OWN), "b": union(ball((-18, 0, 0), 4, OWN), ball(LIVER_AT, 6, OWN))}
    for name, lesion in lesions.items():
        (folder / name).mkdir(parents=True)
        write_volume(lesion, folder / name / "mask.nii.gz")
        for ending in (".nii.gz", ".json"):
            source = files.source_organs.with_name(f"own_organs{ending}")
            (folder / name / f"organs{ending}").write_bytes(source.read_bytes())
    return folder


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "transfer.csv").open(encoding="utf-8", newline="") as table:
        return list(csv.DictReader(table))


def test_a_mask_a_ct_a_table_and_a_picture(command: Command, files: Files, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = command(*files.command(out, "--model", "tiny", "--seed", 5, *FAST))
    assert done.code == 0, done
    assert "1 of 1 lesions carried" in done.out
    case = out / "nodule"
    names = {"mask.nii.gz", "ct.nii.gz", "ct.provenance.json", "transfer.json", "montage.png"}
    assert {path.name for path in case.iterdir()} == names
    mask, organs = read_volume(case / "mask.nii.gz"), read_volume(files.organs)
    read_volume(files.ct).require_same_grid(mask)
    assert set(organs.array[mask.array > 0]) == {1}
    assert changes_on_disk(files.ct, case / "mask.nii.gz", case / "ct.nii.gz", MARGIN_MM).outside == 0
    assert read_sidecar(case / "ct.nii.gz").seed == 5
    (row,) = rows_of(out)
    assert (row["case"], row["organ"], row["into"], row["model"]) == (
        "nodule",
        "Left lung",
        "lung_left",
        "tiny",
    )
    assert float(row["scale"]) == pytest.approx(15 / 22, rel=0.05)
    volume_ml = np.count_nonzero(mask.array) * mask.voxel_volume_mm3 / 1000
    assert float(row["volume_ml"]) == pytest.approx(volume_ml, abs=1e-4)
    with Image.open(case / "montage.png") as picture:
        assert picture.width > 4 * 256  # the source, and two planes of the target, each before and after


def test_the_edit_keeps_within_the_organ(command: Command, files: Files, tmp_path: Path) -> None:
    """The margin of a lesion is that of an edit: what changes is lung."""
    out = tmp_path / "out"
    assert command(*files.command(out, "--model", "tiny", *FAST)).code == 0
    changed = read_volume(out / "nodule" / "ct.nii.gz").array != read_volume(files.ct).array
    assert changed.any()
    assert set(read_volume(files.organs).array[changed]) == {1}


def test_the_model_follows_the_organ(
    command: Command, files: Files, cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer_work, "MODELS", {"lung": "tiny"})
    out = tmp_path / "out"
    done = command(*files.command(out, *FAST, source=cases))
    assert done.code == 0, done
    assert {row["model"] for row in rows_of(out) if row["case"] == "a"} == {"tiny"}
    assert (out / "a" / "ct.nii.gz").exists()
    assert "no one model is known for lesions in liver, lung_left" in done.err
    assert (out / "b" / "mask.nii.gz").exists()
    assert not (out / "b" / "ct.nii.gz").exists()
    assert len(rows_of(out)) == 3


def test_variants_of_a_ct(command: Command, files: Files, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert command(*files.command(out, "--model", "tiny", "--variants", 2, *FAST)).code == 0
    one, two = (read_volume(out / "nodule" / f"ct-{number}.nii.gz").array for number in (1, 2))
    assert not np.array_equal(one, two)


def test_a_seed_gives_the_same_masks_and_another_one_others(
    command: Command, files: Files, tmp_path: Path
) -> None:
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        assert command(*files.command(tmp_path / name, "--masks-only", "--param", f"seed={seed}")).code == 0
    one, again, other = (
        read_volume(tmp_path / name / "nodule" / "mask.nii.gz").array for name in ("one", "again", "other")
    )
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_a_case_does_not_hang_on_the_others(
    command: Command, files: Files, cases: Path, tmp_path: Path
) -> None:
    assert command(*files.command(tmp_path / "all", "--masks-only", source=cases)).code == 0
    assert command(*files.command(tmp_path / "one", "--masks-only", source=cases / "b")).code == 0
    one, other = (read_volume(tmp_path / name / "b" / "mask.nii.gz").array for name in ("all", "one"))
    assert np.array_equal(one, other)


def state(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != "transfer.csv"}


def test_the_same_command_goes_on_and_makes_nothing_twice(
    command: Command, files: Files, cases: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    later = tmp_path / "later"
    (cases / "b").rename(later)
    asked = files.command(out, "--masks-only", source=cases)
    assert command(*asked).code == 0
    assert [row["case"] for row in rows_of(out)] == ["a"]
    first = state(out / "a")
    later.rename(cases / "b")
    done = command(*asked)
    assert done.code == 0
    assert "1 of 2 cases are there already" in done.out
    assert [row["case"] for row in rows_of(out)] == ["a", "b", "b"]
    assert state(out / "a") == first
    before = state(out)
    assert "2 of 2 cases are there already" in command(*asked).out
    assert state(out) == before


@pytest.mark.parametrize("more", [("--seed", 1), ("--margin-mm", 1), ("--no-mirror",), ("--into", "liver")])
def test_what_was_made_otherwise_is_not_overwritten(
    command: Command, files: Files, tmp_path: Path, more: tuple[object, ...]
) -> None:
    out = tmp_path / "out"
    assert command(*files.command(out, "--masks-only")).code == 0
    before = state(tmp_path)
    done = command(*files.command(out, "--masks-only", *more))
    assert done.code == 2
    assert "is not overwritten" in done.one_line
    assert state(tmp_path) == before


def test_one_bad_case_does_not_stop_the_others(
    command: Command, files: Files, cases: Path, tmp_path: Path
) -> None:
    empty = ball((0, 0, 0), 5, OWN)
    write_volume(empty.with_array(0 * empty.array), cases / "a" / "mask.nii.gz")
    out = tmp_path / "out"
    done = command(*files.command(out, "--masks-only", source=cases))
    assert done.code == 1
    assert "a: the mask is empty" in done.err
    assert sorted(path.name for path in out.iterdir()) == ["b", "transfer.csv"]


def test_refused_lesions_are_told_and_kept_in_the_table(
    command: Command, files: Files, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = command(*files.command(out, "--masks-only", "--margin-mm", 20))
    assert done.code == 1
    assert "refused (no_room)" in done.out
    assert [path.name for path in (out / "nodule").iterdir()] == ["transfer.json"]
    (row,) = rows_of(out)
    assert (row["carried"], row["why"], row["scale"]) == ("False", "no_room", "")
    assert "20 mm are asked for" in row["reason"]


def test_lesions_that_are_there_are_kept_clear_of(command: Command, files: Files, tmp_path: Path) -> None:
    organs = read_volume(files.organs)
    there = tmp_path / "there.nii.gz"
    write_volume(organs.with_array((organs.array == 1).astype(np.uint8)), there)
    done = command(*files.command(tmp_path / "out", "--masks-only", "--lesions", there))
    assert done.code == 1
    assert "refused (taken)" in done.out


def test_a_case_that_fails_leaves_nothing(
    command: Command, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(transfer_work, "write_sidecar", full)
    out = tmp_path / "out"
    done = command(*files.command(out, "--model", "tiny", *FAST))
    assert done.code == 2
    assert "the disk is full" in done.one_line
    assert list(out.iterdir()) == []


def test_another_organ_and_a_source_without_organs(command: Command, files: Files, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command("transfer", files.source, files.ct, "-o", out, "--organs", files.organs, "--masks-only",
            "--into", "Liver")  # fmt: skip
    (row,) = rows_of(out)
    assert (row["organ"], row["into"], row["scale"]) == ("", "liver", "1.0")


def add_mask(folder: Path) -> None:
    write_volume(ball((0, 0, 0), 5, OWN), folder / "a" / "mask.nrrd")


def add_empty_case(folder: Path) -> None:
    (folder / "c").mkdir()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (add_mask, "keep the one that counts"),
        (add_empty_case, "c has no mask.nii.gz"),
    ],
)
def test_folders_that_are_no_cases(
    command: Command, files: Files, cases: Path, tmp_path: Path, change: Callable[[Path], None], said: str
) -> None:
    change(cases)
    done = command(*files.command(tmp_path / "out", "--masks-only", source=cases))
    assert done.code == 2
    assert said in done.one_line
    assert not (tmp_path / "out").exists()


@pytest.fixture
def refused(
    command: Command, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Outcome]:
    """Runs it and sees that it begins nothing and leaves nothing."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the work began")

    for name in ("carry_all", "synthesize", "load_model"):
        monkeypatch.setattr(transfer_work, name, never)

    def call(*more: object, **changed: Path) -> str:
        before = state(tmp_path)
        done = command(*files.command(changed.pop("out", tmp_path / "out"), *more, **changed))
        assert done.code == 2, done
        assert state(tmp_path) == before
        return done.one_line

    return call


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--into", "spleen"), "the target has no 'spleen'; it has lung_left, liver"),
        (("--model", "none"), "'none'"),
        (("--model", "tiny", "--masks-only"), "--masks-only makes no CTs"),
        (("--masks-only", "--param", "steps=2", "--variants", 2), "or --param steps, --variants"),
        (("--masks-only", "--param", "seed=1", "--seed", 1), "given twice"),
        (("--model", "tiny", "--param", "output=box"), "leave them out"),
        (("--model", "tiny", "--param", "label=2"), "leave them out"),
        (("--model", "tiny", "--param", "wrong=1"), "unknown parameter"),
        (("--masks-only", "--param", "seed=-1"), "seed -1"),
        (("--masks-only", "--margin-mm", -1), "margin_mm -1"),
        (("--masks-only", "--exophytic", 0.5, 0.2), "exophytic 0.5 to 0.2"),
        (("--masks-only", "--scale", 0, 1), "scale 0"),
        (("--masks-only", "--device", "abacus"), "abacus"),
    ],
)
def test_what_is_said_before_the_work(
    refused: Callable[..., str], more: tuple[object, ...], said: str
) -> None:
    assert said in refused(*more)


def test_more_that_is_said_before_the_work(
    refused: Callable[..., str], files: Files, cases: Path, tmp_path: Path
) -> None:
    assert "no such mask" in refused(source=tmp_path / "missing.nii.gz")
    (tmp_path / "empty").mkdir()
    assert "a case is a folder" in refused("--masks-only", source=tmp_path / "empty")
    assert "belong to a single mask" in refused("--source-ct", files.ct, source=cases)
    taken = tmp_path / "taken"
    (taken / "nodule").mkdir(parents=True)
    assert "is no case of run.py transfer" in refused("--masks-only", out=taken)
    (taken / "nodule" / "transfer.json").write_text("{}")
    assert "is no record of run.py transfer" in refused("--masks-only", out=taken)
    other = tmp_path / "other"
    other.mkdir()
    (other / "transfer.csv").write_text("mine")
    assert "is not overwritten" in refused("--masks-only", out=other)
    assert (other / "transfer.csv").read_text() == "mine"
    assert "is no folder" in refused("--masks-only", out=files.ct / "out")
    (cases / "b" / "organs.nii.gz").unlink()
    assert "b comes without the organs" in refused("--masks-only", source=cases)


def test_organs_that_lie_elsewhere_and_a_mask_without_organs(
    command: Command, files: Files, tmp_path: Path
) -> None:
    asked = ["transfer", files.source, files.ct, "-o", tmp_path / "out", "--masks-only"]
    assert "comes without the organs" in command(*asked, "--organs", files.organs).one_line
    elsewhere = command(*asked, "--organs", files.source_organs, "--into", "liver")
    assert "layout of the organs" in elsewhere.one_line
    own = command(*asked, "--organs", files.organs, "--source-organs", files.organs)
    assert own.code == 2
    assert "does not lie on the grid" in own.one_line
    assert not (tmp_path / "out").exists()


def test_a_record_is_read_as_it_was_written(
    command: Command, files: Files, cases: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert command(*files.command(out, "--masks-only", source=cases)).code == 0
    path = out / "b" / "transfer.json"
    record = TransferRecord.read(path)
    assert [row.lesion for row in record.rows] == [1, 2]
    assert record.rows[0].move is not None
    assert len(record.rows[0].move.centre_mm) == 3
    again = tmp_path / "again.json"
    record.write(again)
    assert json.loads(again.read_text()) == json.loads(path.read_text())
    assert TransferRecord.read(again) == record


@pytest.mark.parametrize(
    ("organ", "window"),
    [
        ("lung_left", LUNG),
        ("Lungs", LUNG),
        ("liver", SOFT),
        (None, SOFT),
        ("vertebrae_L1", BONE),
        ("rib_left_4", BONE),
    ],
)
def test_windows_follow_the_organ(organ: str | None, window: object) -> None:
    assert window_of(organ) is window
