"""Exported datasets: what trainers read, the promise on files, and that no patient is named anywhere."""

from __future__ import annotations

import csv
import gzip
import json
import os
import stat
from pathlib import Path

import numpy as np
from cli_kit import Command
from cohort_kit import PATIENT, TWO_NODULES, begin, make_here
from lesionbrush.cli.files import changes_on_disk
from lesionbrush.cohorts.export.contact_sheet import ContactSheet
from lesionbrush.cohorts.export.names import name_all
from lesionbrush.cohorts.folder import CohortFolder
from lesionbrush.core.volume import Volume
from lesionbrush.files.io import read_volume, write_volume
from PIL import Image

pytest_plugins = "cohort_fixtures"


def mapping_of(cohort: CohortFolder, out: Path) -> dict[str, dict[str, str]]:
    with (cohort.path / "exports" / f"{out.name}.mapping.csv").open(encoding="utf-8", newline="") as table:
        return {row["name"]: row for row in csv.DictReader(table)}


def test_nnunet_finds_what_it_asks_for(nnunet: Path) -> None:
    """Its own rules of integrity: files of both kinds for each case, one grid, labels as they are named."""
    about = json.loads((nnunet / "dataset.json").read_text())
    assert about["channel_names"] == {"0": "CT"}
    assert about["labels"] == {"background": 0, "lesion": 1}
    images, labels = (sorted((nnunet / name).iterdir()) for name in ("imagesTr", "labelsTr"))
    names = [path.name.removesuffix(about["file_ending"]) for path in labels]
    assert [path.name for path in images] == [f"{name}_0000{about['file_ending']}" for name in names]
    assert about["numTraining"] == len(names) == 6
    assert len(list((nnunet / "imagesTs").iterdir())) == len(list((nnunet / "labelsTs").iterdir())) == 2
    for image, label in zip(images, labels, strict=True):
        ct, mask = read_volume(image), read_volume(label)
        ct.require_same_grid(mask)
        assert mask.array.dtype == np.uint8
        assert set(np.unique(mask.array)) == ({0} if "healthy" in label.name else {0, 1})
    (fold,) = json.loads((nnunet / "splits_final.json").read_text())
    assert sorted(fold["train"] + fold["val"]) == names
    assert len(fold["val"]) == 2


def test_no_patient_is_in_two_splits(cohort: CohortFolder, nnunet: Path) -> None:
    patients = {name: row["patient"] for name, row in mapping_of(cohort, nnunet).items()}
    (fold,) = json.loads((nnunet / "splits_final.json").read_text())
    test = [path.name.removesuffix(".nii.gz") for path in (nnunet / "labelsTs").iterdir()]
    sides = [{patients[name] for name in names} for names in (fold["train"], fold["val"], test)]
    assert sum(len(side) for side in sides) == len(set().union(*sides)) == 4


def test_exported_cts_are_the_references_outside_the_edit_region(cohort: CohortFolder, nnunet: Path) -> None:
    reach = {record.id: record.lesions[0].reach_mm for record in cohort.records()}
    seen = 0
    for name, row in mapping_of(cohort, nnunet).items():
        if name.endswith("healthy"):
            continue
        (image,) = nnunet.glob(f"images*/{name}_0000.nii.gz")
        (label,) = nnunet.glob(f"labels*/{name}.nii.gz")
        for made in (image, image.with_name(f"{name}_healthy_0000.nii.gz")):
            changes = changes_on_disk(Path(row["path"]), label, made, reach[row["case"]])
            assert changes.outside == 0
            assert changes.inside > 0
            seen += 1
        assert read_volume(image).array.dtype == read_volume(Path(row["path"])).array.dtype
    assert seen == 8


def contents(out: Path) -> bytes:
    """Of every file and name, unpacked."""
    found = b""
    for path in sorted(out.rglob("*")):
        found += str(path.relative_to(out)).encode() + b"\n"
        if path.is_file():
            packed = path.read_bytes()
            found += gzip.decompress(packed) if path.suffix == ".gz" else packed
    return found


def test_nothing_names_a_patient_or_a_path(cohort: CohortFolder, nnunet: Path) -> None:
    everything = contents(nnunet)
    assert PATIENT.encode() not in everything
    assert str(cohort.path.parent).encode() not in everything
    assert b"SYNTHETIC" in everything
    mapping = cohort.path / "exports" / "Dataset501_Tiny.mapping.csv"
    if os.name != "nt":
        assert stat.S_IMODE(mapping.stat().st_mode) == 0o600
    assert PATIENT in mapping.read_text()


def test_the_table_and_the_card(cohort: CohortFolder, nnunet: Path) -> None:
    with (nnunet / "truth.csv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == 4 * 3
    for row in rows:
        (label,) = nnunet.glob(f"labels*/{row['name']}.nii.gz")
        mask = read_volume(label)
        if row["healthy"] == "1":
            assert row["voxels"] == ""
            continue
        assert row["asked_mean_hu"] == "-50.0" or row["asked_mean_hu"] == "-50"
        voxels = sum(int(r["voxels"]) for r in rows if r["name"] == row["name"] and r["voxels"])
        assert voxels == np.count_nonzero(mask.array)
    card = (nnunet / "README.md").read_text(encoding="utf-8")
    for words in (
        "8 images: 2 test, 4 train, 2 val",
        "8 synthetic lesions",
        "CC BY 4.0",
        "| tiny |",
        "Not for",
    ):
        assert words in card
    with Image.open(nnunet / "contact_sheet.png") as picture:
        assert picture.width > 4 * 200
    assert len(list((nnunet / "provenance").iterdir())) == 8


def test_the_worst_cases_come_first(cohort: CohortFolder) -> None:
    cases = name_all(cohort, list(cohort.records()))
    chosen = ContactSheet.of(cases, shown=3).chosen
    worst = [case.record.worst for case in chosen]
    assert worst == sorted((record.worst for record in cohort.records()), reverse=True)[:3]
    assert not any(case.healthy for case in chosen)


def test_msd_and_monai_as_boxes(command: Command, cohort: CohortFolder, tmp_path: Path) -> None:
    for form in ("msd", "monai"):
        out = tmp_path / form
        done = command("cohort", "export", cohort.path, "--format", form, "-o", out, "--boxes",
                       "--mapping", tmp_path / f"{form}.csv")  # fmt: skip
        assert done.code == 0, done
    again = command("cohort", "export", cohort.path, "--format", "msd", "-o", tmp_path / "other", "--mapping",
                    tmp_path / "msd.csv")  # fmt: skip
    assert again.code == 2
    assert "msd.csv is there already, of another export: name a new file with --mapping" in again.err
    within = command("cohort", "export", cohort.path, "--format", "msd", "-o", cohort.path / "cases" / "x")
    assert within.code == 2
    assert "that is where the cohort keeps its cases" in within.err
    msd = json.loads((tmp_path / "msd" / "dataset.json").read_text())
    assert (msd["numTraining"], msd["numTest"], msd["tensorImageSize"]) == (6, 2, "3D")
    pairs = [(pair["image"], pair["label"]) for pair in msd["training"]]
    monai = json.loads((tmp_path / "monai" / "datalist.json").read_text())
    assert [len(monai[key]) for key in ("training", "validation", "testing")] == [4, 2, 2]
    shapes = {record.shape for record in cohort.records()}
    for out, image, label in [
        *(("msd", *pair) for pair in pairs),
        *(("monai", pair["image"], pair["label"]) for pair in monai["training"]),
    ]:
        ct, mask = read_volume(tmp_path / out / image), read_volume(tmp_path / out / label)
        ct.require_same_grid(mask)
        assert ct.shape in shapes


def test_untouched_twins_and_cases_without_lesions(
    command: Command, cohort: CohortFolder, tmp_path: Path
) -> None:
    base = cohort.path.parent
    rules = [{**TWO_NODULES[0], "number": {"choice": [0, 1]}}]
    folder = begin(base, tmp_path / "cohort", healthy_twins="untouched", findings=rules)
    make_here(folder)
    out = tmp_path / "out"
    assert command("cohort", "export", folder.path, "--format", "monai", "-o", out).code == 0
    rows = mapping_of(folder, out)
    twins = [name for name in rows if name.endswith("healthy")]
    lesions = [record for record in folder.records() if record.lesions]
    assert 0 < len(twins) == len(lesions) < len(folder.cases)
    for name in twins:
        twin = read_volume(out / "images" / f"{name}.nii.gz")
        assert np.array_equal(twin.array, read_volume(Path(rows[name]["path"])).array)
        assert twin.note == ""
    empty = [name for name in rows if not read_volume(out / "labels" / f"{name}.nii.gz").array.any()]
    assert len(empty) == len(twins) + len(folder.cases) - len(lesions)


def test_what_is_not_exported(command: Command, cohort: CohortFolder, tmp_path: Path, nnunet: Path) -> None:
    def said(*more: object, of: Path = cohort.path) -> str:
        done = command("cohort", "export", of, *more)
        assert done.code == 2, done
        return done.err

    out = tmp_path / "Dataset1_x"
    assert "call it DatasetNNN_Name" in said("--format", "nnunet", "-o", out)
    assert "exists already" in said("--format", "nnunet", "-o", nnunet)
    assert "is no cohort" in said("--format", "msd", "-o", out, of=tmp_path)
    reference = cohort.references[0].path
    before = reference.read_bytes()
    ct = read_volume(reference)
    write_volume(Volume(ct.array + 1, ct.affine), reference)
    assert "has changed since its cases were made" in said("--format", "msd", "-o", out)
    reference.write_bytes(before)
    box = cohort.folder_of(cohort.cases[0].id) / "box.nii.gz"
    whole = box.read_bytes()
    box.write_bytes(whole[:-4])
    assert "the cohort is not whole" in said("--format", "msd", "-o", out)
    box.write_bytes(whole)
    empty = begin(cohort.path.parent, tmp_path / "empty", seed=99)
    assert "has no case yet" in said("--format", "msd", "-o", out, of=empty.path)
    assert not out.exists()
