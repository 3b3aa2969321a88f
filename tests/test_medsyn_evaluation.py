"""What is measured of a text, against chests whose fluid, emphysema and heart are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from lesionbrush.core.generate import Generation, generate
from lesionbrush.core.inputs import Inputs
from lesionbrush.core.volume import Volume
from lesionbrush.systems.medsyn.channels import WINDOW
from lesionbrush.systems.medsyn.chests import FieldChest, Wishes, bend, give, low_chest, measure_heart
from lesionbrush.systems.medsyn.data import channels_of
from lesionbrush.systems.medsyn.evaluation.controls import (
    CONTROLS,
    Contrast,
    measure_lost_air,
    measure_low_attenuation,
    measure_ratio,
)
from lesionbrush.systems.medsyn.field import ChestField, stored
from lesionbrush.systems.medsyn.model import layout_of
from lesionbrush.systems.medsyn.request import MedSynRequest
from medsyn_kit import medsyn_model, packed_chest

CHEST = low_chest(packed_chest(), 64)
MODEL = medsyn_model()


@pytest.fixture(scope="module")
def blank() -> Generation:
    return generate(MedSynRequest(steps=1, size=64), MODEL, Inputs())[0]


def made_of(chest: FieldChest, blank: Generation) -> Generation:
    """A result that is this chest."""
    field = ChestField((0.0, 0.0, 0.0), chest.size_mm)
    unit = channels_of(chest)
    ct = Volume(stored(np.rint(WINDOW.from_unit(unit[0])).astype(np.int16)), field.frame(64).affine)
    return replace(blank, ct=ct, layout=layout_of(unit, field.frame(64)))


def test_fluid_is_found_on_the_side_it_was_given_to(blank: Generation):
    given = give(CHEST, Wishes({"right": 900.0}), np.random.default_rng(0))
    made = made_of(given, blank)
    before = measure_lost_air(made_of(CHEST, blank), side=1)
    assert measure_lost_air(made, side=1) - before == pytest.approx(900, rel=0.15)
    assert measure_lost_air(made, side=2) == -measure_lost_air(made, side=1)


def test_low_attenuation_is_that_of_the_chest(blank: Generation):
    given = give(CHEST, Wishes({}, emphysema_percent=30.0), np.random.default_rng(0))
    wanted = given.findings.laa950_percent.value
    assert measure_low_attenuation(made_of(given, blank)) == pytest.approx(wanted, abs=2)
    assert measure_low_attenuation(made_of(CHEST, blank)) == 0


def test_a_wider_heart_measures_wider(blank: Generation):
    wide = bend(CHEST, 1.6, np.random.default_rng(0))
    ratios = [measure_ratio(made_of(chest, blank)) for chest in (CHEST, wide)]
    known = [measure_heart(chest)["cardiothoracic_ratio"].value for chest in (CHEST, wide)]
    assert ratios[0] < ratios[1]
    assert ratios[1] / ratios[0] == pytest.approx(known[1] / known[0], rel=0.25)


def test_without_lungs_nothing_is_measured(blank: Generation):
    empty = made_of(replace(CHEST, lobes=np.zeros_like(CHEST.lobes)), blank)
    assert np.isnan(
        [measure_lost_air(empty, side=1), measure_low_attenuation(empty), measure_ratio(empty)]
    ).all()


def test_a_prompt_that_does_nothing_is_told_from_one_that_does():
    low, high = (1.0, 2.0, 3.0, 4.0), (11.0, 12.0, 13.0, 14.0)
    same, more = (Contrast(CONTROLS[0], prompted, low) for prompted in (low, high))
    assert same.chance > 0.4
    assert more.chance == pytest.approx(1 / 70, rel=0.01)
    assert (same.right_way, more.right_way) == (0, 4)
    assert "2 not measured" in replace(more, prompted=(float("nan"), float("nan"), 13.0, 14.0)).line()
    assert np.isnan(replace(more, prompted=(float("nan"),) * 4).chance)
