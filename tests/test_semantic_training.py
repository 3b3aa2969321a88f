"""Training of semantic CT: what a pack knows, what a batch shows, what the loss is of, how a run goes."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lesionbrush.diffusion.schedules import linear
from lesionbrush.engines.evaluator import Evaluator
from lesionbrush.errors import InvalidRequest
from lesionbrush.systems.semantic import sheets
from lesionbrush.systems.semantic.classes import BODY, BONE, OUTSIDE, UNKNOWN
from lesionbrush.systems.semantic.data import SemanticBatches, SliceFrame, draw_field, mirror_classes
from lesionbrush.systems.semantic.diffusion import SemanticDiffusion, Walk
from lesionbrush.systems.semantic.network import CONDITIONINGS, SemanticUNet, SemanticUNetConfig
from lesionbrush.systems.semantic.pack import ClassedCT, load_classed, write_pack
from lesionbrush.systems.semantic.recipes import RECIPES, SemanticRecipe
from lesionbrush.systems.semantic.trainer import SemanticTrainer
from lesionbrush.systems.semantic.training import SemanticTraining
from lesionbrush.training.recipes import Patches
from lesionbrush.training.trainings import Run
from semantic_kit import write_semantic_data
from torch import Tensor

TINY = SemanticUNetConfig(channels=(8, 16), attention=(False, True), heads=2, norm_groups=4)
QUICK = replace(
    RECIPES["ours"],
    network=TINY,
    patches=Patches(sides=(32,), shares=(1.0,), counts=(2,)),
    steps=2,
    validate_every=2,
    validation_batches=1,
    validations_per_sheet=1,
)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_semantic_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def pack(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pack") / "pack.npz"
    write_pack(data, path)
    return path


def batches(cts: list[ClassedCT], recipe: SemanticRecipe = QUICK, seed: int = 0) -> SemanticBatches:
    return SemanticBatches(cts, recipe, np.random.default_rng(seed), recipe.patches)


def named(pack: Path, name: str) -> ClassedCT:
    both = [*load_classed(pack, validation=False), *load_classed(pack, validation=True)]
    return next(one for one in both if one.name == name)


class TestPack:
    def test_the_held_out_patient_is_in_validation_alone(self, pack: Path) -> None:
        sides = {flag: [one.name for one in load_classed(pack, validation=flag)] for flag in (False, True)}
        assert sides == {False: ["CRLM-CT-1006", "TCGA-09-2043", "R01-001"], True: ["CRLM-CT-1004"]}

    def test_an_abdomen_has_organs_body_and_tissues(self, pack: Path) -> None:
        labels = named(pack, "CRLM-CT-1006").labels
        assert {1, 2, 3, 6, BONE} <= set(np.unique(labels))
        assert UNKNOWN not in labels
        assert labels[5, 0, 0] == OUTSIDE

    def test_of_one_three_labels_in_some_slices_count_and_all_else_is_unknown(self, pack: Path) -> None:
        one = named(pack, "TCGA-09-2043")
        assert set(np.unique(one.labels)) == {2, 3, 6, UNKNOWN}
        known = np.flatnonzero((one.labels != UNKNOWN).any(axis=(1, 2)))
        assert known.min() >= 80
        assert known.max() <= 146
        assert not one.scores_unknown

    def test_a_chest_is_body_above_the_liver_and_unknown_below(self, pack: Path) -> None:
        labels = named(pack, "R01-001").labels
        assert (labels[:54] == UNKNOWN).all()
        assert not np.isin(labels[54:], (UNKNOWN, 1, 2, 3, 6)).any()

    def test_without_abdomens_there_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="holds no abdomen_ct: point --data at the training data"):
            write_pack(tmp_path, tmp_path / "pack.npz")


def striped() -> ClassedCT:
    """Its HU tell its classes: 20 for each number."""
    labels = np.zeros((2, 60, 60), np.uint8)
    labels[:, 10:50, 10:50] = BODY
    labels[:, 15:30, 15:45] = 6
    labels[:, 32:46, 12:28] = 3
    return ClassedCT("striped", (20 * labels.astype(np.int16)), labels, np.array([5.0, 2.0, 2.0]), True, 1.0)


class TestBatches:
    def test_image_and_layout_are_cropped_mirrored_and_deformed_together(self) -> None:
        """HU tell the classes of the pixels they came with; a layout three pixels aside fits less well."""
        drawn = batches([striped()], replace(QUICK, deform_mm=15.0))
        fits: list[tuple[float, float]] = []
        for _ in range(20):
            one = drawn.sample(32)
            mirrored = np.isin(2, one.labels) and not np.isin(3, one.labels)
            hu = 20.0 * (mirror_classes(one.labels) if mirrored else one.labels)
            near = [np.abs(one.hu - wish) < 40 for wish in (hu, np.roll(hu, 3, axis=1))]
            body = one.labels != OUTSIDE
            fits.append((float(near[0][body].mean()), float(near[1][body].mean())))
        own, aside = np.mean(fits, axis=0)
        assert own > 0.85
        assert own > aside + 0.1

    def test_a_mirrored_patient_has_kidneys_of_the_other_side(self) -> None:
        found = mirror_classes(np.array([1, 2, 3, 11, 12, 16, UNKNOWN], np.uint8))
        assert found.tolist() == [1, 3, 2, 12, 11, 16, UNKNOWN]

    def test_a_field_is_smooth_and_bounded(self) -> None:
        field = draw_field(64, np.random.default_rng(0))
        assert np.abs(field).max() < 2
        assert np.abs(np.diff(field, axis=0)).max() < 0.2

    def test_whole_slices_are_resized(self) -> None:
        """As published: each side of the slice on 32 pixels, whatever its shape."""
        ct = striped()
        spacing = np.array([60 * 2 / 32, 60 * 2 / 32])
        frame = SliceFrame.around(np.full(2, 59.0), 32, spacing)
        _, labels = frame.cut(ct, 0)
        one = batches([ct], replace(QUICK, whole=True, deform_mm=0.0)).sample(32)
        assert sorted(np.bincount(one.labels.ravel())) == sorted(np.bincount(labels.ravel()))

    @pytest.mark.parametrize(("share", "dropped"), [(0.0, False), (1.0, True)])
    def test_the_layout_is_dropped_now_and_then(self, share: float, dropped: bool) -> None:
        recipe = replace(QUICK, drop_layout=share)
        conditions = batches([striped()], recipe).draw().conditions
        assert bool((conditions == -1).all()) is dropped

    def test_tissues_are_told_to_networks_that_know_them(self, pack: Path) -> None:
        ct = named(pack, "CRLM-CT-1006")
        for tissues, drop, most in ((False, 0.0, 16), (True, 1.0, 16), (True, 0.0, 19)):
            recipe = replace(
                QUICK, network=replace(TINY, tissues=tissues), drop_tissues=drop, drop_layout=0.0
            )
            found = batches([ct], recipe).draw().conditions * (20 if tissues else 16)
            assert round(float(found.max())) == most

    def test_what_is_unknown_is_not_scored(self, pack: Path) -> None:
        batch = batches([named(pack, "TCGA-09-2043")], replace(QUICK, drop_layout=0.0)).draw()
        unknown = batch.conditions[:, :1] == -1
        assert unknown.any()
        assert torch.equal(batch.scored == 0, unknown)

    def test_an_empty_side_is_refused(self) -> None:
        with pytest.raises(InvalidRequest, match="one side of the split has no CT"):
            batches([])


class TestLoss:
    def loss(self, trainer: SemanticTrainer, network: Any, pack: Path) -> float:
        batch = batches([named(pack, "TCGA-09-2043")], replace(QUICK, drop_layout=0.0)).draw()
        trainer.asked = batch  # type: ignore[attr-defined]
        return float(trainer.loss(network, batch, torch.Generator().manual_seed(0)))

    def test_errors_in_what_is_unknown_count_for_nothing(self, pack: Path) -> None:
        trainer = SemanticTrainer(QUICK, CPU)

        def wrong(where: float) -> Any:
            def said(noisy: Tensor, t: Tensor, conditions: Tensor) -> Tensor:
                unknown = (conditions[:, :1] == -1).float()
                out = torch.zeros(len(noisy), 2, *noisy.shape[2:])
                out[:, :1] = 100.0 * (unknown if where == 0 else 1 - unknown)
                return out

            return said

        assert self.loss(trainer, wrong(0), pack) < 10
        assert self.loss(trainer, wrong(1), pack) > 1000

    def test_it_learns_its_variance(self) -> None:
        trainer = SemanticTrainer(QUICK, CPU)
        batch = batches([striped()]).draw()
        trainer.loss(trainer.network, batch, trainer.rng).backward()
        last = trainer.network.last[2].bias.grad
        assert (last.abs() > 0).all()  # type: ignore[union-attr]
        fixed = replace(QUICK, network=replace(TINY, variance="fixed_small"))
        assert SemanticTrainer(fixed, CPU).network.last[2].bias.shape == (1,)


class TestRecipes:
    def test_the_paper_s(self) -> None:
        paper = RECIPES["paper"]
        alphas = linear(1000).alphas_bar
        assert (paper.schedule, paper.timesteps, len(alphas)) == ("linear", 1000, 1000)
        assert paper.scale.to_unit(np.array([-160.0, 240.0])).tolist() == [-1, 1]
        assert paper.patches.counts[0] * paper.accumulate == 16
        assert (paper.steps, paper.optimiser.learning_rate, paper.prediction) == (150_000, 1e-4, "eps")
        assert paper.network.scale_shift
        assert paper.network.variance == "learned_range"
        assert len(paper.differs) == 4

    @pytest.mark.parametrize("name", RECIPES)
    @pytest.mark.parametrize("kind", CONDITIONINGS)
    def test_each_fits_each_conditioning(self, name: str, kind: str) -> None:
        options = Namespace(sides=None, channels=None, conditioning=kind)
        recipe = SemanticTraining().adapt(RECIPES[name], options)
        with torch.device("meta"):
            network = SemanticUNet(recipe.network)
        assert network.config.conditioning == kind
        assert all(side % network.config.multiple == 0 for side in recipe.patches.sides)


class TestRuns:
    @pytest.mark.parametrize("kind", CONDITIONINGS)
    def test_one_begins_draws_and_goes_on(
        self, kind: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sheets, "STEPS", 2)
        monkeypatch.setattr(sheets, "SLICES", 2)
        training, run = SemanticTraining(), Run(data=data, out=tmp_path, device="cpu")
        options = Namespace(sides=None, channels=None, conditioning=kind)
        recipe = training.adapt(QUICK, options)
        training.run(recipe, run)
        assert (tmp_path / "samples-000002.png").stat().st_size > 1000
        training.run(replace(recipe, steps=3), run)
        state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
        assert state["progress"]["step"] == 3
        other = "conditional" if kind == "mask_guided" else "mask_guided"
        options.conditioning = other
        with pytest.raises(InvalidRequest, match="holds a run of the recipe"):
            training.run(training.adapt(QUICK, options), run)

    def test_other_widths_take_the_second_encoder_with_them(self) -> None:
        options = Namespace(sides=[32], channels=[8, 24, 40], conditioning="mask_guided")
        recipe = SemanticTraining().adapt(RECIPES["ours"], options)
        assert recipe.network.joined == (8, 24, 0)
        with pytest.raises(InvalidRequest, match="--channels 12: widths must be multiples of 8"):
            SemanticTraining().adapt(RECIPES["ours"], Namespace(**{**vars(options), "channels": [12]}))


class TestSampling:
    def diffusion(self, **changes: Any) -> SemanticDiffusion:
        torch.manual_seed(0)
        network = SemanticUNet(replace(TINY, **changes)).eval()
        for parameter in network.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.05)
        return SemanticDiffusion(Evaluator(network), linear(1000), 0.6, (-1.0, 1.0))

    @pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm_solver_pp_2m"])
    @pytest.mark.parametrize("variance", ["learned_range", "fixed_small"])
    @torch.inference_mode()
    def test_every_sampler_makes_slices_in_the_window(self, sampler: str, variance: str) -> None:
        diffusion = self.diffusion(variance=variance)
        rng = torch.Generator().manual_seed(0)
        walk = Walk(torch.randn(2, 1, 16, 16, generator=rng), [900, 500, 100], rng)
        made = diffusion.sample(sampler, diffusion.denoiser(torch.zeros(2, 1, 16, 16)), walk)
        assert made.shape == (2, 1, 16, 16)
        assert made.abs().max() <= 1

    @torch.inference_mode()
    def test_strength_goes_beyond_what_a_layout_changes(self) -> None:
        diffusion = self.diffusion(prediction="x0")
        diffusion.clip = (-9.0, 9.0)
        x = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        conditions, nothing = torch.full_like(x, 0.5), torch.full_like(x, -1.0)
        told, untold = (diffusion.denoiser(one)(x, 500) for one in (conditions, nothing))
        twice = diffusion.denoiser(conditions, 2.0)(x, 500)
        torch.testing.assert_close(twice, 2 * told - untold)
        assert not torch.allclose(told, untold, atol=1e-4)
