"""The record beside every output."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from core_fixtures import QUICK, ball, make_ct, tiny_model
from lesionbrush.core.provenance import MaskStatistics, Provenance
from lesionbrush.core.synthesize import Synthesis, synthesize
from lesionbrush.errors import StorageFull
from lesionbrush.files.io import write_volume
from lesionbrush.files.records import read_sidecar, sidecar_path, write_sidecar
from lesionbrush.systems import request_of
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest


@pytest.fixture(scope="module")
def synthesis() -> Synthesis:
    reference = make_ct()
    request = SynthesisRequest.model_validate(
        {"steps": 2, "seed": 41, "variants": 2, "attributes": {"margin": 1}}
    )
    return synthesize(reference, ball(reference, (20, 17, 12), 5.0), request, tiny_model())[1]


@pytest.fixture
def provenance(synthesis: Synthesis) -> Provenance:
    return synthesis.provenance


def test_a_sidecar_holds_all_there_was(tmp_path: Path, provenance: Provenance) -> None:
    path = write_sidecar(provenance, tmp_path / "ct.nii.gz")
    assert path == tmp_path / "ct.provenance.json"
    assert read_sidecar(tmp_path / "ct.nii.gz") == provenance
    assert [file.name for file in tmp_path.iterdir()] == ["ct.provenance.json"]


def test_a_sidecar_can_be_read_without_this_package(tmp_path: Path, provenance: Provenance) -> None:
    record = json.loads(write_sidecar(provenance, tmp_path / "ct.nrrd").read_text(encoding="utf-8"))
    assert record["synthetic"] is True
    assert "Not for diagnosis" in record["notice"]
    assert (record["variant"], record["seed"], record["request"]["seed"]) == (1, 42, 41)
    assert record["request"]["attributes"]["margin"] == 1
    assert (
        record["request"]["sampler"] == "dpm_solver_pp_2m"
    )  # what was used, though the request left it open
    assert {"lesionbrush", "python", "torch", "numpy", "monai"} <= set(record["versions"])
    assert set(record["seconds"]) == {"prepare", "sample", "compose"}


def test_the_figures_are_those_of_the_result(synthesis: Synthesis, provenance: Provenance) -> None:
    result = synthesis.volume().array
    mask = ball(synthesis.reference, (20, 17, 12), 5.0).array > 0
    assert provenance.voxels_changed == np.count_nonzero(result != synthesis.reference.array)
    assert provenance.in_mask.voxels == mask.sum()
    assert provenance.in_mask.mean_hu == pytest.approx(result[mask].mean(), abs=0.01)
    assert provenance.in_mask.std_hu == pytest.approx(result[mask].std(), abs=0.01)
    assert provenance.reference_sha256 == synthesis.reference.voxel_sha256
    assert provenance.box_shape == synthesis.box.shape


def test_percentiles_of_a_known_sample() -> None:
    found = MaskStatistics.of(np.arange(-50, 51))
    assert (found.voxels, found.mean_hu, found.p10_hu, found.p90_hu) == (101, 0, -40, 40)
    assert found.std_hu == pytest.approx(np.sqrt((101**2 - 1) / 12), abs=0.01)


def test_the_note_fits_a_nifti_header(tmp_path: Path, synthesis: Synthesis) -> None:
    assert synthesis.provenance.note == "SYNTHETIC LesionBrush 0.1.0 tiny seed 42"
    write_volume(synthesis.volume(), tmp_path / "ct.nii", synthesis.provenance.note)
    descrip = nib.load(tmp_path / "ct.nii").header["descrip"]
    assert bytes(descrip).rstrip(b"\0").decode("ascii") == synthesis.provenance.note


def test_a_long_name_is_cut_to_what_the_header_holds(provenance: Provenance) -> None:
    long = provenance.model_copy(update={"model": "a" * 200, "seed": 2**31 - 1})
    assert len(long.note.encode("ascii")) == 79


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ct.nii.gz", "ct"),
        ("ct.nii", "ct"),
        ("CT.NII.GZ", "CT"),
        ("patient.1.nrrd", "patient.1"),
        ("a.b.mha", "a.b"),
        ("ct", "ct"),
        ("1.2.840.10", "1.2.840.10"),
    ],
)
def test_the_name_of_a_sidecar(name: str, expected: str) -> None:
    assert sidecar_path(Path("folder") / name) == Path("folder") / f"{expected}.provenance.json"


def fail_with(number: int):
    def replace(source: Path, target: Path) -> None:
        raise OSError(number, "no")

    return replace


@pytest.mark.parametrize(
    ("number", "error"), [(errno.ENOSPC, StorageFull), (errno.EDQUOT, StorageFull), (errno.EACCES, OSError)]
)
def test_what_cannot_be_written_leaves_the_old_record_alone(
    tmp_path: Path,
    provenance: Provenance,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    error: type[Exception],
) -> None:
    path = write_sidecar(provenance, tmp_path / "ct.nii")
    monkeypatch.setattr("lesionbrush.files.durable.os.replace", fail_with(number))
    with pytest.raises(error):
        write_sidecar(provenance.model_copy(update={"seed": 7}), tmp_path / "ct.nii")
    assert read_sidecar(tmp_path / "ct.nii") == provenance
    assert list(tmp_path.iterdir()) == [path]


def test_a_request_from_a_sidecar_makes_the_same_voxels_again(tmp_path: Path, synthesis: Synthesis) -> None:
    write_sidecar(synthesis.provenance, tmp_path / "ct.nii")
    record = read_sidecar(tmp_path / "ct.nii")
    mask = ball(synthesis.reference, (20, 17, 12), 5.0)
    again = synthesize(synthesis.reference, mask, request_of(record), tiny_model())[record.variant]
    assert np.array_equal(again.box, synthesis.box)
    assert again.offset == record.box_offset


def test_variants_are_numbered_and_seeds_wrap_inside_their_range() -> None:
    reference = make_ct()
    request = QUICK.model_copy(update={"seed": 2**31 - 1, "variants": 2})
    results = synthesize(reference, ball(reference, (20, 17, 12), 4.0), request, tiny_model())
    assert [(r.provenance.variant, r.provenance.seed) for r in results] == [(0, 2**31 - 1), (1, 0)]
