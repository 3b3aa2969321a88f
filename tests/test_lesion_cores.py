"""What is drawn of a lesion's inside: the share of a solid core, and where it lies."""

from __future__ import annotations

import numpy as np
import pytest
from lesionbrush.errors import InvalidRequest
from lesionbrush.request import Attributes, parse_request
from lesionbrush.systems.lesion_cores import CORE_SHARES, Draws, core_shares, drawn_core

ITEMS = [(seed, lesion) for seed in range(40) for lesion in range(2)]


def ball() -> np.ndarray:
    distance = np.linalg.norm(np.stack(np.indices((24,) * 3), -1) - 11.5, axis=-1)
    return (distance <= 8.0).astype(np.float32)


def test_cores_differ_repeat_and_an_empty_mask_has_none() -> None:
    first, again, other = (drawn_core(ball(), 1.0, 0.4, np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not drawn_core(np.zeros((8, 8, 8), np.float32), 1.0, 0.4, np.random.default_rng(0)).any()


def test_shares_left_open_are_those_of_real_ones_and_alike_without_variety() -> None:
    wish = Attributes(texture="part_solid")
    shares = core_shares(wish, Draws(ITEMS))
    assert CORE_SHARES[0] < shares.min() < CORE_SHARES[0] + 0.05
    assert CORE_SHARES[1] - 0.05 < shares.max() < CORE_SHARES[1]
    typical = core_shares(wish, Draws(ITEMS, 0.0))
    assert typical == pytest.approx([sum(CORE_SHARES) / 2] * len(ITEMS))


@pytest.mark.parametrize("texture", ["solid", "ground_glass", None])
def test_a_share_of_a_core_belongs_to_part_solid_lesions(texture: str | None) -> None:
    with pytest.raises(InvalidRequest, match=r"solid_share.*part_solid"):
        parse_request({"attributes": {"texture": texture, "solid_share": 0.3}})
