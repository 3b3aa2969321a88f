"""Training of Med-DDPM: what a batch shows and hides, what the loss is of, how a run begins and goes on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lesionbrush.cli.__main__ import main
from lesionbrush.core.hu import HUScale, HUWindow, unit_ends
from lesionbrush.diffusion.preconditioning import image_from
from lesionbrush.errors import WeightsError
from lesionbrush.systems.lesion_inpainting.soft_tissue.data import SCALE, SoftBatches, SoftPack
from lesionbrush.systems.med_ddpm.data import MaskedBatch, MaskedBatches
from lesionbrush.systems.med_ddpm.recipes import RECIPES, MaskedRecipe
from lesionbrush.systems.med_ddpm.sheets import draft_model, hole_sheet
from lesionbrush.systems.med_ddpm.trainer import FIRST_LAYER, MedDDPMTrainer
from lesionbrush.systems.med_unet import MedUNet, MedUNetConfig
from lesionbrush.training.recipes import Loss, Patches
from PIL import Image
from test_soft_tissue_training import phantom_pack

__all__ = ["phantom_pack"]

CPU = torch.device("cpu")
TINY = MedUNetConfig(4, (8, 16), (False, True), norm_groups=4)
PATCHES = Patches(sides=(16,), shares=(1.0,), counts=(2,))
WINDOW = HUWindow(-150.0, 250.0)
Answer = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def trainer(**changes: Any) -> MedDDPMTrainer:
    recipe = replace(RECIPES["ours"], network=TINY, patches=PATCHES, steps=4, **changes)
    return MedDDPMTrainer(recipe, CPU)


def batches(pack: Path, scale: HUScale = SCALE, drop_fill: float = 0.0, **more: Any) -> MaskedBatches:
    margin_mm = more.get("margin_mm", (2.0, 5.0))
    seen = SoftPack(pack, held_out=more.get("held_out", False))
    source = SoftBatches(seen, np.random.default_rng(more.get("seed", 0)), PATCHES, margin_mm)
    return MaskedBatches(source, scale, drop_fill)


class TestBatches:
    @pytest.mark.parametrize("scale", [SCALE, WINDOW])
    def test_what_is_scored_is_hidden_and_what_the_scale_can_hold(
        self, phantom_pack: Path, scale: HUScale
    ) -> None:
        source = batches(phantom_pack, scale)
        low, high = unit_ends(scale)
        for _ in range(6):
            batch = source.draw()
            assert batch.image.shape == (2, 1, 16, 16, 16)
            assert not (batch.visible * batch.scored).any()
            assert not (batch.visible * batch.mask).any()
            assert set(batch.mask.unique().tolist()) <= {0.0, 1.0}
            assert float(batch.image.min()) >= low - 1e-6
            assert float(batch.image.max()) <= high + 1e-6
            assert all(torch.isfinite(part).all() for part in vars(batch).values())

    def test_air_in_the_hole_is_not_scored_in_a_window(self, phantom_pack: Path) -> None:
        whole, windowed = (batches(phantom_pack, scale, seed=1) for scale in (SCALE, WINDOW))
        found = 0
        for _ in range(12):
            all_hu, clipped = whole.draw(), windowed.draw()
            beyond = (all_hu.image < SCALE.to_unit(np.full(1, -151.0)).item()) & (all_hu.scored > 0)
            found += int(beyond.sum())
            assert not clipped.scored[beyond].any()
        assert found > 0

    def test_without_a_margin_the_hole_is_the_mask(self, phantom_pack: Path) -> None:
        source = batches(phantom_pack, margin_mm=(0.0, 0.0))
        for _ in range(4):
            batch = source.draw()
            assert not (batch.scored * (1 - batch.mask)).any()

    def test_tumours_and_healthy_tissue_are_told_apart_or_left_open(self, phantom_pack: Path) -> None:
        def told(drop_fill: float, draws: int) -> list[float]:
            source = batches(phantom_pack, drop_fill=drop_fill)
            return [number for _ in range(draws) for number in source.draw().content.tolist()]

        assert set(told(0.0, 20)) == {1.0, -1.0}
        assert set(told(1.0, 3)) == {0.0}
        assert 0.2 < np.mean([number == 0 for number in told(0.5, 30)]) < 0.8

    def test_everything_comes_from_the_generator(self, phantom_pack: Path) -> None:
        one, again = (batches(phantom_pack, drop_fill=0.5).draw() for _ in range(2))
        assert all(torch.equal(part, getattr(again, name)) for name, part in vars(one).items())


def masked_batch() -> MaskedBatch:
    """A hole of 6³ voxels, of which one layer is not scored; in it a mask of 4³."""
    image = torch.rand(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0)) - 0.5
    hole, mask = torch.zeros_like(image), torch.zeros_like(image)
    hole[..., 5:11, 5:11, 5:11] = 1
    mask[..., 6:10, 6:10, 6:10] = 1
    scored = hole.clone()
    scored[..., 5] = 0
    return MaskedBatch(image, 1 - hole, mask, torch.tensor([1.0, -1.0]), scored, torch.ones(2))


class Answers(torch.nn.Module):
    """Says `answer(inputs, timesteps)`, and remembers the inputs."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer, self.inputs = answer, list[torch.Tensor]()

    def forward(self, inputs: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        self.inputs.append(inputs)
        return self.answer(inputs, timesteps)


def zero(inputs: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(inputs[:, :1])


def loss_of(run: MedDDPMTrainer, answer: Answer, batch: MaskedBatch) -> float:
    return float(run.loss(Answers(answer), batch, torch.Generator().manual_seed(1)))


class TestLoss:
    @pytest.mark.parametrize("recipe", ["ours", "paper"])
    def test_outside_the_mask_nothing_is_scored(self, recipe: str) -> None:
        """Whatever is said there, and wherever a hole has no truth."""
        one = RECIPES[recipe]
        run = trainer(prediction=one.prediction, data_spread=one.data_spread, loss=one.loss)
        batch = masked_batch()

        def wild(inputs: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
            return torch.where(batch.scored > 0, 0.0, 1e3)

        def wrong(inputs: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
            return torch.where(batch.scored > 0, 1e3, 0.0)

        calm = loss_of(run, zero, batch)
        assert loss_of(run, wild, batch) == calm > 0
        assert loss_of(run, wrong, batch) > 100 * calm

    def test_where_nothing_is_scored_there_is_no_gradient(self) -> None:
        run, batch = trainer(), masked_batch()
        batch = replace(batch, scored=torch.zeros_like(batch.scored))
        run.loss(run.network, batch, torch.Generator().manual_seed(1)).backward()
        assert all(p.grad is None or not p.grad.any() for p in run.network.parameters())

    @pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
    def test_the_right_answer_costs_nothing(self, prediction: Any) -> None:
        run, batch = trainer(prediction=prediction, loss=Loss(), data_spread=1.0), masked_batch()

        def right(inputs: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
            alpha_bar = run.schedule.alphas_bar[timesteps].reshape(-1, 1, 1, 1, 1)
            alpha, sigma = alpha_bar.sqrt().float(), (1 - alpha_bar).sqrt().float()
            noise = (inputs[:, :1] - alpha * batch.image) / sigma
            v = alpha * noise - sigma * batch.image
            said = {"eps": noise, "x0": batch.image, "v": v}[prediction]
            found = image_from(prediction, inputs[:, :1], said, alpha, sigma, 1.0)
            torch.testing.assert_close(found, batch.image, atol=1e-3, rtol=0)
            return said

        assert loss_of(run, right, batch) < 1e-6

    def test_the_network_sees_noise_all_over_and_beside_it_what_is_known(self) -> None:
        run, batch = trainer(), masked_batch()
        network = Answers(zero)
        run.loss(network, batch, torch.Generator().manual_seed(1))
        (inputs,) = network.inputs
        noisy, shown, mask, content = inputs.split(1, dim=1)
        assert not torch.isclose(noisy, batch.image).all(dim=(1, 2, 3, 4)).any()
        assert torch.equal(shown, batch.image * batch.visible)
        assert torch.equal(mask, batch.mask)
        assert torch.equal(content, batch.mask * batch.content.reshape(-1, 1, 1, 1, 1))

    def test_a_network_of_no_classes_is_told_none(self) -> None:
        run = trainer()
        run.recipe = replace(run.recipe, network=replace(TINY, in_channels=3))
        network = Answers(zero)
        run.loss(network, masked_batch(), torch.Generator().manual_seed(1))
        assert network.inputs[0].shape[1] == 3


class TestStart:
    def test_with_weights_of_lung_ddpm_plus_it_says_the_same_at_first(self) -> None:
        torch.manual_seed(0)
        other, run = MedUNet(replace(TINY, in_channels=2)), trainer()
        torch.nn.init.normal_(other.out[2].conv.weight, std=0.1)
        other.half().float()  # as they are shipped
        run.start_from({name: weight.half() for name, weight in other.state_dict().items()})
        x, shown, mask, content = torch.randn(4, 1, 1, 16, 16, 16)
        t = torch.tensor([100])
        with torch.inference_mode():
            ours = run.network.eval()(torch.cat((x, shown, mask, content), dim=1), t)
            theirs = other.eval()(torch.cat((x, mask), dim=1), t)
        assert theirs.any()
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)

    def test_its_own_weights_are_taken_as_they_are(self) -> None:
        run, other = trainer(), MedUNet(TINY)
        run.start_from(other.state_dict())
        assert torch.equal(run.network.state_dict()[FIRST_LAYER], other.state_dict()[FIRST_LAYER])

    def test_those_of_another_size_are_refused(self) -> None:
        other = MedUNet(replace(TINY, channels=(16, 16)))
        with pytest.raises((WeightsError, RuntimeError), match=r"size mismatch|do not fit"):
            trainer().start_from(other.state_dict())


class TestRecipes:
    @pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
    def test_they_load(self, recipe: MaskedRecipe) -> None:
        """The networks fit their cubes, and there is a card for what they make."""
        network = recipe.network
        assert all(side % network.multiple == 0 for side in recipe.patches.sides)
        with torch.device("meta"):
            count = sum(p.numel() for p in MedUNet(network).parameters())
        assert count < 41e6

    def test_the_paper_s(self) -> None:
        """Sedykh 2024, Secs. 3.2.3, 3.4, 4.3; the rest is of arXiv:2502.15204, Sec. III-B.2."""
        paper = RECIPES["paper"]
        assert (paper.timesteps, paper.schedule, paper.prediction) == (250, "cosine", "eps")
        assert (paper.patches.sides, paper.patches.counts, paper.steps) == ((128,), (1,), 100_000)
        assert paper.loss == Loss(error="absolute", weighted=False)
        assert (paper.optimiser.kind, paper.optimiser.learning_rate) == ("adam", 1e-5)
        assert paper.average.decay == 0.995
        assert paper.scale == HUWindow(50 - 200, 50 + 200)
        assert (paper.network.in_channels, paper.margin_mm) == (3, (0.0, 0.0))
        with torch.device("meta"):
            assert sum(p.numel() for p in MedUNet(paper.network).parameters()) == 40_226_433
        assert any("states no size" in remark for remark in paper.differs)


class TestRuns:
    def test_a_run_goes_on_bit_for_bit(self, phantom_pack: Path, tmp_path: Path) -> None:
        def go(from_: MedDDPMTrainer, steps: int) -> MedDDPMTrainer:
            source = batches(phantom_pack)
            source.rng = from_.numpy_rng
            for _ in range(steps):
                from_.step([source.draw()])
            return from_

        whole = go(trainer(), 3)
        go(trainer(), 2).save(tmp_path)
        second = trainer()
        assert second.resume(tmp_path)
        go(second, 1)
        for a, b in zip(whole.average.parameters(), second.average.parameters(), strict=True):
            assert torch.equal(a, b)

    def test_a_picture_shows_how_far_it_is(
        self, phantom_pack: Path, tmp_path: Path, monkeypatch: Any
    ) -> None:
        monkeypatch.setattr("lesionbrush.systems.med_ddpm.sheets.CUBES", 2)
        run = trainer()
        held_out = batches(phantom_pack, held_out=True)
        hole_sheet(run, held_out, tmp_path / "sheet.png")
        with Image.open(tmp_path / "sheet.png") as picture:
            assert picture.width > 100
        assert draft_model(run).section.is_told


@pytest.mark.slow
def test_the_command_trains_goes_on_and_draws(
    phantom_pack: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr("lesionbrush.systems.med_ddpm.sheets.CUBES", 1)
    shutil.copy(phantom_pack, tmp_path / "pack.npz")
    command = ["train", "med_ddpm", "--data", str(phantom_pack.parent), "--out", str(tmp_path)]
    command += ["--device", "cpu", "--sides", "16", "--channels", "8", "16", "--steps"]
    assert main([*command, "2"]) == 0
    assert main([*command, "3"]) == 0
    assert "going on from step 2 of 3" in capsys.readouterr().out
    with Image.open(tmp_path / "samples-000003.png") as picture:
        assert picture.width > 100
