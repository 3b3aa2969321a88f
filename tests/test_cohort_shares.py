"""Removals, shares and pairs: which cases they come to, what is told of them, and what is made."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_kit import Command
from cohort_kit import LIVER, SPECIFICATION, begin, make_here, one_host, specification, write_references
from dicom_fixtures import Series, write_series
from lesionbrush.cohorts.balancing import apportion, share_out
from lesionbrush.cohorts.casting import PlannedCase, cast
from lesionbrush.cohorts.checking import check_specification
from lesionbrush.cohorts.export.dataset import ExportOptions, export_dataset
from lesionbrush.cohorts.findings import NotPlaced, place_lesions
from lesionbrush.cohorts.folder import CohortFolder
from lesionbrush.cohorts.headers import read_facts
from lesionbrush.cohorts.hosts import CohortHost
from lesionbrush.cohorts.planning import preview
from lesionbrush.cohorts.references import CohortReference, find_references, references_of
from lesionbrush.cohorts.shares import HostShares
from lesionbrush.cohorts.verifying import verify
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.io import read_volume, write_volume
from pydicom.dataset import Dataset
from transfer_kit import ball, grid

pytest_plugins = "cli_fixtures"
CTS: dict[str, Any] = SPECIFICATION["references"][0]
WITH_LESIONS = {**CTS, "lesions": "{name}_lesions.nii.gz"}
SIZES = [
    {"share": 0.25, "lesions": {"diameter_mm": 5}},
    {"share": 0.75, "lesions": {"diameter_mm": {"uniform": [7.0, 8.0]}}},
]


@pytest.fixture(autouse=True)
def tiny(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LESIONBRUSH_MODELS", str(tiny_models))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two CTs; a lesion lies in the liver of each."""
    folder = tmp_path_factory.mktemp("shares")
    write_references(folder / "cts")
    for ct in sorted((folder / "cts").glob("*_ct.nii.gz")):
        name = ct.name.removesuffix(".nii.gz")
        organs = read_volume(ct.with_name(f"{name}_organs.nii.gz"))
        inside = np.argwhere(organs.array == LIVER)
        middle = organs.affine[:3, :3] @ inside.mean(axis=0) + organs.affine[:3, 3]
        lesion = ball(tuple(middle), 3, (organs.shape, organs.affine))
        write_volume(lesion, ct.with_name(f"{name}_lesions.nii.gz"))
    return folder


def made_of(count: int) -> list[CohortReference]:
    return [CohortReference(f"ct{k}", Path(f"/ct{k}"), f"P{k // 2}", "") for k in range(count)]


def write_header(folder: Path, **said: str) -> Path:
    """A slice whose header says so."""

    def edit(_: int, header: Dataset) -> None:
        del header.SliceThickness
        for name, value in said.items():
            setattr(header, name, value)

    return write_series(folder, Series(np.zeros((4, 4, 1)), edit=edit))[0]


# --- removals ---


def test_a_removal_is_a_case_whose_twin_has_no_lesion(base: Path, tmp_path: Path) -> None:
    folder = begin(
        base, tmp_path / "cohort", references=[WITH_LESIONS], findings=[], cases=None, removals=True
    )
    assert [case.id for case in folder.cases] == ["Miller_0_ct-removed", "Miller_1_ct-removed"]
    make_here(folder)
    assert verify(folder).complete
    record = next(folder.records())
    place = folder.folder_of(record.id)
    ct = read_volume(folder.references[0].path).array[record.box]
    box, mask, twin = (read_volume(place / f"{name}.nii.gz").array for name in ("box", "mask", "twin"))
    assert folder.references[0].lesions is not None
    there = read_volume(folder.references[0].lesions).array
    assert np.array_equal(box, ct)
    assert np.array_equal(mask > 0, there[record.box] > 0)
    assert (twin != ct).any()
    assert np.array_equal(twin[mask == 0][(twin == ct)[mask == 0]], ct[mask == 0][(twin == ct)[mask == 0]])
    (lesion,) = record.lesions
    assert (record.kind, record.provenance, lesion.organ, lesion.model) == ("removal", None, "liver", "")
    assert record.twin is not None
    assert lesion.truth.mean_hu == pytest.approx(ct[mask > 0].mean(), abs=0.01)


def test_a_removal_is_exported_as_a_pair(base: Path, tmp_path: Path) -> None:
    folder = begin(
        base, tmp_path / "cohort", references=[WITH_LESIONS], findings=[], cases=None, removals=True
    )
    make_here(folder)
    out = tmp_path / "out"
    cases = export_dataset(folder, ExportOptions("monai", out, tmp_path / "mapping.csv"))
    assert Counter(case.healthy for case in cases) == {False: 2, True: 2}
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "- 2 real lesions, each also taken out of its CT, in a healthy twin\n" in card
    assert "- 0 synthetic lesions; 2 images are healthy twins" in card
    for case in cases:
        image, label = (read_volume(out / part / f"{case.name}.nii.gz") for part in ("images", "labels"))
        ct = read_volume(folder.reference(case.record.reference).path)
        assert label.array.any() != case.healthy
        assert np.array_equal(image.array, ct.array) != case.healthy


def test_removals_go_beside_other_cases(base: Path) -> None:
    asked = specification(base, references=[WITH_LESIONS], removals=True)
    kinds = Counter(case.kind for case in cast(asked, find_references(asked.references)))
    assert kinds == {"lesions": 4, "removal": 2}


def test_a_removal_of_nothing_is_told(base: Path, tmp_path: Path) -> None:
    asked = specification(base, references=[WITH_LESIONS], removals=True)
    host = CohortHost.read(find_references(asked.references)[0])
    assert host.reference.lesions is not None
    there = read_volume(host.reference.lesions)
    empty = tmp_path / "none.nii.gz"
    write_volume(there.with_array(np.zeros_like(there.array)), empty)
    none = CohortHost.read(CohortReference(**{**vars(host.reference), "lesions": empty}))
    with pytest.raises(NotPlaced, match="its mask of lesions is empty"):
        place_lesions(asked, PlannedCase("a-removed", "a", "train", "removal"), none)


# --- shares ---


def test_shares_become_whole_numbers() -> None:
    assert apportion([0.5, 0.5], 3) == [2, 1]
    assert apportion([0.7, 0.2, 0.1], 10) == [7, 2, 1]
    assert apportion([1.0], 0) == [0]


def test_lesions_are_dealt_out_in_exact_shares(base: Path) -> None:
    rule = {"diameter_mm": 6, "number": 2, "balance": {"size": SIZES}}
    asked = specification(base, cases={"total": 20}, findings=[rule])
    cases = cast(asked, made_of(5))
    parts = [part for case in cases for part in case.parts]
    assert Counter(part.number for part in parts) == {0: 10, 1: 30}
    assert cast(asked, made_of(5)[::-1]) == cases
    case = next(case for case in cases if [part.number for part in case.parts] == [0, 1])
    one = one_host(base)
    placed = place_lesions(asked, case, one.host)
    assert placed[0].wanted.diameter_mm == 5
    assert placed[1].wanted.diameter_mm is not None
    assert 7 <= placed[1].wanted.diameter_mm <= 8


def test_fields_of_a_part_go_into_those_of_the_rule(base: Path) -> None:
    parts = [{"share": 1, "lesions": {"place": {"inside": "liver"}, "attributes": {"texture": "part_solid"}}}]
    rule = {
        "diameter_mm": 6,
        "place": {"gap_mm": 7},
        "attributes": {"mean_hu": 5},
        "balance": {"where": parts},
    }
    asked = specification(base, findings=[rule])
    rules = asked.findings[0].with_parts(asked.findings[0].balance["where"])
    assert (rules.place.inside.value, rules.place.gap_mm) == ("liver", 7)
    assert set(rules.attributes) == {"mean_hu", "texture"}
    check_specification(asked)


def test_so_many_cases_are_healthy_in_each_split(base: Path) -> None:
    splits = {"train": 0.5, "val": 0.5}
    asked = specification(base, cases={"total": 40}, balance={"healthy": 0.3}, splits=splits)
    cases = cast(asked, made_of(8))
    assert Counter((case.split, case.kind) for case in cases) == {
        ("train", "healthy"): 6, ("val", "healthy"): 6, ("train", "lesions"): 14, ("val", "lesions"): 14,
    }  # fmt: skip
    healthy = next(case for case in cases if case.kind == "healthy")
    assert place_lesions(asked, healthy, one_host(base).host) == []


def test_hosts_are_taken_by_what_their_headers_say() -> None:
    facts: dict[str, dict[str, str | float]] = {
        "a": {"sex": "F", "slice_mm": 1.0},
        "b": {"sex": "F", "slice_mm": 1.0},
        "c": {"sex": "M", "slice_mm": 5.0},
        "d": {"sex": "F", "slice_mm": 5.0},
        "e": {"sex": "F"},
    }
    shares = HostShares(sex={"f": 0.5, "*": 0.5}, slice_mm={"0-2": 0.4, "2-10": 0.6})
    counts = share_out(shares, facts, 20)
    assert counts == {"a": 4, "b": 4, "c": 10, "d": 2, "e": 0}
    with pytest.raises(InvalidRequest, match=r"balance\.hosts: none of 1 CTs says sex, slice_mm"):
        share_out(shares, {"e": facts["e"]}, 20)


def test_the_plan_says_what_cannot_be_met(base: Path, tmp_path: Path) -> None:
    for number in range(2):
        write_header(tmp_path / f"P{number}", PatientSex="F", PatientAge="045Y", SliceThickness="1.25")
    balance = {"hosts": {"sex": {"F": 0.5, "M": 0.5}}, "healthy": 0.5}
    asked = specification(tmp_path, references=[{"folder": "."}], cases={"total": 10}, balance=balance)
    references = references_of(asked)
    assert references[0].facts["age_years"] == 45
    plan = preview(asked, references, shown=0)
    lines = {line.what: line for line in plan.shares}
    assert lines["healthy cases"].met
    assert (lines["sex F"].planned, lines["sex M"].planned) == (10, 0)
    assert (
        lines["sex M"].why
        == "no CT's sex fits 'M' before others that are written: add some, or change the shares"
    )


def test_the_command_prints_what_comes(base: Path, command: Command) -> None:
    asked = {
        **SPECIFICATION,
        "references": [WITH_LESIONS],
        "cases": {"total": 10},
        "findings": [{"diameter_mm": 5, "place": {"inside": "liver"}, "balance": {"size": SIZES}}],
        "removals": True,
        "balance": {"healthy": 0.2},
    }
    (base / "c.json").write_text(json.dumps(asked), encoding="utf-8")
    said = command("cohort", "plan", base / "c.json", "--no-timing").out
    assert "12 cases (12 train) of 2 CTs of 2 patients" in said
    assert "8 with lesions put in, 2 healthy, 2 with their lesions taken out" in said
    assert "share: healthy cases: 2 of 2.0 asked for\n" in said
    assert "share: findings.0.balance.size.1: 6 of 6.0 asked for\n" in said


def test_facts_of_a_header(tmp_path: Path) -> None:
    file = write_header(
        tmp_path / "s", PatientBirthDate="19500601", StudyDate="20200601", Manufacturer="ACME",
        ManufacturerModelName="X1", ConvolutionKernel="B30f", PatientSex="",
    )  # fmt: skip
    found = read_facts(file)
    assert found == {"age_years": pytest.approx(70, abs=0.01), "scanner": "ACME X1", "kernel": "B30f"}


# --- pairs ---


@pytest.fixture(scope="module")
def donors(base: Path) -> Path:
    on = grid((1.2, 1.2, 2.0), 90.0)
    for name in ("a", "b", "c"):
        (base / "donors" / name).mkdir(parents=True)
        write_volume(ball((0, 0, 0), 3, on), base / "donors" / name / "mask.nii.gz")
    return base / "donors"


def crossed(base: Path, wanted: int | str) -> Any:
    limits = {"scale": [1, 1], "margin_mm": 1}
    rule = {"transfer": {"cases": str(base / "donors"), "into": "liver", "limits": limits}}
    return specification(base, cases={"crossings": wanted}, findings=[rule])


def test_each_host_with_each_mask(base: Path, donors: Path, tmp_path: Path) -> None:
    asked = crossed(base, "all")
    folder = CohortFolder.begin(tmp_path / "c", asked, find_references(asked.references))
    assert len(folder.cases) == 6
    assert CohortFolder.open(folder.path).cases == folder.cases
    case = next(case for case in folder.cases if case.id == "Miller_1_ct-x-b")
    (placed,) = place_lesions(asked, case, CohortHost.read(folder.reference(case.reference)))
    assert placed.wanted.donor == "b, lesion 1"


def test_a_sample_of_pairs_is_part_of_a_larger_one(base: Path, donors: Path) -> None:
    references = find_references(crossed(base, 2).references)
    two, four = ({case.id for case in cast(crossed(base, n), references, "abc")} for n in (2, 4))
    assert len(two) == 2
    assert two < four
    with pytest.raises(InvalidRequest, match=r"cases\.crossings: 7: 2 CTs and 3 masks are 6 pairs"):
        cast(crossed(base, 7), references, "abc")


# --- edits that do not meet ---


def test_what_two_edits_change_does_not_meet_unless_asked(base: Path) -> None:
    def gap_of(**place: Any) -> float:
        rule = {"number": 2, "diameter_mm": 4, "place": {"gap_mm": 1, **place}}
        one = one_host(base, findings=[rule])
        first, second = place_lesions(one.specification, one.case, one.host)
        a, b = (np.argwhere(p.mask(one.host.ct).array) * one.host.ct.spacing_mm for p in (first, second))
        assert second.wanted.gap_mm >= 1
        apart = float(np.linalg.norm(a[:, None] - b, axis=-1).min())
        assert apart > second.wanted.gap_mm
        return second.wanted.gap_mm

    assert gap_of() == 6  # two margins of 3 mm
    assert gap_of(edits_may_meet=True) == 1


# --- what is wrong is said ---


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"findings": [], "cases": None}, "give at least one, or write removals: true"),
        ({"findings": []}, "findings: give at least one"),
        ({"cases": None}, "cases: is missing, write it"),
        ({"removals": True}, "removals: no reference has lesions"),
        ({"cases": {"crossings": "some"}}, "cases.crossings"),
        ({"cases": {"crossings": "all"}}, "write one rule with transfer, of number 1"),
        ({"cases": {"crossings": 4, "total": 4}}, "write per_reference, total or crossings, one of them"),
        ({"balance": {"healthy": 1}}, "balance.healthy: Input should be less than 1 (got 1)"),
        ({"balance": {"hosts": {"sex": {"F": 0.5}}}}, "balance.hosts.sex: shares of 0.5: give some above 0"),
        ({"balance": {"hosts": {"sex": {"F": 1}}}}, "balance.hosts: write cases.total"),
        ({"balance": {"hosts": {"age_years": {"old": 1}}}}, "'old': write a range as FROM-TO"),
        ({"references": [{**CTS, "lesions": "a", "lesion_tag": "b"}]}, "write lesions or lesion_tag"),
    ],
)
def test_what_does_not_go_together_is_said(base: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        specification(base, **changes)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"balance": {"size": [SIZES[0]]}}, "shares of 0.25: give some above 0 that are 1 together"),
        ({"balance": {"a": SIZES, "b": SIZES}}, "balance: a and b both change diameter_mm: join them"),
        (
            {"balance": {"a": [{"share": 1, "lesions": {"number": 2}}]}},
            "a.0.lesions.number: what may",
        ),
        ({"balance": {"a": [{"share": 1, "lesions": {"diameter_mm": 500}}]}}, "500: give numbers from 2"),
        ({"balance": {"a": [{"share": 1, "lesions": {"place": {"side": "up"}}}]}}, "lesions.place.side: up"),
    ],
)
def test_parts_that_make_no_sense(base: Path, rule: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        specification(base, findings=[{"diameter_mm": 6, **rule}])
    assert said in str(refused.value)


def test_parts_are_checked_against_the_model(base: Path) -> None:
    parts = {"texture": [{"share": 1, "lesions": {"attributes": {"texture": "hard"}}}]}
    asked = specification(base, findings=[{"diameter_mm": 6, "balance": parts}])
    with pytest.raises(InvalidRequest, match=r"balance\.texture\.0\.lesions\.attributes\.texture: 'hard'"):
        check_specification(asked)


# --- the CTs of a studies folder ---


def test_ids_of_a_studies_folder(tmp_path: Path) -> None:
    labels = tmp_path / "labels" / "final"
    labels.mkdir(parents=True)
    for path in (tmp_path / "1.2.3.nii.gz", tmp_path / "b.nrrd", tmp_path / "c.mha", labels / "b.nii.gz"):
        path.touch()
    (tmp_path / "datastore_v2.json").touch()

    def found(**rule: Any) -> list[CohortReference]:
        folder = {"folder": str(tmp_path), "lesion_tag": "final", **rule}
        return find_references(specification(tmp_path, references=[folder]).references)

    assert [one.name for one in found()] == ["1.2.3", "b", "c"]
    assert [(one.name, one.lesions) for one in found(ids=["1.2.3", "b"])] == [
        ("1.2.3", None), ("b", labels / "b.nii.gz"),
    ]  # fmt: skip
    with pytest.raises(InvalidRequest, match=r"references.0.ids: .* has no CT 'x': it has 1.2.3, b, c"):
        found(ids=["b", "x"])
