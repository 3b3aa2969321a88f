"""What a card's figures say of a model whose lesions are known."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation_kit import save_nodules
from lesionbrush.core.volume import Volume
from lesionbrush.evaluation.card_figures import (
    add_measures,
    evaluate,
    load_case,
    read_held_out,
    readers_attributes,
    weighted_median,
)
from lesionbrush.systems.lesion_inpainting.attributes import ATTRIBUTES, TYPICAL_DIAMETER_MM
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest
from lesionbrush.training.split import is_validation

OFF_HU = (10.0, 30.0, 100.0)
"""By how much the lesions of seeds 0, 1 and 2 miss the real mean."""

TYPICAL_OFF_HU = -7.0


@pytest.fixture
def nodules(tmp_path: Path) -> Path:
    held_out = [p for k in range(1, 60) if is_validation(p := f"LIDC-IDRI-{k:04d}")][:3]
    save_nodules(tmp_path, held_out, np.random.default_rng(0))
    return tmp_path


def missing_by_seed(ct: Volume, mask: Volume, request: SynthesisRequest) -> np.ndarray:
    """The real nodule, denser by what the seed says; with the mean asked for, as it is."""
    off = 0.0 if request.attributes.mean_hu is not None else OFF_HU[request.seed]
    if request.variety == 0:
        off = TYPICAL_OFF_HU
    return ct.array + np.float32(off) * (mask.array > 0)


@pytest.mark.parametrize(("seeds", "error"), [(1, 10.0), (3, 30.0)])
def test_the_error_with_readers_is_the_median_over_nodules_and_seeds(
    nodules: Path, tmp_path: Path, seeds: int, error: float
) -> None:
    found = evaluate(missing_by_seed, nodules, tmp_path / "out", seeds=seeds)
    figures = found.figures
    assert (figures.cases, figures.seeds) == (3, seeds)
    assert figures.mean_hu_error_with_readers_hu == pytest.approx(error, abs=0.01)
    assert figures.mean_hu_error_mask_only_hu == pytest.approx(OFF_HU[0], abs=0.01)
    assert figures.mean_hu_error_typical_hu == pytest.approx(-TYPICAL_OFF_HU, abs=0.01)
    assert figures.mean_hu_error_with_measured_hu == 0
    assert [(kind.kind, kind.cases) for kind in found.kinds] == [
        ("ground_glass", 1),
        ("part_solid", 1),
        ("solid", 1),
    ]
    assert found.kinds[0].mean_hu_error_with_readers_hu == pytest.approx(error, abs=0.01)
    cases = json.loads((tmp_path / "out" / "figures.json").read_text())["cases"]
    assert [len(case["other_seeds_mean_hu"]) for case in cases] == [seeds - 1] * 3


@pytest.mark.parametrize("texture", [1, 2, 3, 4, 5])
def test_the_readers_five_grades_of_texture(nodules: Path, texture: int) -> None:
    with (nodules / "lidc_nodules" / "attributes.csv").open(newline="") as file:
        row = {**next(csv.DictReader(file)), "Texture_value": str(texture)}
    small, typical = (readers_attributes(row, diameter_mm) for diameter_mm in (5.0, TYPICAL_DIAMETER_MM))
    names = {1: "ground_glass", 2: "ground_glass", 3: "part_solid", 4: "part_solid", 5: "solid"}
    assert (small.texture, typical.texture) == (names[texture],) * 2
    assert typical.solid_share == (
        {3: pytest.approx(0.21, abs=0.01), 4: pytest.approx(0.37, abs=0.01)}.get(texture)
    )
    assert small.solid_share is None or small.solid_share < typical.solid_share - 0.1
    grades = {1: 0, 2: 0, 3: 0.5, 4: 0.75, 5: 1}
    assert typical.vector()[ATTRIBUTES.index("texture")] == pytest.approx(grades[texture])


def test_the_diameter_of_a_case_is_that_of_its_mask(nodules: Path) -> None:
    row = next(row for row in read_held_out(nodules) if row["Texture_value"] == "3")
    share = load_case(nodules, row).attributes.solid_share
    assert share == pytest.approx(readers_attributes(row, 2 * 5.0).solid_share, abs=0.01)


@pytest.mark.parametrize(
    ("score", "kind"),
    [(1, "popcorn"), (2, "laminated"), (3, "solid"), (4, "non_central"), (5, "central"), (6, "none")],
)
def test_the_readers_kinds_of_calcification(nodules: Path, score: int, kind: str) -> None:
    row = {**read_held_out(nodules)[0], "Calcification_value": str(float(score))}
    case = replace(load_case(nodules, row), attributes=readers_attributes(row, 8.0))
    assert case.attributes.calcification == kind
    measured = add_measures(case)
    assert measured.mean_hu is not None
    assert (measured.heterogeneity_hu is None) == (kind != "none")


def test_kinds_are_weighted_as_they_are_in_the_data(tmp_path: Path) -> None:
    """Of those held out a third is solid; of all of the data, almost everything."""
    patients = [f"LIDC-IDRI-{k:04d}" for k in range(1, 80)]
    held = [p for p in patients if is_validation(p)][:3]
    save_nodules(tmp_path, held, np.random.default_rng(0))
    table = tmp_path / "lidc_nodules" / "attributes.csv"
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows += [{**rows[2], "patient_id": p} for p in patients if not is_validation(p)]
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)

    def by_texture(ct: Volume, mask: Volume, request: SynthesisRequest) -> np.ndarray:
        off = {"solid": 10.0, "part_solid": 50.0, "ground_glass": 70.0}[str(request.attributes.texture)]
        return ct.array + np.float32(off) * (mask.array > 0)

    figures = evaluate(by_texture, tmp_path, tmp_path / "out").figures
    assert figures.mean_hu_error_typical_hu == pytest.approx(50, abs=0.01)
    assert figures.mean_hu_error_typical_in_mix_hu == pytest.approx(10, abs=0.01)
    assert figures.mean_hu_error_with_readers_in_mix_hu == pytest.approx(10, abs=0.01)


def test_a_weighted_median() -> None:
    values = np.array([30.0, 10.0, 20.0])
    assert weighted_median(values, np.ones(3)) == np.median(values)
    assert weighted_median(values, np.array([5.0, 1.0, 1.0])) == 30
    assert weighted_median(values, np.array([1.0, 5.0, 1.0])) == 10
    repeats = np.array([3, 2, 4])
    assert weighted_median(values, repeats) == np.median(np.repeat(values, repeats))
