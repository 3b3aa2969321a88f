"""Exported datasets by the rules of those who read them: DICOM, BIDS, and nnU-Net's check of integrity."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from cli_kit import Command
from cohort_kit import NAMES, PATIENT, begin, make_here, organ_labels
from lesionbrush.cohorts.export.dicom import write_dicom
from lesionbrush.cohorts.export.names import ExportedCase
from lesionbrush.cohorts.folder import CohortFolder
from lesionbrush.core.inputs import Layout
from lesionbrush.core.provenance import MARK_GENERATED
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.dicom_export.series import copy_series
from lesionbrush.files.io import read_volume, write_volume
from lesionbrush.files.layouts import write_layout
from server_kit import make_ct, make_mask
from test_cohort_export import contents, mapping_of

pytest_plugins = "cohort_fixtures"
SYNTHETIC_DATA = (0x0008, 0x001C)


def export(command: Command, folder: CohortFolder, out: Path, form: str, *more: object) -> Path:
    done = command("cohort", "export", folder.path, "--format", form, "-o", out, *more)
    assert done.code == 0, done
    return out


# --- DICOM ---


def slices_of(folder: Path) -> list[pydicom.FileDataset]:
    """Along the normal of the slices."""
    found = [pydicom.dcmread(path) for path in folder.glob("*.dcm")]
    row, column = np.reshape(found[0].ImageOrientationPatient, (2, 3)).astype(float)
    return sorted(found, key=lambda one: float(np.cross(row, column) @ one.ImagePositionPatient))


def geometry_of(slices: list[pydicom.FileDataset]) -> np.ndarray:
    """4 x 4, (column, row, slice) to RAS mm, from the tags alone."""
    first, second = slices[:2]
    row, column = np.reshape(first.ImageOrientationPatient, (2, 3)).astype(float)
    along_rows, along_columns = map(float, first.PixelSpacing)
    step = np.subtract(second.ImagePositionPatient, first.ImagePositionPatient).astype(float)
    lps = np.eye(4)
    lps[:3] = np.stack([row * along_columns, column * along_rows, step, first.ImagePositionPatient], axis=1)
    return np.diag((-1.0, -1, 1, 1)) @ lps


def hu_of(slices: list[pydicom.FileDataset]) -> np.ndarray:
    planes = [one.pixel_array.T * int(one.RescaleSlope) + int(one.RescaleIntercept) for one in slices]
    return np.stack(planes, axis=-1)


def mask_of(seg: pydicom.FileDataset, slices: list[pydicom.FileDataset]) -> np.ndarray:
    """Each frame in the slice whose place it names."""
    mask = np.zeros((slices[0].Columns, slices[0].Rows, len(slices)), np.uint8)
    places = np.array([one.ImagePositionPatient for one in slices], float)
    frames = np.reshape(seg.pixel_array, (-1, seg.Rows, seg.Columns))
    for frame, told in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        place = np.array(told.PlanePositionSequence[0].ImagePositionPatient, float)
        mask[:, :, np.linalg.norm(places - place, axis=1).argmin()] = frame.T
    return mask


@pytest.fixture(scope="module")
def dicom(cohort: CohortFolder) -> Path:
    from lesionbrush.cli.__main__ import main

    out = cohort.path.parent / "dicom"
    assert main(["cohort", "export", str(cohort.path), "--format", "dicom", "-o", str(out)]) == 0
    return out


def test_dicom_has_the_voxels_the_places_and_the_masks(
    cohort: CohortFolder, nnunet: Path, dicom: Path
) -> None:
    names = sorted(mapping_of(cohort, dicom))
    assert sorted(path.parent.name for path in dicom.glob("*/ct")) == names
    for name in names:
        (image,), (label,) = nnunet.glob(f"images*/{name}_0000.nii.gz"), nnunet.glob(f"labels*/{name}.nii.gz")
        ct, slices = read_volume(image), slices_of(dicom / name / "ct")
        assert np.array_equal(hu_of(slices), ct.array)
        assert np.allclose(geometry_of(slices), ct.affine, atol=1e-4)
        segs = list((dicom / name / "seg").glob("*.dcm"))
        assert len(segs) == (0 if name.endswith("healthy") else 1)
        for seg in map(pydicom.dcmread, segs):
            assert np.array_equal(mask_of(seg, slices), read_volume(label).array)
            assert seg.SegmentSequence[0].SegmentLabel == "lesion"
            assert seg.SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"
            assert "drawn by" in seg.ContentDescription


def test_dicom_says_that_it_is_synthetic_and_not_of_whom(cohort: CohortFolder, dicom: Path) -> None:
    uids: dict[str, set[str]] = {}
    for path in dicom.rglob("*.dcm"):
        image = pydicom.dcmread(path)
        name = path.parts[-3]
        assert image.PatientID == name
        assert image[SYNTHETIC_DATA].value == "YES"
        assert image.PatientIdentityRemoved == "YES"
        assert "SYNTHETIC" in image.SeriesDescription
        uids.setdefault(name, set()).add(image.StudyInstanceUID)
    assert len(set.union(*uids.values())) == len(uids) == 8
    everything = contents(dicom)
    assert PATIENT.encode() not in everything
    assert str(cohort.path.parent).encode() not in everything


def test_of_a_hospitals_series_nothing_is_left_but_hu(
    command: Command, cohort: CohortFolder, tmp_path: Path
) -> None:
    """A case with a lesion, and its untouched twin: a patient's own CT, which is not to be marked."""
    series = copy_series(make_ct())
    for header in series.headers:
        header.PatientName, header.PatientID = f"{PATIENT}^Jo", "MRN-4711"
    (tmp_path / "cts" / f"{PATIENT}_9").mkdir(parents=True)
    series.write(tmp_path / "cts" / f"{PATIENT}_9")
    write_layout(Layout(organ_labels(series.volume), NAMES), tmp_path / "cts" / f"{PATIENT}_9_organs.nii.gz")
    folder = begin(
        tmp_path, tmp_path / "cohort", healthy_twins="untouched", cases={"total": 1},
        references=[{"folder": "cts", "files": "*_9", "labels": "{name}_organs.nii.gz"}],
    )  # fmt: skip
    make_here(folder)
    out = export(command, folder, tmp_path / "out", "dicom", "--boxes")
    everything = contents(out)
    for known in (PATIENT, "MRN-4711", series.study_uid, series.series_uid, series.headers[0].SOPInstanceUID):
        assert str(known).encode() not in everything
    (record,) = folder.records()
    twin = slices_of(out / "case_0001_healthy" / "ct")
    assert np.array_equal(hu_of(twin), series.volume.array[record.box])
    assert SYNTHETIC_DATA not in twin[0]
    assert "SYNTHETIC" not in str(twin[0])
    assert read_volume(out / "case_0001_healthy" / "ct").note == ""
    assert read_volume(out / "case_0001" / "ct").note
    assert not (out / "case_0001_healthy" / "seg").exists()


def test_a_copy_of_what_was_synthetic_before_says_so(tmp_path: Path) -> None:
    copy_series(make_ct(), MARK_GENERATED).write(tmp_path)
    assert read_volume(tmp_path).note.startswith(MARK_GENERATED)


def test_a_real_lesion_gets_no_seg_that_calls_it_synthetic(cohort: CohortFolder, tmp_path: Path) -> None:
    record = next(iter(cohort.records())).model_copy(update={"provenance": None})
    with pytest.raises(InvalidRequest, match="case_0001 has a real lesion"):
        write_dicom(ExportedCase("case_0001", record), make_ct(), make_mask(), "", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- BIDS ---

KNOWN = re.compile(
    r"dataset_description\.json|participants\.(tsv|json)|README\.md|\.bidsignore|derivatives|sub-.*"
)
SUBJECT = re.compile(r"sub-[a-zA-Z0-9]+")
CT_NAME = re.compile(r"(sub-[a-zA-Z0-9]+)/ct/\1_ct")
MASK_NAME = re.compile(r"(sub-[a-zA-Z0-9]+)/ct/\1_label-[a-zA-Z0-9]+_mask")


def bids_problems(root: Path) -> Iterator[str]:
    """What BIDS would not take: names, required fields, tables, sidecars, and masks of no image."""
    yield from _description_problems(root, ("Name", "BIDSVersion"))
    with (root / "participants.tsv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table, delimiter="\t"))
    told = [row["participant_id"] for row in rows]
    yield from (f"{one} is no subject" for one in told if not SUBJECT.fullmatch(one))
    yield from ("participants.tsv has empty cells" for row in rows if not all(row.values()))
    if sorted(told) != sorted(path.name for path in root.glob("sub-*")):
        yield "participants.tsv and folders differ"
    yield from _name_problems(root, CT_NAME)
    ignored = (root / ".bidsignore").read_text().split()
    strange = [path.name for path in root.iterdir() if not KNOWN.fullmatch(path.name)]
    yield from (f"{name} is not of BIDS, and not ignored" for name in strange if name not in ignored)
    for derivative in (root / "derivatives").iterdir():
        yield from _description_problems(derivative, ("Name", "BIDSVersion", "DatasetType", "GeneratedBy"))
        yield from _name_problems(derivative, MASK_NAME)
        yield from _source_problems(derivative)


def _description_problems(root: Path, fields: tuple[str, ...]) -> Iterator[str]:
    about = json.loads((root / "dataset_description.json").read_text(encoding="utf-8"))
    yield from (f"{root.name}: {field} is missing" for field in fields if not about.get(field))


def _name_problems(root: Path, known: re.Pattern[str]) -> Iterator[str]:
    for path in sorted(root.glob("sub-*/*/*")):
        stem, ending = path.relative_to(root).as_posix().split(".", 1)
        if not known.fullmatch(stem):
            yield f"{path.name} is no name of BIDS"
        if ending == "nii.gz" and not path.with_name(f"{path.name[:-7]}.json").is_file():
            yield f"{path.name} has no sidecar"


def _source_problems(derivative: Path) -> Iterator[str]:
    links = json.loads((derivative / "dataset_description.json").read_text())["DatasetLinks"]
    for sidecar in derivative.glob("sub-*/*/*.json"):
        about = json.loads(sidecar.read_text())
        if about["Type"] != "Lesion":
            yield f"{sidecar.name}: {about['Type']} is no type of masks"
        for source in about["Sources"]:
            _, link, path = source.split(":", 2)
            image = derivative / links[link] / path
            mask = nibabel.load(sidecar.with_name(sidecar.name.replace(".json", ".nii.gz")))
            if not image.is_file():
                yield f"{sidecar.name}: there is no {source}"
            elif not np.allclose(nibabel.load(image).affine, mask.affine):
                yield f"{sidecar.name} lies elsewhere than its image"


@pytest.fixture
def bids(command: Command, cohort: CohortFolder, tmp_path: Path) -> Path:
    return export(command, cohort, tmp_path / "bids", "bids", "--boxes", "--mapping", tmp_path / "names.csv")


def test_bids_is_what_bids_asks_for(cohort: CohortFolder, bids: Path) -> None:
    assert list(bids_problems(bids)) == []
    assert len(list(bids.glob("sub-*/ct/*_ct.nii.gz"))) == 8
    everything = contents(bids)
    assert PATIENT.encode() not in everything
    assert str(cohort.path.parent).encode() not in everything
    with (bids / "participants.tsv").open(encoding="utf-8", newline="") as table:
        rows = {row["name"]: row for row in csv.DictReader(table, delimiter="\t")}
    with (bids / "truth.csv").open(encoding="utf-8", newline="") as table:
        truth = list(csv.DictReader(table))
    assert {(row["name"], row["split"], row["healthy"]) for row in truth} == {
        (name, row["split"], row["healthy"]) for name, row in rows.items()
    }
    for name, row in rows.items():
        (mask,) = bids.glob(f"derivatives/*/{row['participant_id']}/ct/*_mask.nii.gz")
        voxels = sum(int(one["voxels"] or 0) for one in truth if one["name"] == name)
        assert np.count_nonzero(np.asarray(nibabel.load(mask).dataobj)) == voxels


def test_a_dataset_that_is_not_bids_is_found(bids: Path) -> None:
    mask = next(bids.glob("derivatives/*/sub-*/ct/*_mask.nii.gz"))
    image = nibabel.load(mask)
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine + 1), mask)
    next(bids.glob("sub-*/ct/*_ct.json")).unlink()
    (bids / "notes.txt").write_text("x")
    (bids / "sub-a_b" / "ct").mkdir(parents=True)
    (bids / "sub-a_b" / "ct" / "sub-a_b_ct.json").write_text("{}")
    said = "; ".join(bids_problems(bids))
    for words in ("has no sidecar", "folders differ", "no name of BIDS", "lies elsewhere", "notes.txt"):
        assert words in said


# --- nnU-Net v2 ---


def nnunet_problems(root: Path) -> Iterator[str]:
    """The rules of nnU-Net's own check, by SimpleITK and nibabel: keys, labels, pairs, grids, values."""
    about = json.loads((root / "dataset.json").read_text(encoding="utf-8"))
    missing = {"labels", "channel_names", "numTraining", "file_ending"} - set(about)
    yield from (f"dataset.json has no {key}" for key in sorted(missing))
    values = sorted(about["labels"].values())
    if values != list(range(len(values))) or about["labels"].get("background") != 0:
        yield f"labels {values} are not consecutive from the background's 0"
    ending = about["file_ending"]
    cases = sorted(path.name.removesuffix(ending) for path in (root / "labelsTr").iterdir())
    if len(cases) != about["numTraining"]:
        yield f"numTraining is {about['numTraining']}, and {len(cases)} labels are there"
    channels = [f"{int(channel):04d}" for channel in about["channel_names"]]
    wanted = sorted(f"{case}_{channel}{ending}" for case in cases for channel in channels)
    if sorted(path.name for path in (root / "imagesTr").iterdir()) != wanted:
        yield "images and labels are no pairs"
        return
    for case in cases:
        for channel in channels:
            pair = (root / "imagesTr" / f"{case}_{channel}{ending}", root / "labelsTr" / f"{case}{ending}")
            yield from (f"{case}: {said}" for said in _pair_problems(*pair, values))


def _pair_problems(image: Path, label: Path, values: list[int]) -> Iterator[str]:
    ct, mask = sitk.ReadImage(str(image)), sitk.ReadImage(str(label))
    for name in ("Size", "Spacing", "Origin", "Direction"):
        if not np.allclose(getattr(ct, f"Get{name}")(), getattr(mask, f"Get{name}")()):
            yield f"{name} of image and label differ"
    if not np.allclose(nibabel.load(image).affine, nibabel.load(label).affine):
        yield "affines differ"
    if not np.isfinite(sitk.GetArrayFromImage(ct)).all():
        yield "it has NaN"
    unknown = set(np.unique(sitk.GetArrayFromImage(mask)).tolist()) - set(values)
    if unknown:
        yield f"labels {sorted(unknown)} have no name"


def test_nnunet_would_take_it(nnunet: Path) -> None:
    assert list(nnunet_problems(nnunet)) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"numTraining": 7}, "numTraining is 7"),
        ({"labels": {"background": 0, "lesion": 2}}, "not consecutive"),
        ({"channel_names": {"0": "CT", "1": "PET"}}, "no pairs"),
        ({"labels": {"background": 0}}, "labels \\[1\\] have no name"),
    ],
)
def test_what_nnunet_would_not_take_is_found(
    nnunet: Path, change: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = json.loads((nnunet / "dataset.json").read_text())
    monkeypatch.setattr(json, "loads", lambda text: {**about, **change})
    assert re.search(said, "; ".join(nnunet_problems(nnunet)))


def test_a_label_on_another_grid_is_found(nnunet: Path, tmp_path: Path) -> None:
    image = next((nnunet / "imagesTr").iterdir())
    label = read_volume(nnunet / "labelsTr" / image.name.replace("_0000", ""))
    moved = tmp_path / "moved.nii.gz"
    write_volume(label.crop((slice(1, None), slice(0, None), slice(0, None))), moved)
    said = "; ".join(_pair_problems(image, moved, [0, 1]))
    for words in ("Size", "Origin", "affines differ"):
        assert words in said
