"""Half-open index boxes."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from lesionbrush.core.boxes import (
    Box,
    bounding_box,
    box_of,
    dilate,
    hull,
    merge,
    overlap,
    relative,
    round_up,
    shift,
)
from lesionbrush.errors import EmptyMask

SHAPE = (40, 36, 30)


def same(one: Box, other: Box) -> bool:
    return [(p.start, p.stop) for p in one] == [(p.start, p.stop) for p in other]


def random_boxes(count: int, within: int, seed: int = 0) -> list[Box]:
    start = np.random.default_rng(seed).integers(0, within, (count, 3))
    return [box_of((a, a + 2) for a in place) for place in start]


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_bounding_box_holds_the_mask_and_nothing_more(order: str) -> None:
    mask = np.zeros(SHAPE, np.uint8, order=order)
    mask[3, 35, 7] = mask[9, 2, 29] = 1
    found = bounding_box(mask)
    assert same(found, box_of([(3, 10), (2, 36), (7, 30)]))
    assert mask[found].sum() == 2


def test_an_empty_mask_has_no_bounding_box() -> None:
    with pytest.raises(EmptyMask, match="paint at least one voxel"):
        bounding_box(np.zeros(SHAPE, bool))


def test_relative_undoes_shifted() -> None:
    box, within = box_of([(1, 4), (0, 2), (5, 9)]), box_of([(10, 30), (20, 30), (1, 20)])
    assert same(shift(box, within), box_of([(11, 14), (20, 22), (6, 10)]))
    assert same(relative(shift(box, within), within), box)


def test_dilation_is_in_mm_and_stops_at_the_volume() -> None:
    box = box_of([(10, 12), (1, 3), (28, 30)])
    grown = dilate(box, 3.0, np.array([0.7, 1.0, 5.0]), SHAPE)
    assert same(grown, box_of([(5, 17), (0, 6), (27, 30)]))
    assert same(dilate(box, 0.0, np.ones(3), SHAPE), box)


def test_a_margin_of_whole_voxels_is_not_rounded_up_by_a_rounding_error() -> None:
    assert 2.1 / 0.7 > 3
    grown = dilate(box_of([(20, 21)] * 3), 2.1, np.array([0.7, 1.0, 2.1]), (99,) * 3)
    assert same(grown, box_of([(17, 24), (17, 24), (19, 22)]))


def test_boxes_overlap_only_when_they_share_a_voxel() -> None:
    box = box_of([(0, 4)] * 3)
    assert overlap(box, box_of([(3, 5)] * 3))
    assert not overlap(box, box_of([(4, 5), (0, 4), (0, 4)]))


def test_a_chain_of_neighbours_becomes_one_box_and_a_far_one_stays() -> None:
    boxes = [box_of([(k, k + 1)] * 3) for k in (0, 30, 4, 2, 6)]
    found = merge(boxes, lambda box: dilate(box, 1.0, np.ones(3), SHAPE))
    assert sorted(p[0].start for p in found) == [0, 30]
    assert same(min(found, key=lambda box: box[0].start), box_of([(0, 7)] * 3))


@pytest.mark.parametrize("count", [1, 40, 120])
def test_merged_boxes_lie_apart_and_hold_all_they_came_from(count: int) -> None:
    def grown(box: Box) -> Box:
        return dilate(box, 3.0, np.ones(3), (200,) * 3)

    boxes = random_boxes(count, 200)
    found = merge(boxes, grown)
    assert not any(overlap(grown(a), grown(b)) for a, b in combinations(found, 2))
    assert all(any(same(hull([box, holder]), holder) for holder in found) for box in boxes)


def test_the_order_of_the_boxes_does_not_matter() -> None:
    boxes = random_boxes(60, 60)

    def outcome(order: list[Box]) -> set[str]:
        return {str(box) for box in merge(order, lambda box: dilate(box, 2.0, np.ones(3), (60,) * 3))}

    assert outcome(boxes) == outcome(boxes[::-1])


def test_a_speckled_mask_grows_each_box_once() -> None:
    boxes = random_boxes(200, 100_000)
    calls: list[Box] = []

    def grown(box: Box) -> Box:
        calls.append(box)
        return box

    assert len(merge(boxes, grown)) == 200
    assert len(calls) == 200


@pytest.mark.parametrize(("value", "expected"), [(1, 8), (8, 8), (9, 16), (16.5, 24)])
def test_round_up(value: float, expected: int) -> None:
    assert round_up(value, 8) == expected
