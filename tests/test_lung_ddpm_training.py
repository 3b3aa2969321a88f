"""Training of Lung-DDPM and Lung-DDPM+: what is drawn, what is scored, and what a run leaves."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_kit import Command
from lesionbrush.diffusion.guidance import keep_known
from lesionbrush.diffusion.samplers import ddpm
from lesionbrush.diffusion.schedules import FixedVariance
from lesionbrush.errors import InvalidRequest, WeightsError
from lesionbrush.files.io import read_volume, write_volume
from lesionbrush.systems import parse_request
from lesionbrush.systems.lesion_inpainting.data import Pack
from lesionbrush.systems.lung_ddpm import cubes as lung_ddpm_data
from lesionbrush.systems.lung_ddpm import sheets as lung_ddpm_sheets
from lesionbrush.systems.lung_ddpm.cubes import NoduleBatches
from lesionbrush.systems.lung_ddpm.model import Item
from lesionbrush.systems.lung_ddpm.pack import write_lungs
from lesionbrush.systems.lung_ddpm.recipes import CUBE_RECIPES, WHOLE_RECIPES
from lesionbrush.systems.lung_ddpm.trainer import LayoutBatch, LayoutTrainer
from lesionbrush.systems.lung_ddpm.training import CubeTraining, WholeTraining
from lesionbrush.systems.lung_ddpm.volumes import OUTSIDE_WEIGHT, Chest, LungBatches, read_lungs
from lesionbrush.systems.lung_ddpm.whole import LungDDPM
from lesionbrush.systems.med_unet import MedUNetConfig
from lesionbrush.systems.running import visited_timesteps
from lesionbrush.training.recipes import Patches, Recipe
from training_kit import SEEN, WINDOW

pytest_plugins = ("training_fixtures", "cli_fixtures")
TINY = MedUNetConfig(2, (8, 16), (False, True), norm_groups=4)
BLOCKS = Patches(sides=(24,), shares=(1.0,), counts=(1,))
RECIPES = {"lung_ddpm": WHOLE_RECIPES, "lung_ddpm_plus": CUBE_RECIPES}
CPU = torch.device("cpu")


def small(model: str = "lung_ddpm_plus", **changes) -> Recipe:
    """Ours, with a tiny network and one block a step, of 24 voxels."""
    ours = RECIPES[model]["ours"]
    network = replace(TINY, in_channels=ours.network.in_channels)
    optimiser = replace(ours.optimiser, warmup_steps=2, **changes.pop("optimiser", {}))
    facts = {"network": network, "steps": 4, "patches": BLOCKS}
    return replace(ours, optimiser=optimiser, **facts | changes)


class TestNodules:
    def drawn(self, seen: Pack, seed: int = 0) -> LayoutBatch:
        return NoduleBatches(seen, WINDOW, np.random.default_rng(seed), BLOCKS).draw()

    def test_the_layout_is_plus_and_minus_one_and_what_is_unknown_is_not_scored(self, seen: Pack) -> None:
        for seed in range(6):
            batch = self.drawn(seen, seed)
            assert batch.image.shape == batch.layout.shape == batch.scored.shape
            assert set(batch.layout.unique().tolist()) <= {-1.0, 1.0}
            assert set(batch.scored.unique().tolist()) <= {0.0, 1.0, lung_ddpm_data.NEAR_WEIGHT}
            nodule = (batch.layout > 0) & (batch.scored > 0)
            assert (batch.scored[nodule] == lung_ddpm_data.NEAR_WEIGHT).all()

    def test_the_nodule_is_where_the_layout_says(self, seen: Pack) -> None:
        means = []
        for seed in range(6):
            batch = self.drawn(seen, seed)
            inside, outside = batch.layout > 0, (batch.layout < 0) & (batch.scored > 0)
            if inside.any():
                means.append(float(batch.image[inside].mean() - batch.image[outside].mean()))
        assert min(means) > 0.2

    def test_the_same_seed_draws_the_same(self, seen: Pack) -> None:
        assert torch.equal(self.drawn(seen).image, self.drawn(seen).image)
        assert not torch.equal(self.drawn(seen).image, self.drawn(seen, 1).image)


def chest() -> Chest:
    """Soft tissue with a lung of -850 HU in it."""
    image = np.full((120, 120, 120), 40, np.int16)
    mask = np.zeros(image.shape, bool)
    mask[10:110, 10:110, 10:110] = True
    image[mask] = -850
    centres = np.argwhere(mask[::7, ::7, ::7]) * 7
    middle = ((centres > 40) & (centres < 80)).all(axis=1)
    return Chest(SEEN[0], image, mask, centres[middle].astype(np.int16))


class TestLungs:
    def block(self, seen: Pack, seed: int) -> tuple[np.ndarray, ...]:
        return LungBatches(seen, [chest()], WINDOW, np.random.default_rng(seed), BLOCKS).sample(32)

    def test_lung_and_nodule_exclude_each_other(self, seen: Pack) -> None:
        found = 0
        for seed in range(6):
            image, layout, scored, _ = self.block(seen, seed)
            lung, nodule = layout > 0
            assert image.shape == scored.shape == (1, 32, 32, 32)
            assert not (lung & nodule).any()
            outside = ~(lung | nodule) & (scored[0] > 0)
            near = scored[0] == lung_ddpm_data.NEAR_WEIGHT
            assert (near | (scored[0] == np.float32(OUTSIDE_WEIGHT)))[outside].all()
            if nodule.any():
                found += 1
                assert image[0][nodule & near].mean() > image[0][lung & ~near].mean()
        assert found >= 2

    def test_beyond_the_ct_nothing_is_scored(self, seen: Pack) -> None:
        batches = LungBatches(seen, [chest()], WINDOW, np.random.default_rng(0), BLOCKS)
        *_, scored, _ = batches.sample(64)  # at 2 to 3 mm wider than the chest
        assert (scored == 0).any()
        assert (scored > 0).any()

    def test_scans_without_lung_masks_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "chest_ct").mkdir()
        with pytest.raises(InvalidRequest, match="no chest_ct with lung masks"):
            write_lungs(tmp_path, tmp_path / "lungs.npz")

    def test_the_pack_is_split_by_patient(self, training_folder: Path, tmp_path: Path) -> None:
        write_lungs(with_lung_masks(training_folder), tmp_path / "lungs.npz")
        assert [lungs.patient for lungs in read_lungs(tmp_path / "lungs.npz", validation=False)] == [SEEN[0]]
        held_out = read_lungs(tmp_path / "lungs.npz", validation=True)
        assert [lungs.patient for lungs in held_out] == ["LIDC-IDRI-0314"]
        assert held_out[0].mask.all()
        np.savez(tmp_path / "empty.npz", patients=np.array([], dtype=str))
        with pytest.raises(InvalidRequest, match="no training chest"):
            read_lungs(tmp_path / "empty.npz", validation=False)


def with_lung_masks(folder: Path) -> Path:
    for patient in (SEEN[0], "LIDC-IDRI-0314"):
        ct = read_volume(folder / "chest_ct" / f"{patient}.nii.gz")
        write_volume(
            ct.with_array(np.ones(ct.shape, np.uint8)), folder / "chest_ct" / f"{patient}_lungs.nii.gz"
        )
    return folder


def constant_batch() -> LayoutBatch:
    rng = torch.Generator().manual_seed(0)
    image = torch.rand(2, 1, 16, 16, 16, generator=rng) - 0.5
    return LayoutBatch(image, torch.ones_like(image), torch.ones_like(image), torch.ones(2))


class TestTrainer:
    def test_the_loss_is_the_error_of_v_in_units_of_its_own_spread(self) -> None:
        """Written down once more: with v always 0 it is the error of the best linear guess, over its size."""

        class Silent(torch.nn.Module):
            def forward(self, inputs: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
                return torch.zeros_like(inputs[:, :1])

        trainer = LayoutTrainer(small(data_spread=0.3), CPU)
        batch, rng = constant_batch(), torch.Generator().manual_seed(4)
        loss = float(trainer.loss(Silent(), batch, torch.Generator().manual_seed(4)))
        t = trainer.recipe.levels.draw(trainer.schedule, 2, rng)
        noise = torch.randn(batch.image.shape, generator=rng)
        wanted = []
        for k in range(2):
            a_bar = float(trainer.schedule.alphas_bar[t[k]])
            alpha, sigma = math.sqrt(a_bar), math.sqrt(1 - a_bar)
            x = alpha * batch.image[k] + sigma * noise[k]
            total = alpha**2 * 0.3**2 + sigma**2
            error = float(((alpha * 0.3**2 / total * x - batch.image[k]) ** 2).mean())
            wanted.append(error * total / (sigma * 0.3) ** 2)
        assert loss == pytest.approx(np.mean(wanted), rel=1e-4)

    def test_steps_bring_the_loss_down(self) -> None:
        """An image that its layout gives away: bright in the nodule, dark elsewhere."""
        layout = -torch.ones(2, 1, 16, 16, 16)
        layout[:, :, 4:12, 4:12, 4:12] = 1
        batch = LayoutBatch(0.4 * layout, layout, torch.ones_like(layout), torch.ones(2))
        trainer = LayoutTrainer(small(steps=40, optimiser={"learning_rate": 3e-3}), CPU)

        def loss() -> float:
            seeds = (torch.Generator().manual_seed(seed) for seed in range(4))
            return float(np.mean([float(trainer.loss(trainer.network, batch, rng)) for rng in seeds]))

        before = loss()
        for _ in range(40):
            trainer.step([batch])
        assert loss() < 0.85 * before

    def test_what_fits_of_another_network_is_taken_over(self) -> None:
        """The first layer's channel for lung starts at zero, those for x and the nodule are kept."""
        plus = LayoutTrainer(small(), CPU, seed=1)
        whole = LayoutTrainer(small("lung_ddpm"), CPU)
        weights = plus.network.state_dict()
        assert whole.start_from_similar(weights) == 1
        first = whole.network.state_dict()["conv_in.conv.weight"]
        assert torch.equal(first[:, [0, 2]], weights["conv_in.conv.weight"])
        assert not first[:, 1].any()
        wider = LayoutTrainer(small(network=replace(TINY, channels=(8, 24))), CPU)
        assert 0 < wider.start_from_similar(weights) < 1


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_a_card_may_ask_for_the_variance_that_the_paper_writes(variance: FixedVariance) -> None:
    """Jiang et al. 2025, Eq. 4: sigma² = beta."""
    model = with_variance(variance)
    image, box = torch.zeros(1, 1, 16, 16, 16), torch.ones(1, 1, 16, 16, 16)
    noise, rng = torch.randn(image.shape, generator=generator(1)), generator(2)
    item = Item(image, -torch.ones(1, 2, 16, 16, 16), box, box, box, noise, [rng], lambda x_0: None)
    request = parse_request({"steps": 3, "sampler": "ddpm"}, "lung_ddpm")

    def denoise(x: torch.Tensor, t: int) -> torch.Tensor:
        level = (model.schedule.alpha(t), model.schedule.sigma(t), t)
        return model.estimate(item, x, level).clamp(-1, 1)

    with torch.no_grad():
        made, times = model.draw(item, request), visited_timesteps(model.schedule, 3)
        # the noise of what is kept is drawn as well, and all of it thrown away
        keep = keep_known(image, box, model.schedule, rng_of_both := generator(2))
        wanted = ddpm(
            denoise, noise, model.schedule, times, generator=rng_of_both, after_step=[keep], variance=variance
        )
    torch.testing.assert_close(made, wanted)


def test_a_card_with_a_learned_variance_is_of_another_system() -> None:
    with pytest.raises(WeightsError, match="another system"):
        with_variance("learned_range")


def with_variance(variance: str) -> LungDDPM:
    draft = lung_ddpm_sheets.draft_model(LayoutTrainer(small("lung_ddpm"), CPU))
    network = {**draft.card.section["network"], "variance": variance}
    section = {**draft.card.section, "network": network}
    return LungDDPM(draft.card.model_copy(update={"section": section}), draft.network, CPU)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("model", ["lung_ddpm_plus", "lung_ddpm"])
def test_the_command_trains_and_goes_on(
    command: Command, training_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setattr(lung_ddpm_sheets, "STEPS", 2)
    tiny = small(model, validate_every=2, validation_batches=1, validations_per_sheet=2)
    training = {"lung_ddpm": WholeTraining, "lung_ddpm_plus": CubeTraining}[model]
    monkeypatch.setattr(training, "recipes", {"ours": tiny})
    options = (model, "--data", with_lung_masks(training_folder), "--out", tmp_path, "--device", "cpu")
    first = command("train", *options)
    assert first.code == 0, first.err
    assert [entry["step"] for entry in json.loads((tmp_path / "history.json").read_text())] == [2, 4]
    assert (tmp_path / "samples-000004.png").is_file()
    second = command("train", *options, "--steps", 5)
    assert "going on from step 4 of 5" in second.out
    assert "overridden: steps 5 instead of 4" in second.out
    assert (tmp_path / "checkpoint.pt").is_file()


@pytest.mark.parametrize("model", ["lung_ddpm_plus", "lung_ddpm"])
def test_the_papers_recipe_trains(
    command: Command, training_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    """By its own numbers, but for the sizes that are given."""
    monkeypatch.setattr(lung_ddpm_sheets, "STEPS", 2)
    options = (model, "--data", with_lung_masks(training_folder), "--out", tmp_path, "--device", "cpu")
    paper = ("--recipe", "paper", "--sides", 32, "--channels", 32, 32, 32, 32, "--steps", 2)
    outcome = command("train", *options, *paper)
    assert outcome.code == 0, outcome.err
    assert "overridden: steps 2 instead of 100000" in outcome.out
    assert "overridden: patches.sides (32,) instead of" in outcome.out
    assert "unlike its source: CTs are resampled" in outcome.out
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    group = state["optimizer"]["param_groups"][0]
    assert (group["lr"], group["betas"], group["weight_decay"]) == (1e-5, (0.9, 0.999), 0)
    assert state["recipe"] == "paper"
    assert (tmp_path / "samples-000002.png").is_file()
    refused = command("train", *options, *paper[2:])
    assert refused.code == 2
    assert "go on with  --recipe paper" in refused.one_line
