"""Batches from several processes, larger batches, and networks that grow: training on a GPU."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from lesionbrush.systems.lesion_inpainting.attributes import ATTRIBUTES
from lesionbrush.systems.lesion_inpainting.data import PATCHES, Batches, Pack
from lesionbrush.systems.lesion_inpainting.network import LesionUNet, LesionUNetConfig
from lesionbrush.systems.lesion_inpainting.recipes import RECIPES
from lesionbrush.systems.lesion_inpainting.trainer import Trainer
from lesionbrush.systems.mddpm.data import SliceBatches
from lesionbrush.training.noising import noise_like
from lesionbrush.training.recipes import Patches
from lesionbrush.training.workers import Workers
from training_kit import WINDOW

pytest_plugins = "training_fixtures"

NARROW = LesionUNetConfig(len(ATTRIBUTES), channels=(8, 16), blocks=1, head_channels=4)


@dataclass
class Numbers:
    """A source whose batches are random numbers."""

    rng: np.random.Generator | None = None

    def draw(self) -> torch.Tensor:
        assert self.rng is not None
        return torch.from_numpy(self.rng.random(3))


def drawn(seed: int, workers: int, batches: int = 6) -> list[list[float]]:
    source = Workers(Numbers(), np.random.default_rng(seed), workers)
    return [source.draw().tolist() for _ in range(batches)]


def test_workers_draw_the_same_batches_in_the_same_order_every_time() -> None:
    assert drawn(1, workers=2) == drawn(1, workers=2)
    assert drawn(1, workers=2) != drawn(2, workers=2)


def test_no_two_workers_draw_the_same() -> None:
    batches = drawn(1, workers=3, batches=9)
    assert len({tuple(batch) for batch in batches}) == len(batches)


def test_a_run_that_goes_on_does_not_draw_its_first_batches_again() -> None:
    generator = np.random.default_rng(1)
    first, second = (Workers(Numbers(), generator, 1).draw().tolist() for _ in range(2))
    assert first != second


def test_an_error_in_a_worker_reaches_the_training() -> None:
    class Broken(Numbers):
        def draw(self) -> torch.Tensor:
            raise ValueError("no such nodule")

    with pytest.raises(ValueError, match="no such nodule"):
        Workers(Broken(), np.random.default_rng(0), 1).draw()


def test_workers_bring_whole_batches(seen: Pack) -> None:
    patches = replace(PATCHES, counts=(2, 2, 2), scale=2)
    workers = Workers(Batches(seen, WINDOW, np.random.default_rng(0), patches), np.random.default_rng(0), 1)
    batch = workers.draw()
    assert len(batch.image) == len(batch.attributes) == 4
    assert float(batch.scored.sum()) > 0


def test_scale_makes_batches_larger(seen: Pack) -> None:
    slices = Patches(sides=(32,), shares=(1.0,), voxels_per_batch=4096)
    batches = (
        SliceBatches(seen, WINDOW, np.random.default_rng(0), replace(slices, scale=scale)) for scale in (1, 3)
    )
    one, three = (len(source.draw().image) for source in batches)
    assert three == 3 * one


def test_noise_on_a_cpu_is_the_generators_own() -> None:
    image = torch.zeros(2, 1, 3, 4, 5)
    found = noise_like(image, torch.Generator().manual_seed(3))
    assert torch.equal(found, torch.randn(image.shape, generator=torch.Generator().manual_seed(3)))


def trainer(blocks: int) -> Trainer:
    recipe = replace(RECIPES["ours"], network=replace(NARROW, blocks=blocks), steps=4)
    return Trainer(recipe, torch.device("cpu"))


def shaken(network: LesionUNet) -> LesionUNet:
    """No parameter zero, as after training."""
    rng = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=rng))
    return network


def test_a_network_that_grew_by_blocks_predicts_what_it_predicted() -> None:
    small, large = trainer(1), trainer(3)
    large.start_from(shaken(small.network).state_dict())
    rng = torch.Generator().manual_seed(0)
    x, conditions = torch.randn(1, 1, 8, 8, 8, generator=rng), torch.randn(1, 3, 8, 8, 8, generator=rng)
    level, said = torch.tensor([0.8]), torch.zeros(1, 2 * len(ATTRIBUTES))
    with torch.no_grad():
        before, *after = (
            net(x, level, (1 - level**2).sqrt(), conditions, said)
            for net in (small.network, large.network, large.average)
        )
    for found in after:
        torch.testing.assert_close(found, before)


def test_a_network_does_not_grow_where_weights_are_missing_or_too_many() -> None:
    small = trainer(1)
    weights = small.network.state_dict()
    with pytest.raises(RuntimeError, match=r"encoder\.0\.0"):
        trainer(2).start_from({name: w for name, w in weights.items() if "encoder.0" not in name})
    with pytest.raises(RuntimeError, match="Unexpected"):
        small.start_from(trainer(2).network.state_dict())


def test_the_source_itself_is_left_as_it_was() -> None:
    source = Numbers(np.random.default_rng(7))
    Workers(source, np.random.default_rng(0), 1).draw()
    assert source.draw().tolist() == np.random.default_rng(7).random(3).tolist()
