"""Measurements of a chest against closed forms, and sentences that say nothing that was not measured."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from cli_kit import Command
from lesionbrush.anatomy.chest.masks import ChestMasks
from lesionbrush.anatomy.lung_steps.grid import CoarseGrid
from lesionbrush.core.inputs import Layout
from lesionbrush.core.volume import Volume
from lesionbrush.errors import GeometryMismatch
from lesionbrush.files.io import write_volume
from lesionbrush.reports.findings import ChestFindings, Measurement
from lesionbrush.reports.measuring import is_cut, measure_chest, measure_noise, texture_of
from lesionbrush.reports.thorax import find_dense, find_fluid, measure_heart
from lesionbrush.reports.writing import PARTS, size_of_effusion, write_report
from pydantic import ValidationError

pytest_plugins = "cli_fixtures"

SHAPE, LPS_2MM = (150, 110, 80), np.diag((-2.0, -2.0, 2.0, 1.0))
X, Y, Z = np.indices(SHAPE, sparse=True)
ALL = np.ones(SHAPE, bool)


def box(x: tuple[int, int], y: tuple[int, int], z: tuple[int, int]) -> np.ndarray:
    return ALL & (x[0] <= X) & (x[1] > X) & (y[0] <= Y) & (y[1] > Y) & (z[0] <= Z) & (z[1] > Z)


BODY = box((5, 145), (5, 105), (0, 80))
RIGHT_LUNG, LEFT_LUNG = box((20, 62), (20, 85), (12, 75)), box((88, 130), (20, 85), (12, 75))
HEART = box((50, 105), (30, 65), (16, 50))
"""55 voxels of 2 mm wide; the chest is 110 of them."""
WINDPIPE = box((72, 78), (50, 56), (55, 80))
FORK = (
    box((66, 71), (50, 56), (50, 55)) | box((79, 84), (50, 56), (50, 55)) | box((66, 84), (50, 56), (54, 55))
)


def make_chest(*parts: tuple[np.ndarray, float]) -> tuple[Volume, ChestMasks]:
    """Boxes for lungs, heart and windpipe above a diaphragm of tissue, and more over them."""
    hu = np.full(SHAPE, -1000, np.int16)
    lungs = (RIGHT_LUNG & ~HEART) | (LEFT_LUNG & ~HEART)
    lungs[20:130, 20:70, :16] = False  # the domes; behind them lung goes further down
    for mask, value in ((BODY, 50), (lungs, -860), (WINDPIPE | FORK, -1000), *parts):
        hu[mask] = value
    for mask, value in parts:
        lungs &= ~mask | (value < -400)
    ct = Volume(hu, LPS_2MM)
    labels = np.where(lungs, np.where(X < 75, 1, 2), 0).astype(np.uint8)
    lobes = Layout(ct.with_array(np.where(labels > 0, labels + 5, 0).astype(np.uint8)), {6: "right lung"})
    airways = ct.with_array((WINDPIPE | FORK).astype(np.uint8))
    return ct, ChestMasks(
        lungs=ct.with_array(labels),
        main_airways=airways,
        lobes=lobes,
        airways=Layout(airways, {1: "airways"}),
        vessels=Layout(ct.with_array(np.zeros(SHAPE, np.uint8)), {1: "lung vessels"}),
        remarks=(),
    )


@pytest.fixture(scope="module")
def findings() -> ChestFindings:
    return measure_chest(*make_chest())


def grid_and_right_lung(*parts: tuple[np.ndarray, float]) -> tuple[CoarseGrid, np.ndarray]:
    ct, masks = make_chest(*parts)
    grid = CoarseGrid.of(ct)
    return grid, grid.thin(masks.lungs.array) == 1


class TestMeasures:
    def test_a_heart_box_has_its_width(self, findings: ChestFindings) -> None:
        assert findings.heart_width_mm.value == pytest.approx(110, abs=4)
        assert findings.chest_width_mm.value == pytest.approx(220, abs=4)
        assert findings.cardiothoracic_ratio.value == pytest.approx(0.5, abs=0.02)

    def test_no_heart_without_carina_end_or_second_lung(self) -> None:
        ct, masks = make_chest()
        lungs = CoarseGrid.of(ct).thin(masks.lungs.array)
        assert measure_heart(CoarseGrid.of(ct).crop(np.s_[:, :, 20:]), lungs[:, :, 20:], 70) is None
        high = np.s_[:, :, 56:]
        upper = {name: getattr(masks, name).crop(high) for name in ("lungs", "main_airways")}
        layouts = {
            name: Layout(getattr(masks, name).labels.crop(high), {})
            for name in ("lobes", "airways", "vessels")
        }
        found = measure_chest(ct.crop(high), ChestMasks(**upper, **layouts, remarks=()))
        assert found.cardiothoracic_ratio.why_not == "no carina is found, below which the heart begins"
        assert found.effusion_left_ml.why_not == "the base of the left lung is not in the volume"
        assert found.cut_lungs == ("right", "left")
        assert all("olume, which cuts both lungs" in report(found, seed) for seed in range(4))

    @pytest.mark.parametrize(
        "part", [np.s_[:40, :, :], np.s_[:, 30:, :], np.s_[:, :, :70]], ids=["side", "front", "top"]
    )
    def test_lungs_that_a_border_cuts(self, findings: ChestFindings, part: tuple[slice, ...]) -> None:
        assert findings.cut_lungs == ()
        assert is_cut(make_chest()[1].lungs.crop(part), 1)

    def test_a_cylinder_of_fluid_has_its_volume(self) -> None:
        cylinder = (X - 40) ** 2 + (Z - 40) ** 2 <= 15**2
        cylinder = cylinder & (Y >= 70) & (Y < 85)
        found = find_fluid(*grid_and_right_lung((cylinder, 8)))
        assert found.sum() == pytest.approx(np.pi * 15**2 * 15, rel=0.1)
        assert found[cylinder].mean() > 0.9

    @pytest.mark.parametrize("hu", [-90, 55])
    def test_fat_and_muscle_are_no_fluid(self, hu: int) -> None:
        assert not find_fluid(*grid_and_right_lung((box((25, 58), (70, 85), (20, 60)), hu))).any()

    def test_fluid_with_lung_behind_it_is_none(self) -> None:
        assert not find_fluid(*grid_and_right_lung((box((25, 48), (40, 60), (20, 60)), 8))).any()

    def test_a_dense_ball_has_its_volume_unless_it_is_known(self) -> None:
        ball = (X - 35) ** 2 + (Y - 50) ** 2 + (Z - 45) ** 2 <= 8**2
        grid, lung = grid_and_right_lung((ball, 40))
        found = find_dense(grid, lung | ball, np.zeros(SHAPE, bool))
        assert found.sum() == pytest.approx(4 / 3 * np.pi * 8**3, rel=0.15)
        assert not find_dense(grid, lung | ball, ball).any()

    def test_a_share_below_950_set_by_hand(self) -> None:
        ct, masks = make_chest()
        inside = np.flatnonzero(masks.lungs.array)
        ct.array.flat[inside[: len(inside) // 8]] = -980
        assert measure_chest(ct, masks).laa950_percent.value == pytest.approx(12.5, abs=0.01)

    def test_a_share_that_noise_makes_is_said_to_be(self) -> None:
        ct, masks = make_chest()
        noise = np.random.default_rng(0).normal(0, 60, SHAPE)
        found = measure_chest(ct.with_array((ct.array + noise).astype(np.int16)), masks).laa950_percent
        assert re.fullmatch(
            r"[67]\.\d % of it is below -950 HU, as noise of [56]\d HU alone would make it", found.why_not
        )

    @pytest.mark.parametrize("noise_hu", [8, 30])
    def test_noise(self, noise_hu: float) -> None:
        hu = np.random.default_rng(1).normal(40, noise_hu, (60, 60, 20)).astype(np.int16)
        assert measure_noise(Volume(hu, LPS_2MM)).value == pytest.approx(noise_hu, rel=0.1)
        air = measure_noise(Volume(np.full((60, 60, 20), -1000, np.int16), LPS_2MM))
        assert air.why_not == "there is too little soft tissue in the volume"

    def test_texture_by_hu(self) -> None:
        assert texture_of(np.full(10, 20)) == "solid"
        assert texture_of(np.full(10, -600)) == "ground-glass"
        assert texture_of(np.repeat((20, -600), 5)) == "part-solid"

    def test_a_nodule_has_its_size_and_its_lung(self) -> None:
        nodule = box((30, 36), (40, 44), (40, 44))
        ct, masks = make_chest((nodule, 40))
        masks.lobes.labels.array[nodule] = 6
        (found,) = measure_chest(ct, masks, [ct.with_array(nodule.astype(np.uint8))]).nodules
        assert (found.lobe, found.texture) == ("right lung", "solid")
        assert found.truth.long_axis_mm == pytest.approx(np.hypot(12, 8), abs=0.01)

    def test_a_mask_elsewhere_is_refused(self) -> None:
        ct, masks = make_chest()
        other = Volume(np.ones((4, 4, 4), np.uint8), np.diag((3.0, 3.0, 3.0, 1.0)))
        with pytest.raises(GeometryMismatch, match="the mask does not lie on the grid of the CT"):
            measure_chest(ct, masks, [other])

    def test_a_measurement_is_a_value_or_a_reason(self) -> None:
        for wrong in ({}, {"value": 1.0, "why_not": "cut"}):
            with pytest.raises(ValidationError, match="a value, or says why there is none"):
                Measurement(**wrong)


def report(findings: ChestFindings, seed: int = 0, **changed: object) -> str:
    return write_report(findings.model_copy(update=changed), np.random.default_rng(seed))


class TestReport:
    def test_equal_generators_give_equal_texts_and_others_other_ones(self, findings: ChestFindings) -> None:
        texts = {report(findings, seed) for seed in range(8)}
        assert report(findings, 3) == report(findings, 3)
        assert len(texts) > 4

    @pytest.mark.parametrize("seed", range(6))
    def test_numbers_are_those_that_were_measured(self, findings: ChestFindings, seed: int) -> None:
        known = {950.0, round(findings.slice_mm, 2)}
        for name in ("right_lung_ml", "left_lung_ml", "laa950_percent", "heart_width_mm", "chest_width_mm"):
            known.add(round(getattr(findings, name).value, 1))
        known |= {findings.right_lung_ml.value + findings.left_lung_ml.value}
        known |= {round(findings.cardiothoracic_ratio.value, 2), round(findings.airways_ml.value)}
        known.add(round(findings.noise_hu.value))
        said = {float(number) for number in re.findall(r"\d+(?:\.\d+)?", report(findings, seed))}
        assert said <= known

    def test_what_is_not_measured_is_said_to_be_with_the_reason(self, findings: ChestFindings) -> None:
        numbers = [name for name, one in findings if isinstance(one, Measurement)]
        text = report(findings, **dict.fromkeys(numbers, Measurement(why_not="it was cut")))
        assert text.count("measured: it was cut") == 9
        assert re.findall(r"\d+", text) == ["2"]  # from slice to slice

    def test_of_a_cut_lung_the_part_in_the_volume(self, findings: ChestFindings) -> None:
        cut = {"cut_lungs": ("left",), "left_lung_ml": Measurement(value=321)}
        for seed in range(4):
            assert re.search("his volume, which cuts the left lung.*321 ml", report(findings, seed, **cut))
            alone = report(findings, seed, **cut, right_lung_ml=Measurement(why_not="there is none"))
            assert re.search(
                "321 ml of the left lung lie in this volume, which cuts it|Left lung in this", alone
            )
            assert "in this volume" not in report(findings, seed)

    @pytest.mark.parametrize(
        ("ml", "said"),
        [(0, "No|no "), (120, "mall right"), (600, "oderate right"), (1500, "arge right")],
    )
    def test_effusion(self, findings: ChestFindings, ml: float, said: str) -> None:
        text = report(findings, effusion_right_ml=Measurement(value=ml))
        line = next(one for one in text.splitlines() if "pleura" in one)
        assert re.search(said, line)
        assert (f"{ml:.0f} ml" in line) is (ml > 0)
        assert size_of_effusion(9.9) == "none"

    def test_signs_turn_with_the_values(self, findings: ChestFindings) -> None:
        ill = {"cardiothoracic_ratio": 0.61, "laa950_percent": 22.0, "consolidation_ml": 40.0}
        text = report(findings, **{name: Measurement(value=value) for name, value in ill.items()})
        assert re.search("ardiomegaly|is enlarged", text)
        assert not re.search("No card|not enl|normal", text)
        assert re.search("Marked|extensive", text)
        assert "40 ml" in text

    def test_parts_are_chosen_and_dropped(self, findings: ChestFindings) -> None:
        generator = np.random.default_rng(0)
        assert write_report(findings, generator, drop=1.0) == ""
        assert len(write_report(findings, generator).splitlines()) == len(PARTS) - 1  # no masks, no word
        assert "nodule" in report(findings, nodules=())
        assert write_report(findings, generator, parts=("lungs",)).count("\n") == 0

    def test_they_are_kept_as_json(self, findings: ChestFindings) -> None:
        assert ChestFindings.model_validate_json(findings.model_dump_json()) == findings


class TestDescribe:
    def test_a_phantom(self, command: Command, tmp_path: Path) -> None:
        nodule = box((30, 36), (40, 44), (40, 44))
        ct, masks = make_chest((nodule, 40))
        paths = [tmp_path / f"{name}.nii.gz" for name in ("ct", "lungs", "nodule")]
        for volume, path in zip(
            (ct, masks.lungs, ct.with_array(nodule.astype(np.uint8))), paths, strict=True
        ):
            write_volume(volume, path)
        json = tmp_path / "new" / "findings.json"
        outcome = command("describe", paths[0], "--lungs", paths[1], "--lesion", paths[2], "--json", json)
        assert outcome.code == 0
        assert "14 x " in outcome.out or "14 mm" in outcome.out
        assert outcome.out.count("read by nobody: no diagnosis") == 1
        assert ChestFindings.model_validate_json(json.read_text()).nodules
        again = command("describe", paths[0], "--lungs", paths[1], "--json", json)
        assert "findings.json is there already and is not overwritten" in again.one_line

    def test_refusals(self, command: Command, tmp_path: Path) -> None:
        ct, _ = make_chest()
        write_volume(ct, tmp_path / "ct.nii.gz")
        write_volume(ct.with_array(np.zeros(SHAPE, np.uint8)), tmp_path / "empty.nii.gz")
        outcome = command("describe", tmp_path / "empty.nii.gz")
        assert "these are not HU: no value is below 0" in outcome.one_line
        outcome = command("describe", tmp_path / "ct.nii.gz", "--lungs", tmp_path / "empty.nii.gz")
        assert outcome.code == 2
        assert "the mask of the lungs is empty" in outcome.one_line
