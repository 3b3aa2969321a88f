"""What a specification may say, and what is said of one that is wrong: where, with which value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from jsonschema import Draft7Validator
from lesionbrush.cohorts.casting import cast, split_patients
from lesionbrush.cohorts.checking import check_specification, model_for
from lesionbrush.cohorts.draws import Draw, generator_for, seed_for
from lesionbrush.cohorts.hosts import CohortHost
from lesionbrush.cohorts.reading import parse_specification, read_specification, schema
from lesionbrush.cohorts.references import CohortReference, find_left_out, find_references
from lesionbrush.cohorts.specification import CohortSpecification
from lesionbrush.errors import DamagedFile, InvalidRequest, NotACT

EXAMPLES = Path(__file__).resolve().parents[1] / "docs" / "examples"
PLAIN: dict[str, Any] = {
    "name": "some",
    "references": [{"folder": "cts"}],
    "cases": {"per_reference": 2},
    "findings": [{"diameter_mm": 10}],
    "models": {"lung": {"name": "lung_lesion"}},
}


def spec(**changes: Any) -> CohortSpecification:
    return parse_specification({**PLAIN, **changes}, Path("/base"), "c.yaml")


def lung_model(**parameters: Any) -> dict[str, Any]:
    return {"models": {"lung": {"name": "lung_lesion", "parameters": parameters}}}


def finding(**fields: Any) -> dict[str, Any]:
    return {"findings": [{"diameter_mm": 10, **fields}]}


def test_paths_start_from_the_file() -> None:
    assert spec().references[0].folder == Path("/base/cts")
    assert spec(references=[{"folder": "/cts"}]).references[0].folder == Path("/cts")


def test_what_is_written_is_read_back() -> None:
    said = spec(**finding(shape={"choice": ["round"]}, attributes={"mean_hu": {"normal": [-20, 5]}}))
    text = said.model_dump_json()
    assert '"value"' not in text
    assert parse_specification(json.loads(text), None, "again") == said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seeds": 1}, "seeds: there is no such field (got 1); there are name, description, seed"),
        ({"name": None}, "name: "),
        ({"cases": {}}, "cases: write per_reference, total or crossings, one of them (got {})"),
        ({"cases": {"total": 0}}, "cases.total: Input should be greater than or equal to 1 (got 0)"),
        ({"references": []}, "references: give at least one (got [])"),
        ({"references": [{"folder": "x", "patient": "P"}]}, "references.0.patient: write a group"),
        ({"references": [{"folder": "x", "patient": "("}]}, "references.0.patient: this is no regular"),
        ({"references": [{"file": "x"}]}, "references.0.folder: is missing"),
        ({"findings": [{}]}, "write one of diameter_mm, table, transfer, mask; it has none of them"),
        (finding(table="t.csv"), "it has diameter_mm and table"),
        (finding(number=1.5), "findings.0.number: give whole numbers from 0 to 50 (got 1.5)"),
        (finding(number={"uniform": [1, 99]}), "findings.0.number: give whole"),
        ({"findings": [{"diameter_mm": 500}]}, "findings.0.diameter_mm: 500: give numbers from 2 to 120"),
        ({"findings": [{"diameter_mm": [5, 9]}]}, "a list is no value: write {choice: [...]}"),
        ({"findings": [{"diameter_mm": {"uniform": [9, 5]}}]}, "uniform 9 to 5: the first number"),
        ({"findings": [{"diameter_mm": {"normal": [9, -1]}}]}, "deviation of -1 is below 0"),
        ({"findings": [{"diameter_mm": {"uniform": [5, 9], "choice": [5]}}]}, "it has uniform and choice"),
        (finding(shape="cube"), "findings.0.shape: cube: choose among round, lobulated, spiculated"),
        (finding(shape={"choice": []}), "choice: give at least one value"),
        (finding(shape={"choice": ["round"], "weights": [1, 2]}), "2 weights for 1 values"),
        (finding(shape={"choice": ["round"], "weights": [0]}), "at least one of them above 0"),
        (finding(elongation=9), "findings.0.elongation: 9: give numbers from 1 to 3"),
        (finding(place={"side": "up"}), "findings.0.place.side: up: choose among left, right, any"),
        (finding(place={"surface_mm": [9, 3]}), "findings.0.place.surface_mm: give two distances"),
        (finding(place={"inside": 4}), "findings.0.place.inside: give the name of an organ"),
        (finding(place={"insde": "liver"}), "insde: there is no such field"),
        ({"findings": [{"transfer": {"cases": "x", "limits": {"margin": 1}}}]}, "margin: unknown limit"),
        ({"findings": [{"transfer": {"cases": "x", "limits": {"deform": 1}}}]}, "deform 1: give a number"),
        ({"splits": {"train": 0.5}}, "splits: give shares of 0 or more that are 1 together"),
        ({"splits": {"tst": 1}}, "splits.tst: Input should be 'train', 'val' or 'test' (got 'tst')"),
        ({"healthy_twins": "yes"}, "healthy_twins: Input should be 'none', 'untouched' or 'healed'"),
    ],
)
def test_what_is_wrong_is_said(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        spec(**changes)
    assert str(refused.value).startswith("c.yaml: ")
    assert said in str(refused.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DamagedFile, match="no such file"):
        read_specification(tmp_path / "none.yaml")
    file = tmp_path / "c.yaml"
    file.write_text("name: a\nseed: [1,\n")
    with pytest.raises(InvalidRequest, match=r"c.yaml: line 3"):
        read_specification(file)
    (tmp_path / "c.json").write_text("{")
    with pytest.raises(InvalidRequest, match="or write JSON"):
        read_specification(tmp_path / "c.json")


# --- the models ---


def test_the_examples_are_right(tmp_path: Path) -> None:
    for name in ("cohort_chest.yaml", "cohort_abdomen.json"):
        read_specification(EXAMPLES / name)
    check_specification(read_specification(EXAMPLES / "cohort_chest.yaml"))
    copied = tmp_path / "cohort_abdomen.json"
    for name in ("cohort_abdomen.json", "liver_lesions.csv"):
        (tmp_path / name).write_bytes((EXAMPLES / name).read_bytes())
    (tmp_path / "kidney_tumours").mkdir()
    check_specification(read_specification(copied))


def test_the_schema_is_the_one_in_the_docs_and_fits_the_examples() -> None:
    written = json.loads((EXAMPLES / "cohort.schema.json").read_text(encoding="utf-8"))
    assert written == schema()
    example = json.loads((EXAMPLES / "cohort_abdomen.json").read_text(encoding="utf-8"))
    checks = Draft7Validator({key: value for key, value in schema().items() if key != "$schema"})
    assert list(checks.iter_errors(example)) == []
    assert list(checks.iter_errors({**example, "cases": 5}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"models": {"lung": {"name": "none"}}}, "models.lung.name: no model is called 'none'"),
        ({"models": {"lung": {"name": "mddpm_whole"}}}, "makes whole new CTs"),
        (
            {"models": {"lung": {"name": "lung_lesion", "parameters": {"seed": 1}}}},
            "parameters.seed: the cohort",
        ),
        (
            {"models": {"lung": {"name": "lung_lesion", "parameters": {"steps": -1}}}},
            "parameters.steps: -1 is",
        ),
        ({"models": {"liver": {"name": "lung_lesion"}}}, "no model is named for 'lung'"),
        (finding(attributes={"texture": "hard"}), "findings.0.attributes.texture: 'hard' is not taken"),
        (finding(attributes={"mean_hu": {"uniform": [0, 5000]}}), "attributes.mean_hu: 5000 is not taken"),
        (finding(attributes={"colour": 1}), "unknown parameter"),
        ({"findings": [{"transfer": {"cases": "none"}}]}, "transfer.cases: there is no 'none'"),
        ({"findings": [{"table": "none.csv"}]}, "findings.0.table: none.csv"),
    ],
)
def test_what_a_model_does_not_take_is_said_before_it_runs(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_specification(spec(**changes))
    assert said in str(refused.value)


def test_only_the_field_that_is_wrong_is_named() -> None:
    """What another field's sentence lists as known is not wrong."""
    with pytest.raises(InvalidRequest) as refused:
        check_specification(spec(**finding(attributes={"textur": "solid", "margin": 0.5})))
    assert "findings.0.attributes.textur: 'solid' is not taken" in str(refused.value)
    assert "attributes.margin: 0.5" not in str(refused.value)


def test_values_that_are_taken_together_are_right() -> None:
    """A share of solid tissue is of part-solid lesions alone."""
    check_specification(spec(**finding(attributes={"texture": "part_solid", "solid_share": 0.4})))
    with pytest.raises(InvalidRequest, match="solid_share"):
        check_specification(spec(**finding(attributes={"texture": "solid", "solid_share": 0.4})))


def test_a_model_goes_by_the_organ() -> None:
    names = {key: {"name": key.replace(" ", "_")} for key in ("lung", "kidney", "left kidney")}
    said = spec(models=names)
    for organ, model in (("lung_left", "lung"), ("kidney_right", "kidney"), ("Left kidney", "left_kidney")):
        found = model_for(said, organ)
        assert found is not None
        assert found.name == model
    assert model_for(said, "spleen") is None
    assert model_for(spec(models={"any": {"name": "x"}}), "spleen") is not None


# --- tables ---


def test_rows_of_a_table(tmp_path: Path) -> None:
    def said_of(text: str) -> str:
        (tmp_path / "t.csv").write_text(text)
        asked = parse_specification({**PLAIN, "findings": [{"table": "t.csv"}]}, tmp_path, "c.yaml")
        with pytest.raises(InvalidRequest) as refused:
            check_specification(asked)
        return str(refused.value)

    assert "t.csv has no row" in said_of("diameter_mm\n")
    assert "there is no column 'size'" in said_of("diameter_mm,size\n5,5\n")
    assert "no column diameter_mm" in said_of("shape\nround\n")
    assert "line 3: shape: cube: choose among" in said_of("diameter_mm,shape\n5,round\n6,cube\n")
    assert "line 2: place.surface_mm" in said_of("diameter_mm,surface_from_mm,surface_to_mm\n5,9,3\n")
    assert "more or fewer cells" in said_of("diameter_mm,shape\n5\n")
    assert "line 2: diameter_mm is empty" in said_of("diameter_mm,shape\n,round\n")
    assert "line 2.attributes.texture: 'x' is not taken" in said_of("diameter_mm,attributes.texture\n5,x\n")


# --- draws ---


def test_draws_hang_on_names_alone() -> None:
    draw = Draw(uniform=(1.0, 2.0))
    one, again, other = (draw.draw(generator_for(1, name)) for name in ("a", "a", "b"))
    assert one == again != other
    assert seed_for(1, "a") == seed_for(1, "a") != seed_for(2, "a")
    assert 0 <= seed_for(3, "c") < 2**31


def test_draws_are_as_they_are_said_to_be() -> None:
    generator = np.random.default_rng(0)

    def many(draw: Draw) -> np.ndarray:
        return np.array([draw.draw(generator) for _ in range(4000)])

    whole = many(Draw(uniform=(1, 3)))
    assert set(whole) == {1, 2, 3}
    assert all(abs(np.mean(whole == n) - 1 / 3) < 0.05 for n in (1, 2, 3))
    assert abs(many(Draw(normal=(10.0, 2.0))).std() - 2) < 0.1
    held = many(Draw(normal=(10.0, 2.0), within=(9.0, 20.0)))
    assert held.min() == 9
    assert abs(np.mean(many(Draw(choice=("a", "b"), weights=(3.0, 1.0))) == "a") - 0.75) < 0.05
    assert set(many(Draw(value=4))) == {4}


# --- references, cases, splits ---


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b", "a"):
        for ending in ("_ct", "_organs", "_old"):
            (tmp_path / f"{name}{ending}.nii.gz").touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".hidden.nii.gz").touch()
    (tmp_path / "P1" / "scan").mkdir(parents=True)
    (tmp_path / "P1" / "scan" / "1").write_bytes(bytes(128) + b"DICM")
    return tmp_path


def references(folder: Path, **rule: Any) -> list[CohortReference]:
    return find_references(spec(references=[{"folder": str(folder), **rule}]).references)


def test_files_of_a_folder(folder: Path) -> None:
    found = references(folder, files="*_ct.nii.gz", labels="{name}_organs.nii.gz")
    assert [one.name for one in found] == ["a_ct", "b_ct"]
    assert found[0].labels == folder / "a_ct_organs.nii.gz"
    assert [one.patient for one in references(folder, files="*_ct*", patient="^(.)_")] == ["a", "b"]
    assert len(references(folder)) == 6
    (one,) = references(folder / "a_ct.nii.gz")
    assert one.name == "a_ct"


def test_files_beside_a_ct_are_no_cts(tmp_path: Path) -> None:
    for name in ("a", "a_lungs", "a_old"):
        (tmp_path / f"{name}.nii.gz").touch()
    found = references(tmp_path, labels="{name}_lungs.nii.gz", lesions="{name}_old.nii.gz")
    assert [one.name for one in found] == ["a"]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16])
def test_label_maps_are_no_cts(tmp_path: Path, dtype: type) -> None:
    """By the type of their pixels, or in few bytes by what they are."""
    labels = np.zeros((64, 64, 16), dtype)
    labels[20:40, 20:40] = 3
    nib.Nifti1Image(labels, np.eye(4)).to_filename(tmp_path / "ct_lungs.nii.gz")
    hu = np.random.default_rng(0).normal(-200, 60, labels.shape).astype(np.int16)
    nib.Nifti1Image(hu, np.eye(4)).to_filename(tmp_path / "ct.nii.gz")
    shifted = nib.Nifti1Image((hu + 1024).astype(np.uint16), np.eye(4))
    shifted.header.set_slope_inter(1, -1024)
    shifted.to_filename(tmp_path / "shifted.nii.gz")
    assert [one.name for one in references(tmp_path)] == ["ct", "shifted"]
    assert find_left_out(spec(references=[{"folder": str(tmp_path)}]).references) == ["ct_lungs.nii.gz"]
    told = spec(references=[{"folder": str(tmp_path), "labels": "{name}_lungs.nii.gz"}])
    assert find_left_out(told.references) == []
    with pytest.raises(InvalidRequest, match=r"references\.0: left out, for they are label maps .* ct_lungs"):
        references(tmp_path, files="*_lungs*")


def test_a_label_map_that_is_named_is_refused_when_it_is_read(tmp_path: Path) -> None:
    labels = np.zeros((16, 16, 8), np.int16)
    labels[4:8, 4:8] = 3
    nib.Nifti1Image(labels, np.eye(4)).to_filename(tmp_path / "ct_lungs.nii")
    (named,) = references(tmp_path / "ct_lungs.nii")
    with pytest.raises(NotACT, match=r'ct_lungs\.nii is a label map and no CT: .* files: "\*_ct\.nii\.gz"'):
        CohortHost.read(named)


def test_a_folder_for_each_series(folder: Path) -> None:
    (one,) = references(folder, files="*/*")
    assert (one.name, one.path) == ("P1__scan", folder / "P1" / "scan")
    (same,) = references(folder / "P1" / "scan")
    assert same.name == "scan"


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"files": "*.mha"}, "no CT in"),
        ({"files": "*_ct*", "patient": "^(a)"}, "says nothing of 'b_ct'"),
    ],
)
def test_references_that_are_not_found(folder: Path, rule: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidRequest, match=r"references\.0") as refused:
        references(folder, **rule)
    assert said in str(refused.value)


def test_two_of_one_name_and_no_folder(folder: Path) -> None:
    twice = spec(references=[{"folder": str(folder), "files": "a_ct*"}] * 2)
    with pytest.raises(InvalidRequest, match="two CTs are called 'a_ct'"):
        find_references(twice.references)
    with pytest.raises(InvalidRequest, match="there is no 'gone'"):
        references(folder / "gone")


def make(count: int, patients: int) -> list[CohortReference]:
    return [CohortReference(f"r{n}", Path("x"), f"p{n % patients}", "") for n in range(count)]


def test_cases_hang_on_no_order() -> None:
    asked = spec(cases={"total": 11}, splits={"train": 0.5, "val": 0.5})
    some = make(4, 4)
    assert cast(asked, some) == cast(asked, some[::-1])
    assert len(cast(asked, some)) == 11
    assert len(cast(spec(), some)) == 8
    assert [case.id for case in cast(spec(), some[:1])] == ["r0-0001", "r0-0002"]


def test_a_patient_is_in_one_split() -> None:
    asked = spec(splits={"train": 0.6, "val": 0.2, "test": 0.2})
    cases = cast(asked, make(20, 10))
    of = {case.reference: case.split for case in cases}
    assert all(of[f"r{n}"] == of[f"r{n + 10}"] for n in range(10))
    splits = list(split_patients(asked, [f"p{n}" for n in range(10)]).values())
    assert [splits.count(name) for name in ("train", "val", "test")] == [6, 2, 2]
