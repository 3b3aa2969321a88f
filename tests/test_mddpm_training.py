"""Training of the unconditional model: what a batch shows, what is scored, that a run can be gone on with."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lesionbrush.cli.__main__ import main
from lesionbrush.diffusion.samplers import ddpm
from lesionbrush.diffusion.schedules import FixedVariance
from lesionbrush.engines.evaluator import Evaluator
from lesionbrush.systems.lesion_inpainting.data import Pack
from lesionbrush.systems.mddpm import sheets as mddpm_sheets
from lesionbrush.systems.mddpm.data import (
    AIR_HU,
    PATCHES,
    SliceBatch,
    SliceBatches,
    frame_slice,
    mirror_slice,
)
from lesionbrush.systems.mddpm.guided import Start
from lesionbrush.systems.mddpm.network import DDPMUNet, DDPMUNetConfig
from lesionbrush.systems.mddpm.recipes import RECIPES
from lesionbrush.systems.mddpm.sheets import slice_sheet
from lesionbrush.systems.mddpm.trainer import SliceTrainer
from lesionbrush.systems.mddpm.unconditional import Unconditional
from lesionbrush.training.recipes import Patches, Recipe
from PIL import Image
from training_kit import WINDOW

pytest_plugins = "training_fixtures"
NETWORK = DDPMUNetConfig(channels=(8, 16), attention=(False, False), norm_groups=4)


def recipe(**changes) -> Recipe:
    """Ours, small and quick."""
    network = replace(NETWORK, **changes.pop("network", {}))
    optimiser = replace(RECIPES["ours"].optimiser, warmup_steps=2, **changes.pop("optimiser", {}))
    facts = {
        "network": network,
        "steps": 4,
        "validate_every": 2,
        "validation_batches": 1,
        "patches": squares(),
    }
    return replace(RECIPES["ours"], optimiser=optimiser, **facts | changes)


def squares(*sides: int) -> Patches:
    return PATCHES.resize(sides or (16,))


def trainer(**changes) -> SliceTrainer:
    return SliceTrainer(recipe(**changes), torch.device("cpu"))


def batches(pack: Pack, sides: tuple[int, ...] = (16,), seed: int = 0) -> SliceBatches:
    patches = replace(squares(*sides), voxels_per_batch=1024)
    return SliceBatches(pack, WINDOW, np.random.default_rng(seed), patches)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mddpm_sheets, "STEPS", 2)


class TestNetwork:
    @pytest.mark.parametrize("variance", ["learned_range", "fixed_small", "fixed_large"])
    @pytest.mark.parametrize("shape", [(16, 16), (32, 24)])
    def test_shapes_in_2d(self, variance: str, shape: tuple[int, int]) -> None:
        made = DDPMUNet(replace(NETWORK, variance=variance))(
            torch.zeros(2, 1, *shape), torch.tensor([3, 999])
        )
        assert made.shape == (2, 2 if variance == "learned_range" else 1, *shape)
        assert made.dtype == torch.float32

    def test_it_knows_the_level(self) -> None:
        torch.manual_seed(0)
        network = DDPMUNet(NETWORK)
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        x = torch.ones(1, 1, 16, 16)
        low, high = (network(x, torch.tensor([t])) for t in (5, 900))
        assert not torch.allclose(low, high)

    def test_multiples(self) -> None:
        assert DDPMUNetConfig().multiple == 8
        assert NETWORK.multiple == 2


class TestSlices:
    def test_a_frame_and_what_lies_outside_it(self) -> None:
        array = np.arange(12.0).reshape(3, 4)
        made = frame_slice(array, np.array([-1, 2]), 5)
        assert made.known.sum() == 2 * 3
        assert np.array_equal(made.image_hu[:2, 2:], array[1:, :3])
        assert (made.image_hu[~made.known] == AIR_HU).all()

    def test_the_mirror_continues_the_image(self) -> None:
        array = np.arange(12.0).reshape(3, 4)
        made = mirror_slice(array, np.array([2, -1]), 7)
        assert np.array_equal(made.known, frame_slice(array, np.array([2, -1]), 7).known)
        assert np.array_equal(made.image_hu[1], made.image_hu[2])  # the first row again
        assert np.array_equal(made.image_hu[2:5, :3], array[:, 1:])
        assert made.image_hu.min() >= 0

    def test_batches_are_in_range_scored_where_real_and_from_the_generator(self, seen: Pack) -> None:
        one, again = (batches(seen).draw() for _ in range(2))
        assert torch.equal(one.image, again.image)
        assert one.image.shape == one.scored.shape == (4, 1, 16, 16)
        assert one.image.abs().max() <= 1
        assert set(one.scored.unique().tolist()) <= {0.0, 1.0}
        assert (one.weight > 0).all()

    def test_every_size_is_drawn_and_as_many_as_fit(self, seen: Pack) -> None:
        source = batches(seen, (16, 32))
        shapes = {tuple(source.draw().image.shape) for _ in range(20)}
        assert shapes == {(4, 1, 16, 16), (1, 1, 32, 32)}

    def test_a_patch_larger_than_every_ct_is_filled_with_air_and_not_scored_there(self, seen: Pack) -> None:
        drawn = batches(seen, (128,)).sample(128)
        assert not drawn.known.all()
        assert drawn.image_hu.shape == (128, 128)

    def test_no_held_out_patient_is_shown(self, seen: Pack, held_out: Pack) -> None:
        ours = {str(seen._data["host_patients"][k]) for k in seen.hosts}
        theirs = {str(held_out._data["host_patients"][k]) for k in held_out.hosts}
        assert ours
        assert theirs
        assert not ours & theirs


class TestLoss:
    def batch(self) -> SliceBatch:
        image = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
        return SliceBatch(image, torch.ones_like(image), torch.ones(3))

    @pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
    def test_the_right_answer_costs_nothing(self, prediction: str) -> None:
        run, batch = trainer(prediction=prediction, network={"variance": "fixed_small"}), self.batch()

        class Right(torch.nn.Module):
            def forward(self, noisy, t):
                a = run.schedule.alphas_bar[t].sqrt().float()[:, None, None, None]
                s = (1 - run.schedule.alphas_bar[t]).sqrt().float()[:, None, None, None]
                noise = (noisy - a * batch.image) / s
                return {"eps": noise, "x0": batch.image, "v": a * noise - s * batch.image}[prediction]

        assert float(run.loss(Right(), batch, torch.Generator().manual_seed(1))) < 1e-6

    def test_what_is_not_real_is_not_scored(self) -> None:
        run, batch = trainer(), self.batch()
        hidden = replace(batch, scored=torch.zeros_like(batch.scored))
        assert float(run.loss(run.network, hidden, torch.Generator().manual_seed(1))) == 0
        assert float(run.loss(run.network, batch, torch.Generator().manual_seed(1))) > 0

    def test_a_scan_with_less_weight_counts_less(self) -> None:
        run, batch = trainer(), self.batch()
        half = replace(batch, weight=batch.weight / 2)
        losses = [
            float(run.loss(run.network, one, torch.Generator().manual_seed(1))) for one in (batch, half)
        ]
        assert losses[0] == pytest.approx(2 * losses[1], rel=1e-4)


class TestVariance:
    """A network is sampled with the variance it was trained for."""

    @pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
    def test_one_that_is_fixed_is_that_of_ddpm(self, variance: FixedVariance) -> None:
        run = trainer(network={"variance": variance})
        model, times = Unconditional(Evaluator(run.average), run.schedule), torch.tensor([900, 500, 100])
        noise = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(1))
        start = Start(noise, times, torch.Generator().manual_seed(2), lambda x_0: None)
        with torch.no_grad():
            made = model.sample(start, model.denoise)
            rng = torch.Generator().manual_seed(2)
            wanted = ddpm(model.denoise, noise, run.schedule, times, generator=rng, variance=variance)
        assert torch.equal(made, wanted)

    def test_the_two_differ(self, tmp_path: Path) -> None:
        with torch.no_grad():
            for run in (trainer(network={"variance": name}) for name in ("fixed_small", "fixed_large")):
                slice_sheet(run, tmp_path / f"{run.recipe.network.variance}.png")
        small, large = (Image.open(file).tobytes() for file in sorted(tmp_path.iterdir()))
        assert small != large


class TestRuns:
    def test_a_run_writes_checkpoints_history_and_goes_on_bit_for_bit(
        self, seen: Pack, tmp_path: Path
    ) -> None:
        def run(from_: SliceTrainer, steps: int) -> SliceTrainer:
            source = batches(seen)
            source.rng = from_.numpy_rng
            for _ in range(steps):
                from_.step([source.draw()])
            return from_

        whole = run(trainer(), 4)
        run(trainer(), 2).save(tmp_path)
        second = trainer()
        assert second.resume(tmp_path)
        run(second, 2)
        for a, b in zip(whole.average.parameters(), second.average.parameters(), strict=True):
            assert torch.equal(a, b)
        assert sorted(file.name for file in tmp_path.iterdir()) == ["checkpoint.pt", "history.json"]

    def test_it_learns(self, seen: Pack) -> None:
        run, source = trainer(steps=40, optimiser={"learning_rate": 2e-3}), batches(seen)
        losses = [run.step([source.draw()]) for _ in range(40)]
        assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:5])
        assert all(map(math.isfinite, losses))


@pytest.mark.slow
def test_the_command_trains_goes_on_and_draws(training_folder: Path, tmp_path: Path, capsys) -> None:
    command = ["train", "mddpm", "--data", str(training_folder), "--out", str(tmp_path), "--device", "cpu"]
    command += ["--sides", "16", "--channels", "8", "16", "--steps"]
    assert main([*command, "2"]) == 0
    assert main([*command, "3"]) == 0
    assert "going on from step 2 of 3" in capsys.readouterr().out
    with Image.open(tmp_path / "samples-000003.png") as picture:
        assert picture.width > 100


def test_the_papers_recipe_trains_with_its_batch_of_128(
    training_folder: Path, tmp_path: Path, capsys
) -> None:
    command = ["train", "mddpm", "--data", str(training_folder), "--out", str(tmp_path), "--device", "cpu"]
    command += ["--recipe", "paper", "--sides", "16", "--channels", "32", "32", "--steps", "2"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "overridden: steps 2 instead of 500000" in said
    assert "accumulate" not in said
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["optimizer"]["param_groups"][0]["lr"] == 1e-4
    assert state["network"]["out.2.conv.weight"].shape[0] == 1  # the variance is beta, not learned


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--sides", "20"), "multiples of 8"),
        (("--channels", "12"), "multiples of 8"),
        (("--steps", "0"), "1 or more"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(
    options, said, training_pack: Path, tmp_path: Path, capsys
) -> None:
    (tmp_path / "pack.npz").symlink_to(training_pack)
    command = ["train", "mddpm", "--data", str(tmp_path), "--out", str(tmp_path), *options]
    assert main(command) == 2
    assert said in capsys.readouterr().err
