"""`evaluate semantic`: figures known in closed form, what training left, and the command."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_kit import Command
from lesionbrush.errors import InvalidRequest, WeightsError
from lesionbrush.evaluation.inpainting import organ_reader
from lesionbrush.evaluation.semantic import finder, picture, scores, study
from lesionbrush.evaluation.semantic.finder import trained_finder
from lesionbrush.evaluation.semantic.results import SemanticReport
from lesionbrush.evaluation.semantic.scores import (
    DICE,
    FID,
    PSNR,
    SSIM,
    ScoredSlices,
    as_fills,
    figures_of,
    pooled_dice,
)
from lesionbrush.evaluation.semantic.slices import (
    class_means,
    classes_in,
    cut_slices,
    frame_of,
    make_slices,
    numbers_beside,
    painted_hu,
)
from lesionbrush.evaluation.semantic.stages import SamplingStart, card_of, last_stages, list_stages
from lesionbrush.evaluation.semantic.study import compare
from lesionbrush.evaluation.semantic.tables import lines
from lesionbrush.systems.palette.fills import fill_number
from lesionbrush.systems.semantic.classes import BODY, BONE, CLASSES, OUTSIDE, TISSUES
from lesionbrush.systems.semantic.network import CONDITIONINGS
from lesionbrush.systems.semantic.pack import ClassedCT
from PIL import Image
from semantic_kit import install_semantic, painting, semantic_card, semantic_model
from semantic_study_kit import HOW, RECIPE, scorer, slices_of

pytest_plugins = ("cli_fixtures", "semantic_study_kit")


class TestSlices:
    def test_the_frame_holds_the_body_on_the_largest_square(self, patient: ClassedCT) -> None:
        slices = slices_of(patient)
        assert slices.hu.shape == slices.labels.shape == (12, 64, 64)
        assert slices.pixel_mm == 4.0
        edge = np.concatenate([slices.labels[:, 0], slices.labels[:, -1], slices.labels[:, :, 0]])
        assert (edge == OUTSIDE).all()
        assert slices.organs == [1, 2, 3, 6]
        few = slices_of(patient, semantic_card().model_copy(update={"roi_voxels": (32,)}))
        assert few.hu.shape == (12, 32, 32)
        assert few.pixel_mm > 5

    def test_a_ct_without_a_body_is_refused(self, patient: ClassedCT) -> None:
        with pytest.raises(InvalidRequest, match="CRLM-CT-1004 shows no body"):
            frame_of(replace(patient, labels=np.zeros_like(patient.labels)), semantic_card())

    def test_they_are_made_of_the_layout_alone(self, patient: ClassedCT) -> None:
        slices = slices_of(patient)
        made = make_slices(painting(), slices, HOW)
        assert abs(float(np.median(made[slices.labels == 6])) - 120) < 1
        assert abs(float(np.median(made[slices.labels == BODY])) + 60) < 1
        other = replace(slices, hu=np.zeros_like(slices.hu))
        assert np.array_equal(made, make_slices(painting(), other, HOW))

    def test_no_slice_knows_its_neighbours_and_every_seed_is_another(self, patient: ClassedCT) -> None:
        slices = slices_of(patient)
        one = make_slices(semantic_model(), slices.pick(np.array([5, 6])), HOW)
        same = make_slices(semantic_model(), slices.pick(np.array([5, 9])), replace(HOW, seeds=2))
        assert np.allclose(one[0], same[0], atol=1e-3)
        assert same.shape == (4, 64, 64)
        assert not np.allclose(same[0], same[2], atol=1)

    def test_the_slice_beside_is_above_and_below_at_the_top(self) -> None:
        assert numbers_beside(np.array([0, 5, 11]), 12, 5.0).tolist() == [6, 11, 5]

    def test_tissues_are_told_where_they_are_wanted(self, patient: ClassedCT) -> None:
        frame, pixel_mm = frame_of(patient, semantic_card())
        plain, full = (
            cut_slices(patient, frame, pixel_mm, np.arange(12), tissues=flag) for flag in (False, True)
        )
        assert np.array_equal(plain.told, plain.labels)
        assert np.array_equal(full.labels, plain.labels)
        assert BONE in full.told
        assert class_means([patient], tissues=True)[BONE] > class_means([patient])[BODY]

    def test_means_of_classes(self, patient: ClassedCT) -> None:
        means = class_means([patient])
        assert means[6] == pytest.approx(110, abs=2)
        assert means[OUTSIDE] == pytest.approx(-160, abs=5)
        assert means[13] < -900
        assert classes_in([patient]) == ("spleen", "right kidney", "left kidney", "liver", "body")
        painted = painted_hu([patient])
        assert {"outside", "liver", "bone"} <= set(painted) <= set(CLASSES) - {"body"}
        assert painted["liver"] == pytest.approx(110, abs=2)
        assert painted["outside"] == pytest.approx(-1000, abs=5)


class TestFigures:
    def test_the_real_slice_is_perfect_and_another_is_not(self, patient: ClassedCT) -> None:
        slices = slices_of(patient)
        same = figures_of(scorer().score(slices, slices.hu))
        assert same.ssim is not None
        assert same.fid is not None
        assert same.psnr is not None
        assert same.ssim.value == pytest.approx(1)
        assert same.fid.value == pytest.approx(0, abs=1e-6)
        assert same.psnr.value is None
        assert same.organ_slices["liver"] == int((slices.labels == 6).any(axis=(1, 2)).sum())
        other = figures_of(scorer().score(slices, np.roll(slices.hu, 6, axis=1)))
        assert other.ssim is not None
        assert (other.ssim.value or 1) < 0.9
        assert (other.organs["liver"].value or 0) < (same.organs["liver"].value or 0)

    def test_psnr_of_a_known_error(self, patient: ClassedCT) -> None:
        slices = slices_of(patient)
        grey = replace(slices, hu=np.full_like(slices.hu, 0.0))
        scored = scorer().score(grey, np.full_like(slices.hu, 40.0))
        assert scored.psnr == pytest.approx(np.full(12, 20.0))
        assert PSNR.of(scored).n == 12
        assert figures_of(scored, real=True).psnr is None

    def test_slices_without_an_organ_have_no_dice(self, patient: ClassedCT) -> None:
        bare = slices_of(patient).pick(np.array([0, 11]))
        found = figures_of(scorer().score(bare, bare.hu + 5))
        assert found.dice.value is None
        assert found.organs == {}
        assert found.psnr is not None
        assert found.psnr.value is not None

    def test_dice_is_of_all_slices_together(self) -> None:
        both, sizes = np.array([[5, 0], [0, 0]]), np.array([[10, 0], [10, 0]])
        assert pooled_dice(both, sizes) == 0.5
        assert np.isnan(pooled_dice(both[:, 1:], sizes[:, 1:]))

    def test_seeds_of_a_slice_stay_together(self, patient: ClassedCT) -> None:
        slices = slices_of(patient).pick(np.tile(np.arange(12), 2))
        scored = scorer().score(slices, slices.hu + 5)
        assert PSNR.of(scored).n == DICE.of(scored).n == 12

    def test_readers_see_organs_or_whole_slices(self, patient: ClassedCT) -> None:
        slices = slices_of(patient)
        organs, whole = (scorer(whole=flag).read(slices, slices.hu) for flag in (False, True))
        assert whole.slices.tolist() == list(range(12))
        with_some = np.isin(slices.labels, slices.organs).any(axis=(1, 2))
        assert 0 < len(set(organs.slices.tolist())) < 12
        assert with_some[organs.slices].all()
        assert as_fills(np.array([2, 3, 6, 13, BODY])).tolist() == [
            *[fill_number("kidney")] * 2,
            fill_number("liver"),
            0,
            0,
        ]


def scored_with(patient: ClassedCT, noise_hu: float, seed: int) -> ScoredSlices:
    slices = slices_of(patient)
    rng = np.random.default_rng(seed)
    return scorer().score(slices, slices.hu + rng.normal(0, noise_hu, slices.hu.shape))


class TestComparison:
    def test_less_noise_wins_clearly(self, patient: ClassedCT) -> None:
        noisy = {"good": 10.0, "bad": 60.0, "worse": 90.0}
        scored = {name: scored_with(patient, hu, seed=0) for name, hu in noisy.items()}
        found = {one.measure: one for one in compare(scored)}
        for measure in (PSNR, SSIM):
            one = found[measure.name]
            assert (one.best, one.next, one.is_clear) == ("good", "bad", True)
            assert "good is best, above bad by" in str(one)
            assert "more than its interval" in str(one)
        assert found[FID.name].best == "good"
        assert "below" in str(found[FID.name])

    def test_two_alike_have_no_winner(self, patient: ClassedCT) -> None:
        pair = {"one": scored_with(patient, 30, 1), "other": scored_with(patient, 30, 2)}
        found = {one.measure: one for one in compare(pair)}
        assert not found["PSNR"].is_clear
        assert "its interval holds 0: no winner" in str(found["PSNR"])
        assert list(compare({"one": pair["one"]})) == []


class TestStages:
    def test_every_checkpoint_once_by_conditioning_and_steps(self, runs: Path) -> None:
        stages = list_stages(runs, ("liver", "body"))
        assert [(one.name, one.conditioning, one.steps) for one in stages] == [
            (how, how, steps) for how in CONDITIONINGS for steps in (1, 2, 3)
        ]
        assert [one.steps for one in last_stages(stages)] == [3, 3, 3]
        model = stages[-1].model
        assert model.section.network.conditioning == "edge_guided"
        assert model.section.classes == ("liver", "body")
        recipe = replace(RECIPE, network=replace(RECIPE.network, tissues=True))
        assert card_of(recipe, ("liver",), "one").section["classes"] == ["liver", *TISSUES]
        start = SamplingStart({"liver": 100.0}, 1.6, 0.3)
        section = list_stages(runs, ("liver", "body"), start)[0].model.section
        assert (section.class_hu, section.painted_above, section.coarse_noise) == ({"liver": 100.0}, 1.6, 0.3)
        state = torch.load(runs / "edge_guided" / "checkpoint.pt", weights_only=True)
        name = "first.weight"
        assert torch.equal(model.network.state_dict()[name], state["average"][name])

    def test_installed_ones(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LESIONBRUSH_MODELS", str(tmp_path))
        with pytest.raises(InvalidRequest, match="no model of semantic CT is installed: train with"):
            list_stages(None, ())
        install_semantic(tmp_path)
        (one,) = list_stages(None, ())
        assert (one.name, one.conditioning) == ("semantic", "conditional")
        assert one.model.card.name == "semantic"

    def test_what_is_no_checkpoint_is_told(self, tiny: None, tmp_path: Path) -> None:
        with pytest.raises(InvalidRequest, match="holds none: train with"):
            list_stages(tmp_path, ())
        path = tmp_path / "one" / "checkpoint.pt"
        path.parent.mkdir()
        path.write_bytes(b"nothing")
        with pytest.raises(WeightsError, match=r"one/checkpoint\.pt is no checkpoint of a training"):
            list_stages(tmp_path, ())
        torch.save({"average": {}}, path)
        with pytest.raises(WeightsError, match="lacks progress, recipe"):
            list_stages(tmp_path, ())
        torch.save({"average": {}, "recipe": "ours-3d", "progress": {"step": 1}}, path)
        with pytest.raises(WeightsError, match="recipe 'ours-3d', which `train semantic` does not know"):
            list_stages(tmp_path, ())
        torch.save({"average": {}, "recipe": "ours", "progress": {"step": 1}}, path)
        (stage,) = list_stages(tmp_path, ())
        with pytest.raises(WeightsError, match="does not fit the network of its recipe"):
            _ = stage.model


class TestPicture:
    def test_rows_go_up_and_one_is_nearly_empty(self, patient: ClassedCT) -> None:
        slices = slices_of(patient)
        rows = picture.pick_rows(slices)
        assert rows == sorted(rows)
        organs = [int(((slices.labels[r] > 0) & (slices.labels[r] < BODY)).sum()) for r in rows]
        assert min(organs) == 0
        assert sum(count > 0 for count in organs) == len(rows) - 1 >= 2
        bare = replace(slices, labels=np.where(slices.labels > 0, BODY, 0).astype(np.uint8))
        assert len(picture.pick_rows(bare)) == 1


class TestCommand:
    @pytest.fixture
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(organ_reader, "train_reader", partial(organ_reader.train_reader, steps=2))
        monkeypatch.setattr(study, "trained_finder", partial(trained_finder, steps=1))
        monkeypatch.setattr(finder, "SIDE", 32)
        monkeypatch.setattr(study, "EVALUATIONS", (1, 2))
        monkeypatch.setattr(study, "FEW", 2)
        monkeypatch.setattr(scores, "DRAWS", 10)

    def test_everything_is_printed_and_written(
        self, command: Command, runs: Path, data: Path, tmp_path: Path, quick: None
    ) -> None:
        out = tmp_path / "out"
        options = ("--runs", runs, "--slices", "6", "--steps", "2", "--data", data, "--out", out)
        said = command("evaluate", "semantic", *options)
        assert said.code == 0, said.err
        report = SemanticReport.model_validate_json((out / study.FILE).read_text(encoding="utf-8"))
        assert [one.trained_steps for one in report.trained] == [1, 2, 3] * 3
        assert len(report.evaluations) == 3 * 2 * 2
        assert [one.name for one in report.moved] == list(CONDITIONINGS)
        assert list(report.floors) == ["real slice 30 mm away", "mean HU by class"]
        for line in lines(report):
            assert line in said.out
        for words in ("| mask_guided |", "Over training:", "PSNR: ", "goal 0.8: missed", "this one patient"):
            assert words in said.out
        for name in (study.PICTURE, study.CURVES, study.MOVED):
            with Image.open(out / name) as opened:
                assert min(opened.size) > 200

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            (("--slices", "1"), "--slices 1: give a number of slices, 2 or more"),
            (("--steps", "0"), "--steps 0: give a number of evaluations, 1 or more"),
            (("--runs", "nowhere"), "--runs nowhere: there is no such folder"),
            (("--paint",), "--paint is for --runs: the card of an installed model says how it starts"),
            (("--cases", "3"), "take --slices N"),
            (("--quick",), "--quick does not belong to `evaluate semantic`"),
            (("--hole-mm", "30"), "--hole-mm 30.0 belongs to `evaluate inpainting`"),
            (("--reader", "none.pt"), "--reader none.pt: there is no such file"),
        ],
    )
    def test_wrong_use_is_one_line(
        self, command: Command, data: Path, tmp_path: Path, options: tuple[str, ...], reason: str
    ) -> None:
        said = command("evaluate", "semantic", "--data", data, "--out", tmp_path / "out", *options)
        assert said.code != 0
        assert reason in said.one_line

    def test_runs_belong_to_it_alone(self, command: Command, data: Path, tmp_path: Path) -> None:
        said = command("evaluate", "lesions", "--data", data, "--out", tmp_path, "--runs", data)
        assert "belongs to `evaluate semantic`" in said.one_line
