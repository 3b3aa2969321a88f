"""Pix2Pix and Vox2Vox: what they are shown, what they learn, and how their results get into a CT."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from core_fixtures import ball
from lesionbrush.core.synthesize import synthesize
from lesionbrush.errors import WeightsError
from lesionbrush.evaluation.inpainting.baseline_model import BaselineModel
from lesionbrush.evaluation.inpainting.baselines import BASELINES, PIX2PIX, VOX2VOX, Baseline
from lesionbrush.evaluation.inpainting.examples import FillExample, of_cubes, of_slices, slice_conditions
from lesionbrush.evaluation.inpainting.gan import GanTrainer, draw_fill
from lesionbrush.evaluation.inpainting.weights import (
    load_baseline,
    save_baseline,
    train_baseline,
    weights_path,
)
from lesionbrush.systems.med_ddpm.data import MaskedBatch
from lesionbrush.systems.med_ddpm.request import MedDDPMRequest
from lesionbrush.systems.palette.data import PaletteBatch
from lesionbrush.systems.palette.fills import fill_number
from lesionbrush.systems.palette.request import PaletteRequest
from palette_kit import make_liver

CPU = torch.device("cpu")
TINY = {
    "pix2pix": replace(PIX2PIX, channels=(8, 16), discriminator_channels=8, layers=1, sides=(32, 48)),
    "vox2vox": replace(VOX2VOX, channels=(8, 16), discriminator_channels=8, layers=1, sides=(16, 24)),
}
FIELD = 0.6
"""In units: what is everywhere in the constant examples."""


class Constant:
    """A field of one value with a square or a cube to fill."""

    def __init__(self, baseline: Baseline, side: int = 16) -> None:
        shape = (2, 1, *(side,) * baseline.dims)
        image, hole = torch.full(shape, FIELD), torch.zeros(shape)
        hole[(slice(None), slice(None), *(slice(4, 12),) * baseline.dims)] = 1
        classes = torch.zeros((2, baseline.in_channels - 2, *shape[2:]))
        self.example = FillExample(image, torch.cat((image * (1 - hole), hole, classes), dim=1), hole)

    def draw(self) -> FillExample:
        return self.example


def trainer(name: str, seed: int = 0, **changes: object) -> GanTrainer:
    baseline = replace(TINY[name], **changes)  # type: ignore[arg-type]
    return GanTrainer(baseline, torch.Generator().manual_seed(seed), CPU)


class TestExamples:
    def test_a_slice_is_shown_what_is_known_the_hole_and_in_it_the_class(self) -> None:
        image, hole = torch.full((2, 1, 4, 4), 0.5), torch.zeros(2, 1, 4, 4)
        hole[..., 1:3, 1:3] = 1
        liver = fill_number("liver")
        shown = slice_conditions(image, hole, torch.tensor([liver, 0]))
        assert shown.shape[1] == PIX2PIX.in_channels
        assert torch.equal(shown[:, :1], image * (1 - hole))
        assert torch.equal(shown[:, 1:2], hole)
        assert torch.equal(shown[0, 1 + liver], hole[0, 0])
        assert float(shown[:, 2:].sum()) == 4  # of the liver alone: what is left open has no class

    def test_what_is_not_known_is_neither_shown_nor_scored(self) -> None:
        image = torch.randn(1, 1, 8, 8)
        hole, scored = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
        hole[..., 2:6, 2:6], scored[..., 2:4, 2:6] = 1, 1
        one = torch.ones(1)
        found = of_slices(PaletteBatch(image, hole, image, scored, torch.tensor([1]), one))
        other = of_slices(PaletteBatch(image + 9 * hole, hole, image, scored, torch.tensor([1]), one))
        assert torch.equal(found.conditions, other.conditions)
        assert torch.equal(found.scored, scored)

    def test_a_cube_is_shown_what_med_ddpm_is_shown(self) -> None:
        image = torch.randn(1, 1, 8, 8, 8)
        visible, mask = torch.ones_like(image), torch.zeros_like(image)
        mask[..., 2:4, 2:4, 2:4] = 1
        visible[..., 1:5, 1:5, 1:5] = 0
        batch = MaskedBatch(image, visible, mask, torch.tensor([-1.0]), 1 - visible, torch.ones(1))
        found = of_cubes(batch)
        assert found.conditions.shape[1] == VOX2VOX.in_channels
        assert torch.equal(found.conditions[:, :1], image * visible)
        assert torch.equal(found.conditions[:, 2:], -mask)


class TestTraining:
    @pytest.mark.parametrize("name", ["pix2pix", "vox2vox"])
    def test_a_constant_field_is_learned(self, name: str) -> None:
        learning = trainer(name, learning_rate=2e-3)
        examples = Constant(learning.baseline)
        before = learning.step(examples.draw()).error
        learning.fit(examples, steps=60)
        assert learning.steps == 60
        assert learning.step(examples.draw()).error < 0.25 * before

    def test_the_same_seed_gives_the_same_weights(self) -> None:
        states = []
        for _ in range(2):
            learning = trainer("pix2pix")
            learning.fit(Constant(learning.baseline), steps=3)
            states.append(learning.generator.state_dict())
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
        other = trainer("pix2pix", seed=1).generator.state_dict()
        assert not torch.equal(states[0]["last.conv.weight"], other["last.conv.weight"])

    def test_nothing_is_learned_where_nothing_is_scored(self) -> None:
        learning = trainer("pix2pix")
        example = replace(Constant(learning.baseline).example, scored=torch.zeros(2, 1, 16, 16))
        before = {name: value.clone() for name, value in learning.generator.state_dict().items()}
        learning.step(example)
        assert all(
            torch.equal(before[name], value) for name, value in learning.generator.state_dict().items()
        )

    def test_dropout_is_the_noise_and_a_seed_says_which(self) -> None:
        generator, conditions = trainer("pix2pix").generator, Constant(TINY["pix2pix"]).example.conditions
        state = torch.get_rng_state()
        first, again, other = (draw_fill(generator, conditions, seed) for seed in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert torch.equal(state, torch.get_rng_state())

    def test_time_that_is_up_ends_it(self) -> None:
        learning = trainer("pix2pix")
        learning.fit(Constant(learning.baseline), minutes=1e-9)
        assert learning.steps == 1


class TestWeights:
    @pytest.mark.parametrize("name", ["pix2pix", "vox2vox"])
    def test_what_is_saved_is_loaded(self, name: str, tmp_path: Path) -> None:
        learning = trainer(name)
        learning.step(Constant(learning.baseline).draw())
        save_baseline(learning, weights_path(learning.baseline, tmp_path))
        found = load_baseline(learning.baseline, tmp_path)
        assert found is not None
        assert found.steps == 1
        ours = learning.generator.state_dict()
        assert all(torch.equal(ours[name], value) for name, value in found.generator.state_dict().items())

    def test_none_without_a_file_and_no_other_file_passes(self, tmp_path: Path) -> None:
        baseline = TINY["pix2pix"]
        assert load_baseline(baseline, tmp_path) is None
        weights_path(baseline, tmp_path).write_bytes(b"nothing")
        with pytest.raises(WeightsError, match=r"holds no weights of Pix2Pix: delete it"):
            load_baseline(baseline, tmp_path)
        save_baseline(trainer("vox2vox"), weights_path(baseline, tmp_path))
        with pytest.raises(WeightsError, match="holds no weights of Pix2Pix"):
            load_baseline(baseline, tmp_path)

    def test_weights_that_are_there_are_not_trained_again(self, tmp_path: Path) -> None:
        path, said = weights_path(PIX2PIX, tmp_path), list[str]()
        path.write_bytes(b"as it is")
        train_baseline(PIX2PIX, tmp_path / "no data", tmp_path, 1.0, said.append)
        assert path.read_bytes() == b"as it is"
        assert "delete it to train anew" in said[0]

    def test_what_was_learned_before_an_interruption_is_kept(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Interrupted(Constant):
            drawn = 0

            def draw(self) -> FillExample:
                self.drawn += 1
                if self.drawn > 2:
                    raise KeyboardInterrupt
                return self.example

        baseline = replace(TINY["pix2pix"], examples=lambda *_: Interrupted(TINY["pix2pix"]))
        (tmp_path / "palette_pack.npz").write_bytes(b"")
        with pytest.raises(KeyboardInterrupt):
            train_baseline(baseline, tmp_path, tmp_path, 1.0, lambda line: None)
        found = load_baseline(baseline, tmp_path)
        assert found is not None
        assert found.steps == 2


class TestInACT:
    """By the same way as the diffusion models, so the same is promised."""

    @pytest.mark.parametrize("name", ["pix2pix", "vox2vox"])
    def test_outside_the_margin_not_a_voxel_is_another(self, name: str, tmp_path: Path) -> None:
        baseline = TINY[name]
        save_baseline(trainer(name), weights_path(baseline, tmp_path))
        trained = load_baseline(baseline, tmp_path)
        assert trained is not None
        model, ct = BaselineModel(trained), make_liver()
        mask = ball(ct, (20, 14, 7), 9.0)
        asked = PaletteRequest if name == "pix2pix" else MedDDPMRequest
        first, again, other = (
            synthesize(ct, mask, asked(fill="healthy", margin_mm=0, seed=seed), model)[0].volume().array
            for seed in (1, 1, 2)
        )
        inside = mask.array > 0
        assert np.array_equal(first[~inside], ct.array[~inside])
        assert not np.array_equal(first[inside], ct.array[inside])
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)


def test_sides_fit_the_levels() -> None:
    for baseline in BASELINES:
        sides = (*baseline.sides, *baseline.patches.sides)
        assert all(side % baseline.multiple == 0 for side in sides)
