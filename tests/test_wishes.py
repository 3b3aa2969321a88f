"""Lesions that a whole new CT was asked for with, put in by another model."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from core_fixtures import grid
from lesionbrush.augment.wishes import fulfil
from lesionbrush.core.generate import LESION, Generation, generate
from lesionbrush.core.inputs import Inputs, Layout
from lesionbrush.core.volume import Volume
from lesionbrush.core.wishes import LesionWish
from lesionbrush.systems.medsyn.channels import LOBE, lobes_to_unit
from lesionbrush.systems.medsyn.model import wish_of
from lesionbrush.systems.medsyn.request import MedSynRequest
from lesionbrush.systems.medsyn.text.nodules import NoduleWish
from medsyn_kit import medsyn_model

SPACING_MM = 2.0
ROOM = np.index_exp[8:40, 8:40, 8:40]


def chest(*wishes: LesionWish, seed: int = 0) -> Generation:
    """Of lung, with grain, in a frame of tissue."""
    model = medsyn_model()
    (made,) = generate(MedSynRequest(steps=1, fine_steps=1, size=64, seed=seed), model, Inputs(text="large"))
    hu = np.full((48, 48, 48), 40, np.int16)
    hu[ROOM] = -850 + np.random.default_rng(0).integers(-30, 30, hu[ROOM].shape)
    ct = Volume(hu, grid((SPACING_MM,) * 3))
    labels = np.zeros(hu.shape, np.uint8)
    labels[ROOM] = 3
    return replace(made, ct=ct, layout=Layout(ct.with_array(labels), {3: "right lung"}), wishes=wishes)


def wish(diameter_mm: float = 12.0, **facts: object) -> LesionWish:
    place = np.zeros((48, 48, 48), bool)
    place[ROOM] = True
    common = {"said": "nodule (solid)", "model": "lung_lesion", "attributes": {"texture": "solid"}}
    return LesionWish(**{**common, "diameter_mm": (diameter_mm, diameter_mm), "place": place, **facts})


def test_a_wish_is_put_where_it_may_lie_and_told():
    before = chest(wish())
    after = fulfil(before)
    assert after.layout is not None
    assert after.layout.names == {3: "right lung", 4: LESION}
    inside = after.layout.mask(LESION)
    assert inside.any()
    assert inside[ROOM].sum() == inside.sum()
    assert after.ct.array[inside].mean() > before.ct.array[inside].mean() + 300
    far = np.ones(inside.shape, bool)
    far[tuple(slice(low - 8, high + 9) for low, high in _ends(inside))] = False
    assert (after.ct.array == before.ct.array)[far].all()
    assert any("nodule (solid) was put in by lung_lesion: 1" in one for one in after.provenance.remarks)
    assert not after.wishes
    assert after.provenance.generated


def _ends(inside: np.ndarray) -> list[tuple[int, int]]:
    places = np.argwhere(inside)
    return list(zip(places.min(axis=0), places.max(axis=0), strict=True))


def test_the_seed_of_the_generation_says_where():
    first, again, other = (fulfil(chest(wish(), seed=seed)) for seed in (0, 0, 1))
    assert (first.ct.array == again.ct.array).all()
    assert (first.ct.array != other.ct.array).any()


def test_two_wishes_are_two_places():
    after = fulfil(chest(wish(10.0), wish(10.0)))
    assert after.layout is not None
    told = [one for one in after.provenance.remarks if "put in by" in one]
    assert len(told) == 2
    one = fulfil(chest(wish(10.0)))
    assert one.layout is not None
    assert after.layout.mask(LESION).sum() > 1.5 * one.layout.mask(LESION).sum()


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"diameter_mm": 4.0}, r"voxels of up to 2.0 mm show nothing below 5 mm; ask for a larger"),
        ({"place": np.zeros((48, 48, 48), bool)}, "there is no such place in this CT"),
        ({"diameter_mm": 90.0}, "left out: "),
        ({"model": "not_there"}, "no model is called 'not_there'"),
    ],
)
def test_what_cannot_be_put_in_is_told_and_the_ct_stays(facts: dict[str, object], why: str):
    before = chest(wish(**facts))
    after = fulfil(before)
    assert (after.ct.array == before.ct.array).all()
    assert after.layout is before.layout
    (told,) = [one for one in after.provenance.remarks if "left out" in one and "nodule" in one]
    assert re.search(why, told)


def test_without_wishes_nothing_changes():
    made = chest()
    assert fulfil(made) is made


def test_a_nodule_lies_in_the_lobe_that_is_said():
    unit = np.full((4, 2, 2, 8), -1.0, np.float32)
    unit[LOBE, 0, 0] = lobes_to_unit(np.arange(8))
    named = wish_of(NoduleWish(12.0, "part-solid", "right lung upper lobe", "right"), unit)
    sided = wish_of(NoduleWish(side="left"), unit)
    anywhere = wish_of(NoduleWish(), unit)
    assert [one.place.sum() for one in (named, sided, anywhere)] == [1, 3, 7]
    assert named.said == "nodule (12 mm, part-solid, right lung upper lobe)"
    assert (named.diameter_mm, named.attributes) == ((12.0, 12.0), {"texture": "part_solid"})
    assert (anywhere.said, anywhere.attributes) == ("nodule", {})
    assert anywhere.diameter_mm[0] < anywhere.diameter_mm[1]


def test_the_server_and_the_command_line_fulfil_them():
    """Both go by the same function: whoever adds a third way should as well."""
    app = Path(__file__).parents[1] / "app" / "lesionbrush"
    callers = {path.name for path in app.rglob("*.py") if "fulfil(one" in path.read_text(encoding="utf-8")}
    assert callers == {"generate.py", "making.py"}
