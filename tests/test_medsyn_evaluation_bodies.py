"""Whether what is held is followed, and whether chests are new ones: against cases whose answer is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from core_fixtures import grid
from lesionbrush.core.generate import Generation, generate
from lesionbrush.core.inputs import Layout
from lesionbrush.core.volume import Volume
from lesionbrush.errors import InvalidRequest
from lesionbrush.evaluation.statistics import frechet_distance
from lesionbrush.systems.medsyn import evaluation
from lesionbrush.systems.medsyn.chests import low_chest
from lesionbrush.systems.medsyn.evaluation import ALONE, LOBES_HELD, PROMPTS, evaluate_text
from lesionbrush.systems.medsyn.evaluation.bodies import SIDE, SliceFeatures, measure_novelty, unstored
from lesionbrush.systems.medsyn.evaluation.controls import CONTROLS
from lesionbrush.systems.medsyn.evaluation.held_out import HeldChest, air_dice, follow_airways
from lesionbrush.systems.medsyn.evaluation.without_masks import compare_networks, windpipe_ml
from lesionbrush.systems.medsyn.field import ChestField, stored
from lesionbrush.systems.medsyn.pack import PackedChest, read_chests
from lesionbrush.systems.medsyn.request import MedSynRequest
from medsyn_kit import medsyn_model, packed_chest

MODEL = medsyn_model()


def another_chest() -> PackedChest:
    """With denser lungs."""
    chest = packed_chest()
    return replace(chest, patient="another", hu=np.where(chest.hu < -500, -600, chest.hu).astype(np.int16))


def made_like(chest: PackedChest) -> Generation:
    (blank,) = generate(MedSynRequest(steps=1, fine_steps=1, size=64), MODEL)
    hu = stored(low_chest(chest, 64).hu).astype(np.int16)
    return replace(blank, ct=blank.ct.with_array(hu))


def test_a_copy_of_a_training_chest_is_no_new_one():
    chest, rng = packed_chest(), np.random.default_rng(0)
    copied = measure_novelty([made_like(chest)] * 2, [chest], [another_chest()], rng)
    assert copied.made_hu < 1
    assert copied.bent_hu > 20
    lung = low_chest(chest, SIDE).hu < -500
    known = low_chest(chest, SIDE).known
    assert copied.held_out_hu == pytest.approx(250 * np.sqrt(lung[known].mean()), rel=0.1)
    new = measure_novelty([made_like(another_chest())] * 2, [chest], [another_chest()], rng)
    assert new.made_hu == pytest.approx(new.held_out_hu, rel=0.1)
    assert new.mmd > copied.mmd
    assert "nearest training chest, HU: 0 of what was made" in copied.line()


def test_slices_are_told_apart_along_their_principal_components():
    chest, rng = low_chest(packed_chest(), SIDE).hu, np.random.default_rng(0)
    chests = [chest + rng.normal(0, 30, chest.shape) for _ in range(4)]
    slices = SliceFeatures.of(chests)
    own = slices.read(chests)
    np.testing.assert_allclose(own.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(np.cov(own.T, bias=True), np.eye(own.shape[1]), atol=1e-6)
    moved = slices.read([np.roll(one, 6, axis=2) for one in chests])
    assert frechet_distance(moved, own) > 5 * frechet_distance(own[::2], own[1::2])


def test_the_row_without_masks_is_measured_on_what_both_have():
    lines = list(compare_networks(MODEL, MODEL, [packed_chest(), another_chest()], 2))
    assert [line.split(":")[0] for line in lines[:3]] == ["with masks", "CT alone", "training chests, bent"]
    assert lines[0].split(":")[1] == lines[1].split(":")[1], "the same network says the same"
    assert "p = 1 " in lines[3]


def test_air_above_the_carina_is_counted_by_its_density():
    hu = np.full((SIDE,) * 3, 40.0)
    assert windpipe_ml(hu) == 0
    hu[22, 15, 15], hu[23, 15, 15], hu[23, 2, 2] = -1000, -480, -1000
    voxel_ml = np.prod(np.array(ChestField.usual().size_mm) / SIDE) / 1000
    assert windpipe_ml(hu) == pytest.approx(1.5 * voxel_ml)


def test_the_stored_order_is_undone():
    field = np.random.default_rng(0).normal(size=(SIDE, SIDE, SIDE)).astype(np.float32)
    np.testing.assert_array_equal(unstored(stored(field)), field)


def tube(hu: float) -> tuple[Volume, Layout, np.ndarray]:
    """An airway of this density in tissue, a lung away from it."""
    array = np.full((40, 40, 40), 40, np.int16)
    airway = np.zeros(array.shape, bool)
    airway[18:22, 18:22, 5:35] = True
    array[airway] = hu
    labels = np.zeros(array.shape, np.uint8)
    labels[28:38, 5:35, 5:35] = 1
    array[labels > 0] = -850
    ct = Volume(array, grid((2.0, 2.0, 2.0)))
    return ct, Layout(ct.with_array(labels), {1: "right lung upper lobe"}), airway


def test_air_is_found_where_an_airway_is_and_nowhere_else():
    ct, lobes, airway = tube(-1000)
    assert air_dice(ct, lobes, airway) == 1
    assert air_dice(tube(30)[0], lobes, airway) == 0
    half = airway.copy()
    half[:, :, 20:] = False
    assert air_dice(ct, lobes, half) == pytest.approx(2 * 15 / (15 + 22), abs=0.05)  # air 15 mm on counts
    assert np.isnan(air_dice(ct, lobes, np.zeros_like(airway)))


def test_a_held_chest_is_sent_as_it_was_packed():
    chest = HeldChest.of(packed_chest(), 64)
    assert chest.ct.shape == chest.lobes.labels.shape == (64, 64, 64)
    names = {"right lung upper lobe", "right lung lower lobe", "left lung upper lobe"}
    assert set(chest.lobes.names.values()) == names
    right, left = (
        np.argwhere(chest.lobes.mask(name)).mean(axis=0)[0]
        for name in ("right lung upper lobe", "left lung upper lobe")
    )
    ras = chest.ct.affine[0, 0]
    assert right * ras > left * ras  # x runs to the patient's right in RAS
    assert set(chest.held("lobes", "airways")) == {"lobes", "airways"}


def test_airways_that_are_held_are_looked_for():
    found = follow_airways(MODEL, HeldChest.of(packed_chest()), MedSynRequest(steps=1, fine_steps=1))
    assert set(found.figures()) == {"airways_held_dice", "airways_free_dice"}  # it has none outside its lobes
    assert "held-out chest, Dice" in found.line()


def test_the_evaluation_prints_all_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(evaluation, "STEPS", 1)
    some = CONTROLS[1:3]
    monkeypatch.setattr(evaluation, "CONTROLS", some)
    write_pack(tmp_path / "chests.npz", packed_chest(), replace(another_chest(), patient="LIDC-IDRI-0314"))
    figures = evaluate_text(MODEL, tmp_path, 2, tmp_path)
    assert all((tmp_path / name).is_file() for name in (PROMPTS, LOBES_HELD, ALONE))
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) == 2 * len(some) + 4
    assert {"made_hu", "airways_held_dice", "laa950_percent_right_way"} <= set(figures)
    assert {f"lobes_held_{one.name}_p" for one in some} <= set(figures)


def test_patients_may_be_left_out_of_a_training(tmp_path: Path):
    write_pack(tmp_path / "chests.npz", packed_chest(), another_chest())
    (left,) = read_chests(tmp_path / "chests.npz", validation=False, without=("another",))
    assert left.patient == packed_chest().patient
    with pytest.raises(InvalidRequest, match="--without nobody: no such patient; there are someone, another"):
        read_chests(tmp_path / "chests.npz", validation=False, without=("nobody",))


def write_pack(path: Path, *chests: PackedChest) -> None:
    facts, arrays = [], {}
    for k, one in enumerate(chests):
        arrays |= {f"hu_{k}": one.hu, f"labels_{k}": one.labels}
        known = [[part.start, part.stop] for part in one.known]
        said = {"patient": one.patient, "known": known, "size_mm": one.size_mm}
        facts.append({**said, "findings": one.findings.model_dump(mode="json")})
    np.savez(path, facts=np.array(json.dumps(facts)), **arrays)
