"""Recipes: the papers' figures, and that the loop follows what they say."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lesionbrush.diffusion.schedules import cosine
from lesionbrush.errors import InvalidRequest
from lesionbrush.systems.lesion_inpainting import recipes as lesion
from lesionbrush.systems.lung_ddpm import recipes as layouts
from lesionbrush.systems.mddpm import recipes as slices
from lesionbrush.training.levels import EVEN
from lesionbrush.training.noising import DiffusionLoop, Noised
from lesionbrush.training.recipes import Loss, MovingAverage, Optimiser, Patches, Recipe, changes, resize

CPU = torch.device("cpu")


class TestPapers:
    @pytest.mark.parametrize("recipes", [layouts.WHOLE_RECIPES, layouts.CUBE_RECIPES])
    def test_lung_ddpm(self, recipes) -> None:
        """arXiv:2502.15204, Sec. III-B.2, Eq. 7 and Algorithm 1; the EMA's strides of the code it cites."""
        paper = recipes["paper"]
        assert (paper.steps, paper.schedule, paper.timesteps) == (100_000, "cosine", 250)
        assert (paper.optimiser.kind, paper.optimiser.learning_rate) == ("adam", 1e-5)
        assert {paper.optimiser.rate(done, paper.steps) for done in (0, 50_000, 99_999)} == {1e-5}
        assert (paper.average.decay, paper.average.every_steps) == (0.995, 10)
        assert (paper.patches.counts, paper.accumulate) == ((1,), 1)
        assert (paper.prediction, paper.loss) == ("eps", Loss(error="absolute", weighted=False))
        assert paper.levels.uniform_share == 1

    def test_the_two_networks_and_their_sizes(self) -> None:
        """As released: 128³ from x and two masks, 64³ from x and one."""
        whole, cube = layouts.WHOLE_RECIPES["paper"], layouts.CUBE_RECIPES["paper"]
        assert whole.patches.sides == (128,)
        assert (whole.network.in_channels, whole.network.channels) == (3, (64, 64, 128, 192, 256))
        assert cube.patches.sides == (64,)
        assert (cube.network.in_channels, cube.network.channels) == (2, (64, 128, 192, 256))

    def test_mddpm(self) -> None:
        """Krishna et al. 2025, Eqs. 5 and 6; Nichol & Dhariwal 2021, Appendix A, for what it leaves open."""
        paper = slices.RECIPES["paper"]
        assert paper.patches.sides == (512,)
        assert (paper.window.lo_hu, paper.window.hi_hu) == (-1000, 1000)
        assert (paper.prediction, paper.loss) == ("eps", Loss(weighted=False))
        assert paper.network.variance == "fixed_large"
        assert paper.patches.counts[0] * paper.accumulate == 128
        assert (paper.optimiser.learning_rate, paper.average.decay) == (1e-4, 0.9999)
        assert (paper.schedule, paper.timesteps) == ("cosine", 1000)

    def test_what_is_not_as_in_a_paper_is_said(self) -> None:
        for recipes in (layouts.WHOLE_RECIPES, layouts.CUBE_RECIPES, slices.RECIPES):
            assert recipes["paper"].differs
            assert f"{recipes['paper'].steps} steps" in recipes["paper"].cost()
        assert list(lesion.RECIPES) == ["ours"]


@dataclass
class Line:
    """One number an item, (1, 1, 2)."""

    image: torch.Tensor
    scored: torch.Tensor
    weight: torch.Tensor


def line(*values: float, weight: float = 1.0) -> Line:
    image = torch.tensor(values).reshape(1, 1, -1)
    return Line(image, torch.ones_like(image), torch.tensor([weight]))


def recipe(**changes) -> Recipe[None]:
    facts = {"name": "ours", "source": "a test", "network": None, "prediction": "x0", "steps": 100}
    return Recipe(**{**facts, "patches": Patches(sides=(2,), shares=(1.0,), counts=(1,)), **changes})


CONSTANT = Optimiser(
    learning_rate=0.1, betas=(0.9, 0.999), weight_decay=0.0, warmup_steps=0, cooldown_share=0, clip_norm=None
)


class Level(torch.nn.Module):
    """Says the same number everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.number = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.number.expand_as(x)


class Trainer(DiffusionLoop[Line]):
    def build(self) -> Level:
        return Level()

    def ask(self, network: torch.nn.Module, at: Noised, batch: Line) -> torch.Tensor:
        return network(at.noisy)


class TestLoop:
    @pytest.mark.parametrize("kind", ["adam", "adamw"])
    def test_the_optimiser_decays_as_its_kind_does(self, kind: str) -> None:
        """The first step of Adam has the size of the rate, whatever the gradient; AdamW shrinks as well."""
        optimiser = replace(CONSTANT, kind=kind, weight_decay=0.5)
        trainer = Trainer(recipe(optimiser=optimiser), CPU)
        trainer.network.number.data.fill_(4.0)
        trainer.step([line(0.0)])
        wanted = {"adam": 4 - 0.1, "adamw": 4 * (1 - 0.1 * 0.5) - 0.1}[kind]
        assert float(trainer.network.number) == pytest.approx(wanted, rel=1e-5)

    def test_accumulated_batches_are_one_larger_batch(self) -> None:
        apart = Trainer(recipe(optimiser=CONSTANT, accumulate=2), CPU)
        together = Trainer(recipe(optimiser=CONSTANT), CPU)
        both = Line(torch.tensor([[[1.0]], [[3.0]]]), torch.ones(2, 1, 1), torch.ones(2))
        losses = [apart.step([line(1.0), line(3.0)]), together.step([both])]
        assert [float(loss) for loss in losses] == pytest.approx([5.0, 5.0])  # (1 + 9) / 2
        gradients = [trainer.network.number.grad for trainer in (apart, together)]
        assert [float(gradient) for gradient in gradients] == pytest.approx([-4.0, -4.0])

    def test_fit_draws_as_many_batches_as_a_step_takes(self, tmp_path: Path) -> None:
        drawn = []

        class Source:
            rng = np.random.default_rng(0)

            def draw(self) -> Line:
                drawn.append(1)
                return line(1.0)

        Trainer(recipe(steps=3, accumulate=4), CPU).fit(Source(), Source(), tmp_path)
        assert len(drawn) == 12

    def test_the_gradient_is_clipped_where_the_recipe_says_so(self) -> None:
        for norm, wanted in ((None, -200.0), (1.0, -1.0)):
            trainer = Trainer(recipe(optimiser=replace(CONSTANT, clip_norm=norm)), CPU)
            trainer.step([line(100.0)])
            assert float(trainer.network.number.grad) == pytest.approx(wanted, rel=1e-4)

    def test_the_average_moves_every_ten_steps_by_its_decay(self) -> None:
        average = MovingAverage(decay=0.995, every_steps=10, young=False)
        trainer = Trainer(recipe(optimiser=CONSTANT, average=average), CPU)
        for _ in range(9):
            trainer.step([line(100.0)])
        assert float(trainer.average.number) == 0
        trainer.step([line(100.0)])
        assert float(trainer.average.number) == pytest.approx(0.005 * float(trainer.network.number))

    @pytest.mark.parametrize(("error", "wanted"), [("squared", 2.5), ("absolute", 1.5)])
    def test_l1_and_l2_of_what_the_network_says(self, error: str, wanted: float) -> None:
        trainer = Trainer(recipe(loss=Loss(error=error)), CPU)
        loss = trainer.loss(trainer.network, line(1.0, -2.0), torch.Generator().manual_seed(0))
        assert float(loss) == pytest.approx(wanted)

    def test_of_the_noise_an_l1_loss_is_its_mean_size(self) -> None:
        """Lung-DDPM, Eq. 7, with a network that says 0: E|eps|."""
        trainer = Trainer(recipe(prediction="eps", loss=Loss(error="absolute", weighted=False)), CPU)
        batch = line(*[0.3] * 40_000, weight=0.2)
        loss = float(trainer.loss(trainer.network, batch, torch.Generator().manual_seed(0)))
        assert loss == pytest.approx(math.sqrt(2 / math.pi), abs=0.02)

    def test_unweighted_only_what_is_known_counts_and_all_alike(self) -> None:
        batch = Line(
            torch.tensor([[[1.0, 2.0, 9.0]]]), torch.tensor([[[4.0, 1.0, 0.0]]]), torch.tensor([0.5])
        )
        for weighted, wanted in ((True, 0.5 * (4 * 1 + 4) / 5), (False, (1 + 4) / 2)):
            trainer = Trainer(recipe(loss=Loss(weighted=weighted)), CPU)
            loss = trainer.loss(trainer.network, batch, torch.Generator())
            assert float(loss) == pytest.approx(wanted)

    def test_a_run_of_another_recipe_is_not_gone_on_with(self, tmp_path: Path) -> None:
        Trainer(recipe(), CPU).save(tmp_path)
        with pytest.raises(InvalidRequest, match="--recipe ours"):
            Trainer(recipe(name="paper"), CPU).resume(tmp_path)
        state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
        del state["recipe"]  # as before there were recipes
        torch.save(state, tmp_path / "checkpoint.pt")
        assert Trainer(recipe(), CPU).resume(tmp_path)


class TestReading:
    @pytest.mark.parametrize("spread", [1.0, 0.25])
    @pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
    def test_the_target_gives_the_clean_image_back(self, prediction, spread: float) -> None:
        clean = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(1)).double()
        at = Noised.draw(clean, cosine(50), EVEN, torch.Generator().manual_seed(2))
        target = at.target(prediction, spread)
        torch.testing.assert_close(at.estimate(target, prediction, spread), clean, rtol=1e-4, atol=1e-4)

    def test_v_has_unit_variance_for_images_of_its_spread(self) -> None:
        clean = 0.25 * torch.randn(1, 1, 40_000, generator=torch.Generator().manual_seed(1))
        at = Noised.draw(clean, cosine(50), EVEN, torch.Generator().manual_seed(2))
        assert float(at.target("v", 0.25).std()) == pytest.approx(1, abs=0.02)


class TestSizes:
    def test_what_is_changed_is_said(self) -> None:
        paper = layouts.WHOLE_RECIPES["paper"]
        used = resize(paper, (32, 64), (32, 64))
        assert used.network.attention == (True, False)  # the deepest levels keep theirs
        assert used.patches.shares == (0.5, 0.5)
        said = list(changes(paper, replace(used, optimiser=replace(used.optimiser, learning_rate=1e-3))))
        assert "optimiser.learning_rate 0.001 instead of 1e-05" in said
        assert "patches.sides (32, 64) instead of (128,)" in said
        assert len(said) == 6
        assert list(changes(paper, paper)) == []

    @pytest.mark.parametrize(
        ("sides", "channels", "said"), [((20,), None, "--sides 20"), (None, (20,), "--channels 20")]
    )
    def test_sizes_that_do_not_fit_are_refused(self, sides, channels, said: str) -> None:
        with pytest.raises(InvalidRequest, match=said):
            resize(layouts.WHOLE_RECIPES["paper"], sides, channels)

    def test_a_batch_of_slices_has_the_voxels_of_its_scale(self) -> None:
        patches = Patches(sides=(64,), shares=(1.0,), voxels_per_batch=10_000)
        assert patches.draw(np.random.default_rng(0)) == (64, 2)
        assert replace(patches, scale=2).draw(np.random.default_rng(0)) == (64, 4)
        assert replace(patches, sides=(512,)).draw(np.random.default_rng(0)) == (512, 1)
