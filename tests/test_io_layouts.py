"""A label volume and its names: written together, found in the file, beside it, or as they were sent."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from lesionbrush.core.inputs import Input, Layout
from lesionbrush.core.volume import Volume
from lesionbrush.errors import DamagedFile, InvalidRequest
from lesionbrush.files.inputs import read_inputs
from lesionbrush.files.layouts import read_layout, write_layout
from volume_fixtures import OBLIQUE, affine_of

NAMES = {1: "liver", 5: "Röhre"}
SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".seg.nrrd", ".mha")
BODY = Input("body", "layout", "a body")


def layout(highest: int = 5, names: dict[int, str] | None = None) -> Layout:
    labels = np.zeros((6, 5, 4), np.int32)
    labels[1:3], labels[4, 2] = 1, highest
    known = names or {1: "liver", highest: "Röhre"}
    return Layout(Volume(labels, affine_of(OBLIQUE, (0.7, 0.9, 1.25))), known)


class TestWritten:
    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize(("highest", "dtype"), [(5, "u1"), (255, "u1"), (256, "u2"), (40_000, "u2")])
    def test_reads_back(self, tmp_path: Path, suffix: str, highest: int, dtype: str) -> None:
        table = write_layout(layout(highest), tmp_path / f"body{suffix}")
        assert table == tmp_path / "body.json"
        found = read_inputs({"body": tmp_path / f"body{suffix}"}, [BODY]).layout("body")
        assert found is not None
        assert found.labels.array.dtype == np.dtype(dtype)
        assert np.array_equal(found.labels.array, layout(highest).labels.array)
        assert found.names == {1: "liver", highest: "Röhre"}
        assert sorted(path.name for path in tmp_path.iterdir()) == ["body.json", f"body{suffix}"]

    @pytest.mark.parametrize("suffix", [".nrrd", ".seg.nrrd"])
    def test_an_nrrd_needs_no_table(self, tmp_path: Path, suffix: str) -> None:
        write_layout(layout(), tmp_path / f"body{suffix}").unlink()
        assert read_layout(tmp_path / f"body{suffix}").names == NAMES

    def test_an_nrrd_has_the_keys_of_a_segmentation(self, tmp_path: Path) -> None:
        """As 3D Slicer looks for them: segments are counted by their ID, from 0 on."""
        write_layout(layout(names={0: "air", **NAMES}), tmp_path / "body.seg.nrrd")
        image = sitk.ReadImage(str(tmp_path / "body.seg.nrrd"))
        said = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
        assert said["Segmentation_MasterRepresentation"] == "Binary labelmap"
        segments = [[said[f"Segment{k}_{key}"] for key in ("ID", "Name", "LabelValue")] for k in range(2)]
        assert segments == [["Segment_1", "liver", "1"], ["Segment_5", "Röhre", "5"]]
        assert said["Segment1_Layer"] == "0"
        assert said["Segment0_Extent"] == "0 5 0 4 0 3"
        colours = {said[f"Segment{k}_Color"] for k in range(2)}
        assert len(colours) == 2
        assert all(0 <= float(part) <= 1 for colour in colours for part in colour.split())
        assert "Segment2_ID" not in said

    def test_replaces_table_and_volume(self, tmp_path: Path) -> None:
        write_layout(layout(), tmp_path / "body.nii.gz")
        write_layout(layout(names={1: "spleen", 5: "aorta"}), tmp_path / "body.nii.gz")
        assert read_layout(tmp_path / "body.nii.gz").names == {1: "spleen", 5: "aorta"}

    @pytest.mark.parametrize("step", ["fsync", "replace"])
    def test_a_failing_step_leaves_what_was_there(self, tmp_path: Path, monkeypatch, step: str) -> None:
        for name in ("body.nii.gz", "body.json"):
            (tmp_path / name).write_bytes(b"old")

        def fail(*_: object) -> None:
            raise OSError(errno.EIO, "broken disk")

        monkeypatch.setattr(os, step, fail)
        with pytest.raises(OSError, match="broken disk"):
            write_layout(layout(), tmp_path / "body.nii.gz")
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
            "body.nii.gz": b"old",
            "body.json": b"old",
        }

    @pytest.mark.parametrize(
        ("wrong", "name", "said"),
        [
            (layout(70_000), "body.nii", "labels from 0 to 70000"),
            (layout(-3), "body.nii", "labels from -3 to 1"),
            (layout(names={1: "liver"}), "body.nii", "5 have no name"),
            (layout(), "body.nhdr", "pair of files"),
            (layout(), "body.txt", "unknown file type"),
        ],
        ids=["too large", "negative", "nameless", "pair", "type"],
    )
    def test_refused(self, tmp_path: Path, wrong: Layout, name: str, said: str) -> None:
        with pytest.raises(InvalidRequest, match=said):
            write_layout(wrong, tmp_path / name)
        assert list(tmp_path.iterdir()) == []


class TestNames:
    @pytest.fixture
    def bare(self, tmp_path: Path) -> Path:
        """A label volume that says nothing."""
        path = tmp_path / "body.nii.gz"
        nib.Nifti1Image(layout().labels.array.astype(np.uint8), np.eye(4)).to_filename(path)
        return path

    @pytest.mark.parametrize("table", ["body.json", "body_labels.json"])
    @pytest.mark.parametrize("text", [{"1": "liver", "5": "Röhre"}, {"liver": 1, "Röhre": 5}], ids=["1", "a"])
    def test_are_found_beside_the_file(self, bare: Path, table: str, text: dict[str, object]) -> None:
        bare.with_name(table).write_text(json.dumps(text), encoding="utf-8")
        assert read_layout(bare).names == NAMES

    def test_that_are_sent_count_alone(self, bare: Path, tmp_path: Path) -> None:
        bare.with_name("body.json").write_text("no table at all")
        (tmp_path / "other.json").write_text('{"1": "spleen"}')
        for sent in ('{"1": "spleen"}', tmp_path / "other.json"):
            found = read_inputs({"body": bare, "body_names": sent}, [BODY]).layout("body")
            assert found is not None
            assert found.names == {1: "spleen"}

    def test_of_a_real_body(self, data_dir: Path) -> None:
        path = data_dir / "example_body" / "totalsegmentator_v1.nii.gz"
        found = read_layout(path)
        assert found.names[40] == "liver"
        found.require_named()

    def test_that_are_nowhere(self, bare: Path) -> None:
        bare.with_name("other.json").write_text('{"1": "liver"}')
        with pytest.raises(InvalidRequest, match=r"body\.nii\.gz does not say what its labels mean"):
            read_layout(bare)

    def test_that_are_no_table(self, bare: Path) -> None:
        bare.with_name("body.json").write_text('{"Modality": "CT"}')
        with pytest.raises(InvalidRequest, match=r"body\.json, beside body\.nii\.gz: the names of labels"):
            read_layout(bare)

    def test_that_are_no_text(self, bare: Path) -> None:
        bare.with_name("body.json").write_bytes(b"\xff\xfe")
        with pytest.raises(DamagedFile, match=r"body\.json cannot be read"):
            read_layout(bare)

    def test_that_differ(self, tmp_path: Path) -> None:
        table = write_layout(layout(), tmp_path / "body.seg.nrrd")
        table.write_text('{"1": "spleen"}')
        with pytest.raises(InvalidRequest, match=r"'liver' in body\.seg\.nrrd, and 'spleen' in body\.json"):
            read_layout(tmp_path / "body.seg.nrrd")

    def test_of_two_tables_that_differ(self, bare: Path) -> None:
        bare.with_name("body.json").write_text('{"1": "liver"}')
        bare.with_name("body_labels.json").write_text('{"1": "spleen"}')
        with pytest.raises(InvalidRequest, match=r"'liver' in body\.json, and 'spleen' in body_labels"):
            read_layout(bare)

    @pytest.mark.parametrize("voxels", [(-1000, 40), range(300)], ids=["air", "many values"])
    def test_a_ct_is_no_layout(self, tmp_path: Path, voxels: Sequence[int]) -> None:
        array = np.array(voxels, np.int16).reshape(-1, 2, 1)
        nib.Nifti1Image(array, np.eye(4)).to_filename(tmp_path / "ct.nii")
        with pytest.raises(InvalidRequest, match=r"ct\.nii looks like a CT: it holds values from (-1000|0) "):
            read_layout(tmp_path / "ct.nii", '{"1": "liver"}')

    @pytest.mark.parametrize("dtype", [np.int16, np.float32])
    def test_many_and_high_numbers_are_labels(self, tmp_path: Path, dtype: type) -> None:
        """As of FreeSurfer's parcels; a CT that counts from 0 has as many, and no neighbours alike."""
        numbers = np.arange(1000, 1400).reshape(20, 20, 1)
        parcels = np.kron(numbers, np.ones((6, 6, 4))).astype(dtype)
        nib.Nifti1Image(parcels, np.eye(4)).to_filename(tmp_path / "parcels.nii")
        found = read_layout(tmp_path / "parcels.nii", '{"1006": "liver"}')
        assert found.labels.array.dtype.kind == "i"
        assert np.array_equal(found.labels.array, parcels)

    def test_a_real_ct_without_negative_values_is_no_layout(self, data_dir: Path, tmp_path: Path) -> None:
        ct = nib.load(data_dir / "example_body" / "ct.nii.gz")
        raw = np.asarray(ct.dataobj).astype(np.int16) + 1024
        nib.Nifti1Image(raw, ct.affine).to_filename(tmp_path / "ct.nii")
        with pytest.raises(InvalidRequest, match="looks like a CT"):
            read_layout(tmp_path / "ct.nii", '{"1": "liver"}')

    def test_a_label_below_0_is_named(self, tmp_path: Path) -> None:
        labels = np.full((6, 6, 3), -1, np.int16)
        labels[2:5, 2:5] = 6
        nib.Nifti1Image(labels, np.eye(4)).to_filename(tmp_path / "a.nii")
        with pytest.raises(InvalidRequest, match=r"a\.nii holds the label -1; labels are 1 and above"):
            read_layout(tmp_path / "a.nii", '{"6": "liver"}')

    def test_a_table_that_is_not_there_is_named(self, bare: Path) -> None:
        with pytest.raises(DamagedFile, match=r"nowhere\.json: there is no such file"):
            read_layout(bare, bare.with_name("nowhere.json"))

    def test_fractions_are_no_labels(self, tmp_path: Path) -> None:
        nib.Nifti1Image(np.full((3, 3, 3), 0.5, np.float32), np.eye(4)).to_filename(tmp_path / "a.nii")
        with pytest.raises(InvalidRequest, match="labels are whole numbers"):
            read_layout(tmp_path / "a.nii", '{"1": "liver"}')
