"""Chests in MedSyn's field, findings given to them by rule, and tiles of them, against closed forms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from core_fixtures import grid
from lesionbrush.anatomy.chest.naming import LOBES
from lesionbrush.core.roi import Orientation
from lesionbrush.core.volume import Volume
from lesionbrush.errors import NoLungs
from lesionbrush.systems.medsyn.channels import CT, LOBE, lobes_from_unit, lobes_to_unit
from lesionbrush.systems.medsyn.chests import (
    LAA_HU,
    Wishes,
    bend,
    give,
    low_chest,
    measure_heart,
    vary,
)
from lesionbrush.systems.medsyn.data import MedSynBatches, channels_of, tile_of
from lesionbrush.systems.medsyn.field import LUNGS_FILL, ChestField, stored
from lesionbrush.systems.medsyn.recipes import RECIPES, MedSynRecipe, Networks, Refinement
from lesionbrush.systems.medsyn.trainer import MedSynTrainer
from medsyn_kit import FINE, LOW, make_networks, packed_chest
from test_promise import TURNS

CHEST = low_chest(packed_chest(), 64)
NOTHING = Wishes({})


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def places(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(3, I, J, K) RAS mm of all voxels."""
    at: np.ndarray = np.einsum("rc,cijk->rijk", affine[:3, :3], np.indices(shape))
    return at + affine[:3, 3, None, None, None]


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS)
def test_a_voxel_of_the_field_lies_where_its_frame_says(turn: np.ndarray):
    ct = Volume(np.zeros((20, 24, 28), np.int16), grid((4.0, 3.0, 5.0), turn))
    world = places(ct.affine, ct.shape)
    turned = Orientation.of(ct.affine)
    spacing_mm = turned.spacing_mm(ct.spacing_mm)
    lungs = np.zeros(ct.shape, bool)
    lungs[6:14, 8:16, 9:20] = True
    field = ChestField.around(turned.view(lungs), spacing_mm)
    frame = field.frame(8, ct)
    taken = np.stack([stored(field.take(turned.view(axis), spacing_mm, 8)) for axis in world])
    said = places(frame.affine, frame.shape)
    box = field.known(turned.view(lungs).shape, spacing_mm, 8)
    inside = np.zeros((8, 8, 8), bool)
    inside[tuple(slice(part.start + 1, part.stop - 1) for part in box)] = True
    inside = stored(inside)
    assert inside.sum() > 50
    np.testing.assert_allclose(taken[:, inside], said[:, inside], atol=0.15)  # of voxels of 12 mm


def test_lungs_fill_the_same_part_of_every_field():
    lungs = np.zeros((40, 40, 40), bool)
    lungs[10:30, 12:28, 5:35] = True
    field = ChestField.around(lungs, np.array([5.0, 4.0, 3.0]))
    assert np.allclose(np.array(field.size_mm) * LUNGS_FILL, [100.0, 64.0, 90.0])
    assert np.allclose(np.array(field.first_mm) + np.array(field.size_mm) / 2, [97.5, 78.0, 58.5])


def test_cut_lungs_get_the_height_they_usually_have():
    lungs = np.zeros((20, 40, 40), bool)
    lungs[:12, 10:30, 5:35] = True
    field = ChestField.around(lungs, np.array([5.0, 5.0, 8.0]))
    top = field.first_mm[0] + field.size_mm[0] / 2 * (1 + LUNGS_FILL[0])
    assert np.isclose(top, 57.5)
    assert np.isclose(field.size_mm[0] * LUNGS_FILL[0], 250 / 275 * 240)


def test_no_lungs_are_refused():
    with pytest.raises(NoLungs, match="no lung is found"):
        ChestField.around(np.zeros((4, 4, 4), bool), np.ones(3))


def test_numbers_of_lobes_come_back():
    numbers = np.arange(len(LOBES) + 1, dtype=np.uint8)
    assert (lobes_from_unit(lobes_to_unit(numbers) + 0.1) == numbers).all()
    assert lobes_to_unit(numbers).min() == -1
    assert lobes_to_unit(numbers).max() == 1


def test_fluid_has_the_volume_that_its_text_says():
    given = give(CHEST, Wishes({"right": 500.0}), rng())
    ml = given.findings.effusion_right_ml.value
    lung = CHEST.lung("right")
    gone = lung & ~given.lung("right")
    assert ml == pytest.approx(500, abs=CHEST.voxel_ml)
    assert ml == pytest.approx(gone.sum() * CHEST.voxel_ml, rel=0.02)
    assert -5 < given.hu[gone].mean() < 25
    assert np.argwhere(gone)[:, 1].mean() < np.argwhere(lung)[:, 1].mean(), "fluid lies at the back"
    left = CHEST.lobes == 4
    assert (given.hu[left] == CHEST.hu[left]).all()
    assert (given.lobes[left] == CHEST.lobes[left]).all()


def test_emphysema_is_measured_on_the_voxels_that_come_out():
    given = give(CHEST, Wishes({}, emphysema_percent=20.0), rng())
    lung = given.lung("right") | given.lung("left")
    percent = given.findings.laa950_percent.value
    assert percent == pytest.approx(100 * (given.hu[lung] < LAA_HU).mean(), abs=0.01)
    assert 15 < percent < 26
    assert give(CHEST, NOTHING, rng()).findings.laa950_percent.value == 0
    assert (given.hu[~lung] == CHEST.hu[~lung]).all()


def test_consolidation_stays_part_of_its_lobe():
    given = give(CHEST, Wishes({}, consolidation_ml=60.0), rng())
    assert given.findings.consolidation_ml.value == pytest.approx(60, abs=CHEST.voxel_ml)
    assert (given.lobes == CHEST.lobes).all()
    assert (given.hu[CHEST.lobes > 0] > -100).sum() * CHEST.voxel_ml == pytest.approx(60, rel=0.3)


def test_a_wider_heart_has_a_greater_ratio():
    before = measure_heart(CHEST)["cardiothoracic_ratio"].value
    x_mm = 384 / 64
    assert measure_heart(CHEST)["heart_width_mm"].value == pytest.approx(14 * x_mm, abs=1)
    assert before == pytest.approx(14 / 47, abs=0.01)
    wide = give(bend(CHEST, 1.6, rng()), NOTHING, rng()).findings.cardiothoracic_ratio.value
    same = give(bend(CHEST, 1.0, rng()), NOTHING, rng()).findings.cardiothoracic_ratio.value
    assert wide > 1.25 * same


def test_without_a_heart_nothing_is_said_of_it():
    assert measure_heart(replace(CHEST, heart=np.zeros_like(CHEST.heart))) == {}


def test_equal_generators_give_equal_chests():
    one, other = vary(CHEST, rng()), vary(CHEST, rng())
    assert (one.hu == other.hu).all()
    assert one.findings == other.findings
    assert not (vary(CHEST, np.random.default_rng(4)).hu == one.hu).all()


@pytest.mark.parametrize("side", [32, 64])
def test_findings_are_as_large_on_coarser_voxels(side: int):
    chest = low_chest(packed_chest(), side)
    given = give(bend(chest, 1.0, rng()), Wishes({"left": 600.0}, emphysema_percent=20.0), rng())
    assert given.findings.effusion_left_ml.value == pytest.approx(600, abs=1.01 * chest.voxel_ml)
    assert 12 < given.findings.laa950_percent.value < 30
    assert measure_heart(chest)["cardiothoracic_ratio"].value == pytest.approx(14 / 47, abs=0.06)


def test_beyond_the_volume_nothing_is_known():
    assert not CHEST.known[:, :4].any()
    assert CHEST.known[:, 4:, :-4].all()
    assert (CHEST.hu[:, :4] == -1024).all()


@pytest.mark.parametrize("factor", [2, 4])
def test_a_tile_is_shown_its_place_at_64_voxels(factor: int):
    low = [20, 24, 40]
    tile = tile_of(packed_chest(), low, Refinement(64, factor), 32)
    side = 32 // factor
    place = tuple(slice(first, first + side) for first in low)
    coarse = channels_of(CHEST)[(slice(None), *place)]
    assert tile.image.shape == tile.shown.shape == (4, 32, 32, 32)
    np.testing.assert_allclose(tile.shown[:, factor // 2 :: factor, ::factor, ::factor], coarse, atol=1e-6)
    means = tile.image[CT].numpy().reshape(side, factor, side, factor, side, factor).mean((1, 3, 5))
    np.testing.assert_allclose(means, coarse[CT], atol=1e-5)
    assert set(np.unique(lobes_from_unit(tile.image[LOBE].numpy()))) <= {0, 1, 3, 4}


def test_a_tile_at_the_border_of_the_volume_scores_what_is_there():
    known = tile_of(packed_chest(), [0, 0, 0], Refinement(64, 4), 32).known
    assert not known[:, :16].any()
    assert known[:, 16:].all()


def tiny_recipe(low_share: float) -> MedSynRecipe:
    return replace(
        RECIPES["ours"], network=Networks(low=LOW, high=FINE), low_share=low_share, tile=32, steps=4
    )


@pytest.mark.parametrize(("low_share", "channels"), [(1.0, 1), (0.0, 4)])
def test_a_step_of_training_changes_its_network_alone(low_share: float, channels: int, tmp_path: Path):
    encoder = make_networks().encoder
    assert encoder is not None
    recipe = tiny_recipe(low_share)
    trainer = MedSynTrainer(recipe, torch.device("cpu"), 0, encoder.requires_grad_(False))
    said: list[str] = []

    def describe(findings: object, generator: np.random.Generator) -> str:
        said.append("large right effusion")
        return said[-1]

    batches = MedSynBatches([packed_chest()], recipe, trainer.numpy_rng, describe, encoder.encode)
    batch = batches.draw()
    assert batch.shown.shape[1] == channels
    assert (batch.text is not None) == bool(low_share)
    assert bool(said) == bool(low_share)
    before = {name: one.clone() for name, one in trainer.network.state_dict().items()}
    loss = trainer.step([batch])
    assert torch.isfinite(loss)
    after = trainer.network.state_dict().items()
    changed = {name.split(".")[0] for name, one in after if (one != before[name]).any()}
    assert changed == {"low" if low_share else "high"}


def test_what_is_not_known_is_not_scored():
    recipe = tiny_recipe(1.0)
    trainer = MedSynTrainer(recipe, torch.device("cpu"), 0, None)
    batches = MedSynBatches(
        [packed_chest()], recipe, rng(), lambda *_: "", lambda texts: torch.zeros(len(texts), 32, 16)
    )
    batch = batches.draw()
    other = replace(batch, image=torch.where(batch.scored > 0, batch.image, torch.zeros(())))
    assert (batch.scored == 0).any()
    losses = [
        float(trainer.error(torch.zeros_like(one.image), _at(one.image)).mul(one.scored).sum())
        for one in (batch, other)
    ]
    assert losses[0] == losses[1]


def _at(image: torch.Tensor):
    from lesionbrush.diffusion.schedules import SCHEDULES
    from lesionbrush.training.levels import EVEN
    from lesionbrush.training.noising import Noised

    return Noised.draw(image, SCHEDULES["cosine"](1000), EVEN, torch.Generator().manual_seed(0))
