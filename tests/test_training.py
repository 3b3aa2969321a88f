"""The trainer: steps, checkpoints, and what its loss and schedules are."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from core_fixtures import NETWORK
from lesionbrush.diffusion.schedules import cosine
from lesionbrush.systems.lesion_inpainting.attributes import ATTRIBUTES
from lesionbrush.systems.lesion_inpainting.data import PATCHES, Batch, Batches, Pack
from lesionbrush.systems.lesion_inpainting.network import LesionUNetConfig
from lesionbrush.systems.lesion_inpainting.recipes import RECIPES
from lesionbrush.systems.lesion_inpainting.trainer import Trainer
from lesionbrush.training.levels import EVEN
from lesionbrush.training.recipes import Recipe
from training_kit import WINDOW

pytest_plugins = "training_fixtures"
FEW = replace(PATCHES, counts=(2, 1, 1))


def recipe(**changes) -> Recipe:
    """Ours, small and quick."""
    network = LesionUNetConfig(len(ATTRIBUTES), **NETWORK.model_dump())
    optimiser = replace(RECIPES["ours"].optimiser, warmup_steps=2, **changes.pop("optimiser", {}))
    facts = {"network": network, "steps": 4, "validate_every": 2, "validation_batches": 2, "patches": FEW}
    return replace(RECIPES["ours"], optimiser=optimiser, **facts | changes)


def trainer(seed: int = 0, **changes) -> Trainer:
    return Trainer(recipe(**changes), torch.device("cpu"), seed)


def small_batch(count: int = 2) -> Batch:
    rng = torch.Generator().manual_seed(0)
    image = torch.rand(count, 1, 24, 24, 24, generator=rng) * 2 - 1
    scored = torch.zeros_like(image)
    scored[..., 8:16] = 1
    attributes = torch.zeros(count, 2 * len(ATTRIBUTES))
    return Batch(image, 1 - scored, scored, scored, attributes, torch.tensor([0.5, 2.0])[:count])


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_the_first_weights_come_from_the_seed_and_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    assert same(trainer().network, trainer().network)
    assert not same(trainer().network, trainer(seed=1).network)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_run_writes_checkpoints_and_history(seen: Pack, held_out: Pack, tmp_path: Path) -> None:
    run = trainer()
    start = trainer().network
    train, validation = (
        Batches(pack, WINDOW, rng, FEW) for pack, rng in ((seen, run.numpy_rng), (held_out, None))
    )
    run.fit(train, validation, tmp_path)
    assert [entry["step"] for entry in run.progress.history] == [2, 4]
    assert all(np.isfinite(list(entry.values())).all() for entry in run.progress.history)
    assert not same(run.network, start)
    assert not same(run.network, run.average)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["checkpoint.pt", "history.json"]
    finished = trainer()
    assert finished.resume(tmp_path)
    finished.fit(train, validation, tmp_path)
    assert same(finished.network, run.network)


def test_a_run_that_was_stopped_goes_on_bit_for_bit(seen: Pack, tmp_path: Path) -> None:
    def run(from_: Trainer, steps: int) -> Trainer:
        batches = Batches(seen, WINDOW, from_.numpy_rng, FEW)
        for _ in range(steps):
            from_.step([batches.draw()])
        return from_

    whole = run(trainer(), 4)
    run(trainer(), 2).save(tmp_path)
    resumed = trainer(seed=9)
    assert resumed.resume(tmp_path)
    assert resumed.progress.step == 2
    run(resumed, 2)
    assert same(resumed.network, whole.network)
    assert same(resumed.average, whole.average)
    assert torch.equal(resumed.rng.get_state(), whole.rng.get_state())


def test_there_is_nothing_to_resume_in_an_empty_folder(tmp_path: Path) -> None:
    assert not trainer().resume(tmp_path)


def test_time_that_is_up_leaves_a_checkpoint(seen: Pack, tmp_path: Path) -> None:
    run = trainer()
    run.fit(Batches(seen, WINDOW, run.numpy_rng, FEW), None, tmp_path, stop_after_s=0)
    assert run.progress.step == 0
    assert trainer().resume(tmp_path)


def test_validation_is_repeatable_and_changes_nothing(held_out: Pack) -> None:
    run = trainer()
    before = trainer()
    batches = Batches(held_out, WINDOW, np.random.default_rng(4), FEW)
    assert run.validate(batches) == run.validate(batches)
    assert same(run.network, before.network)
    assert torch.equal(run.rng.get_state(), before.rng.get_state())


def test_the_learning_rate_warms_up_and_falls_to_nothing() -> None:
    run = trainer(steps=10, optimiser={"cooldown_share": 0.5, "learning_rate": 1e-3})
    batch, rates = small_batch(), []
    for _ in range(10):
        run.step([batch])
        rates.append(run.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([1e-3 * share for share in (0.5, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2)])


def test_a_run_can_begin_with_the_weights_of_another(tmp_path: Path) -> None:
    first, second = trainer(seed=1), trainer(seed=2)
    second.start_from(first.network.state_dict())
    assert same(second.network, first.network)
    assert same(second.average, first.network)
    with pytest.raises(RuntimeError, match="stem"):
        second.start_from({name: w for name, w in first.network.state_dict().items() if "stem" not in name})


def test_steps_bring_the_loss_down() -> None:
    """The tissue to learn is a constant; the loss is that of the same noise before and after."""
    run = trainer(steps=100, optimiser={"learning_rate": 3e-3})
    batch = replace(small_batch(), image=torch.full((2, 1, 24, 24, 24), 0.5))

    def loss() -> float:
        return float(run.loss(run.network, batch, torch.Generator().manual_seed(0)).detach())

    before = loss()
    for _ in range(30):
        run.step([batch])
    assert loss() < 0.7 * before


def test_the_loss_is_the_weighted_error_in_closed_form() -> None:
    """A network that is wrong by 0.1 everywhere: 0.01 x (r^2 + s^2) / (r s)^2 x the weight of the scan."""
    run, batch = trainer(), small_batch()
    found = run.loss(lambda x, *rest: batch.image + 0.1, batch, torch.Generator().manual_seed(3))
    t = run.recipe.levels.draw(run.schedule, 2, torch.Generator().manual_seed(3))
    alpha_bar = run.schedule.alphas_bar[t]
    r2, s2 = (1 - alpha_bar) / alpha_bar, run.recipe.data_spread**2
    expected = (batch.weight * 0.01 * (r2 + s2) / (r2 * s2)).mean()
    assert float(found) == pytest.approx(float(expected), rel=1e-3)


def test_errors_outside_the_scored_voxels_cost_nothing() -> None:
    run, batch = trainer(), small_batch()
    wrong = batch.image + 5 * (1 - batch.scored)
    assert float(run.loss(lambda *rest: wrong, batch, torch.Generator())) == 0


def test_noise_levels_are_log_normal_with_a_share_from_everywhere() -> None:
    schedule, ours = cosine(), RECIPES["ours"].levels
    t = replace(ours, uniform_share=0.0).draw(schedule, 4000, torch.Generator().manual_seed(0))
    table = schedule.alphas_bar
    log_ratio = 0.5 * torch.log((1 - table[t]) / table[t])
    assert float(log_ratio.median()) == pytest.approx(ours.log_ratio_mean, abs=0.1)
    assert float((log_ratio.quantile(0.75) - log_ratio.quantile(0.25)) / 1.349) == pytest.approx(1.5, abs=0.1)
    even = EVEN.draw(schedule, 4000, torch.Generator().manual_seed(0)).double()
    assert float(even.mean()) == pytest.approx(499.5, abs=15)
    assert float(even.std()) == pytest.approx(1000 / math.sqrt(12), abs=10)


def test_the_average_follows_the_network_with_its_half_life() -> None:
    run = trainer(steps=100)
    first = run.average.head_out.weight.clone()
    run.step([small_batch()])
    keep = 0.5 ** (1 / 1.05)
    now = run.network.head_out.weight.detach()
    assert not torch.equal(first, now)
    torch.testing.assert_close(run.average.head_out.weight, keep * first + (1 - keep) * now)
