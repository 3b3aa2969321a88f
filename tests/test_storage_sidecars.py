"""Two volumes of one name and two types keep a record each; core and client agree on the names."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path

import pytest
from lesionbrush.files.records import read_sidecar, sidecar_path, write_sidecar
from LesionBrushLib.client.records import place_for_record, publish
from storage_kit import made_provenance

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")


def written(folder: Path, name: str, seed: int) -> Path:
    (folder / name).write_bytes(b"voxels")
    return write_sidecar(made_provenance(seed), folder / name)


@pytest.mark.parametrize(("first", "second"), list(permutations(SUFFIXES, 2)))
def test_neither_overwrites_the_other(tmp_path: Path, first: str, second: str) -> None:
    assert written(tmp_path, f"ct{first}", 1).name == "ct.provenance.json"
    assert written(tmp_path, f"ct{second}", 2).name == f"ct{second}.provenance.json"
    for round_ in range(2):
        assert read_sidecar(tmp_path / f"ct{first}").seed == 1 + 10 * round_
        assert read_sidecar(tmp_path / f"ct{second}").seed == 2 + 10 * round_
        written(tmp_path, f"ct{second}", 12)
        written(tmp_path, f"ct{first}", 11)


def test_alone_the_name_stays_simple(tmp_path: Path) -> None:
    for name in ("ct.nii.gz", "ct.1.nii.gz", "ct.10.nii.gz", "other.nrrd"):
        written(tmp_path, name, 1)
        written(tmp_path, name, 2)
    found = {path.name for path in tmp_path.glob("*.json")}
    assert found == {f"{stem}.provenance.json" for stem in ("ct", "ct.1", "ct.10", "other")}


@pytest.mark.parametrize("beside", [(), ("ct.nrrd",), ("ct.nii", "ct.mha"), ("other.nii",)])
@pytest.mark.parametrize("suffix", [".nii.gz", ".NII.GZ"])
def test_the_client_names_records_as_the_core_does(
    tmp_path: Path, beside: tuple[str, ...], suffix: str
) -> None:
    for name in beside:
        (tmp_path / name).write_bytes(b"voxels")
    wanted = place_for_record(tmp_path / f"ct{suffix}")
    assert written(tmp_path, f"ct{suffix}", 1) == wanted == sidecar_path(tmp_path / f"ct{suffix}")


def test_what_the_client_writes_is_what_the_core_reads(tmp_path: Path) -> None:
    """The client's records of two types of one name."""
    for number, suffix in enumerate((".nii.gz", ".nrrd"), 1):
        draft = tmp_path / "draft"
        draft.write_bytes(b"voxels")
        record = json.loads(made_provenance(number).model_dump_json())
        publish([draft], [tmp_path / f"ct{suffix}"], [record])
    assert [read_sidecar(tmp_path / f"ct{suffix}").seed for suffix in (".nii.gz", ".nrrd")] == [1, 2]
