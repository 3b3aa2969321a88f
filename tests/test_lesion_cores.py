"""What is drawn of a lesion's inside: the share of a solid core, and where it lies."""

from __future__ import annotations

import numpy as np
import pytest
from lesionbrush.errors import InvalidRequest
from lesionbrush.systems import parse_request
from lesionbrush.systems.lesion_inpainting.attributes import SHARE_RANGE, typical_solid_share
from lesionbrush.systems.lesion_inpainting.laws.cores import (
    SHARE_STRAYS,
    LesionDraws,
    Purpose,
    draw_core,
    draw_core_shares,
)
from lesionbrush.systems.lesion_inpainting.request import Attributes

ITEMS = [(seed, lesion) for seed in range(40) for lesion in range(2)]


def ball() -> np.ndarray:
    distance = np.linalg.norm(np.stack(np.indices((24,) * 3), -1) - 11.5, axis=-1)
    return (distance <= 8.0).astype(np.float32)


def test_cores_differ_repeat_and_an_empty_mask_has_none() -> None:
    first, again, other = (draw_core(ball(), 1.0, 0.4, np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not draw_core(np.zeros((8, 8, 8), np.float32), 1.0, 0.4, np.random.default_rng(0)).any()


@pytest.mark.parametrize(
    ("one", "other"),
    [(Purpose.GLASS_HU, Purpose.CORE_HU), (Purpose.CALCIUM_MIDDLE_HU, Purpose.CALCIFIED_MEAN_HU)],
)
def test_densities_of_one_lesion_are_drawn_apart_and_repeat(one: Purpose, other: Purpose) -> None:
    draws = LesionDraws([(7, digest) for digest in range(500)])
    hu = [draws.hu((0.0, 100.0), purpose) for purpose in (one, other)]
    assert abs(np.corrcoef(*hu)[0, 1]) < 0.15
    assert np.array_equal(hu[0], draws.hu((0.0, 100.0), one))
    assert np.array_equal(hu[1], draws.hu((0.0, 100.0), other))


def test_no_two_purposes_share_their_draws() -> None:
    draws = LesionDraws([(0, 0)])
    assert len({float(draws.generator(0, purpose).normal()) for purpose in Purpose}) == len(Purpose)


def test_shares_left_open_are_drawn_around_what_is_typical_and_alike_without_variety() -> None:
    wish, diameters_mm = Attributes(texture="part_solid"), np.full(len(ITEMS), 12.0)
    typical = typical_solid_share(diameters_mm)
    strays = draw_core_shares(wish, diameters_mm, LesionDraws(ITEMS)) - typical
    assert -SHARE_STRAYS < strays.min() < 0.05 - SHARE_STRAYS
    assert SHARE_STRAYS - 0.05 < strays.max() < SHARE_STRAYS
    assert draw_core_shares(wish, diameters_mm, LesionDraws(ITEMS, 0.0)) == pytest.approx(typical)


def test_small_lesions_have_smaller_cores_unless_a_share_was_asked_for() -> None:
    diameters_mm, draws = np.array([5.0, 10.0, 30.0]), LesionDraws(ITEMS[:3], 0.0)
    shares = draw_core_shares(Attributes(texture="part_solid"), diameters_mm, draws)
    assert shares == pytest.approx([0.21, 0.375, 0.485])
    asked = draw_core_shares(Attributes(texture="part_solid", solid_share=0.3), diameters_mm, draws)
    assert asked == pytest.approx([0.3] * 3)


def test_a_drawn_share_is_one_that_could_be_asked_for() -> None:
    tiny, huge = (np.full(len(ITEMS), mm) for mm in (0.0, 100.0))
    for diameters_mm in (tiny, huge):
        shares = draw_core_shares(Attributes(texture="part_solid"), diameters_mm, LesionDraws(ITEMS, 2.0))
        assert shares.min() >= np.float32(SHARE_RANGE[0])
        assert shares.max() <= np.float32(SHARE_RANGE[1])


@pytest.mark.parametrize("texture", ["solid", "ground_glass", None])
def test_a_share_of_a_core_belongs_to_part_solid_lesions(texture: str | None) -> None:
    with pytest.raises(InvalidRequest, match=r"solid_share.*part_solid"):
        parse_request({"attributes": {"texture": texture, "solid_share": 0.3}})
