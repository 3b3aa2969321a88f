"""How donors are joined to their surroundings: what the network sees, its steps, what it may make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from core_fixtures import tiny_model
from lesionbrush.core.rois import RoiBatch, Sampled
from lesionbrush.diffusion.schedules import cosine
from lesionbrush.errors import InvalidRequest
from lesionbrush.systems.lesion_inpainting.removal import (
    BLEND_MM,
    JOIN_RATIO,
    SHELL_MM,
    SLACK_HU,
    Steps,
    bound,
    join_donors,
    join_timesteps,
    open_shell,
)

SIDE = 13


class Filler:
    """Fills every ROI with -700 from noise, and with -600 from donors; counts steps."""

    def __init__(self) -> None:
        self.asked: list[RoiBatch] = []

    def __call__(self, rois: RoiBatch, seeds: Sequence[int], on_step) -> Sampled:
        self.asked.append(rois)
        steps = 4 if rois.own is None else 2
        for step in range(steps):
            on_step((step + 1) * len(seeds) * len(rois.mask), 0)
        value = -700 if rois.own is None else -600
        hu = np.where(rois.editable, np.float32(value), rois.reference_hu)
        return Sampled(np.stack([hu] * len(seeds)), "fake", ("hot",))


def two_rois() -> RoiBatch:
    """Two lesions, two seeds; the second lesion has no donor for the second seed."""
    lung = np.full((2, SIDE, SIDE, SIDE), -850, np.float32)
    mask, editable = np.zeros_like(lung), np.zeros(lung.shape, bool)
    mask[:, 4:9, 4:9, 4:9] = 1
    editable[:, 2:11, 2:11, 2:11] = True
    donor_hu = np.full((2, *editable.shape), -500, np.float32)
    donor_hu[1, 1] = np.nan
    return RoiBatch(lung, mask, editable, np.ones(lung.shape, bool), own=donor_hu)


def test_lesions_with_and_without_donors_are_kept_apart() -> None:
    rois, filler, seen = two_rois(), Filler(), []
    made_ = join_donors(filler, rois, [5, 6], Steps(4, 2), lambda done, total: seen.append((done, total)))
    assert made_.remarks == ("hot",)
    assert (made_.hu[1, 1][rois.editable[1]] == -700).all()
    for variant, lesion in ((0, 0), (0, 1), (1, 0)):
        hu = made_.hu[variant, lesion]
        assert hu[6, 6, 6] == -500
        assert hu[6, 6, 2] == -600
        assert hu[0, 0, 0] == -850
        assert made_.drawn[variant, lesion, 6, 6, 6] == 1
        assert made_.drawn[variant, lesion, 6, 6, 2] == pytest.approx(1 / BLEND_MM)
        assert made_.drawn[variant, lesion, 0, 0, 0] == 0
    assert not made_.drawn[1, 1].any()
    assert seen[-1] == (24, 24)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_without_any_donor_nothing_is_joined() -> None:
    rois, filler, seen = two_rois(), Filler(), []
    bare = replace(rois, own=np.full_like(rois.own, np.nan))
    made_ = join_donors(filler, bare, [5, 6], Steps(4, 2), lambda done, total: seen.append((done, total)))
    assert len(filler.asked) == 1
    assert not made_.drawn.any()
    assert seen[-1] == (16, 16)


def test_the_network_is_shown_the_donors_middle() -> None:
    filler = Filler()
    join_donors(filler, two_rois(), [5, 6], Steps(4, 2), lambda done, total: None)
    _, first, second = filler.asked
    depth_mm = np.arange(1, 6)
    np.testing.assert_array_equal(first.editable[0, 6, 6, 2:7], depth_mm <= SHELL_MM)
    np.testing.assert_array_equal(first.reference_hu[0, 6, 6, 2:7] == -500, depth_mm > SHELL_MM)
    assert not first.mask[~first.editable].any()
    assert second.editable[1, 6, 6, 2:7].all()


def test_what_joins_is_no_denser_than_what_it_joins() -> None:
    rois = two_rois()
    donors_hu = rois.own[0]
    known = open_shell(rois, donors_hu)
    made_hu = np.where(known.editable, np.float32(300), known.reference_hu)
    hu = bound(made_hu, known, donors_hu)
    np.testing.assert_array_equal(hu[known.editable], -500 + SLACK_HU)
    np.testing.assert_array_equal(hu[~known.editable], known.reference_hu[~known.editable])
    low = bound(np.where(known.editable, np.float32(-1000), known.reference_hu), known, donors_hu)
    assert low[0, 6, 6, 2] == -850 - SLACK_HU
    assert low[0, 6, 6, 4] == -500 - SLACK_HU


def test_chest_wall_is_left_to_the_donor() -> None:
    rois = two_rois()
    wall = np.full_like(rois.reference_hu, 40)
    known = open_shell(replace(rois, reference_hu=wall), wall)
    np.testing.assert_array_equal(bound(wall + 15, known, wall)[known.editable], 40)


@pytest.mark.parametrize("steps", [1, 2, 12, 900])
def test_joining_starts_where_donors_are_remembered(steps: int) -> None:
    schedule = tiny_model().schedule
    visited = join_timesteps(schedule, steps).tolist()
    first = visited[0]
    assert schedule.sigma(first) / schedule.alpha(first) <= JOIN_RATIO
    assert schedule.sigma(first + 1) / schedule.alpha(first + 1) > JOIN_RATIO
    assert len(visited) == min((steps + 1) // 2, first + 1)


def test_more_steps_than_there_are_levels_are_refused_here_too() -> None:
    schedule = cosine(50)
    with pytest.raises(InvalidRequest, match="choose no more"):
        join_timesteps(schedule, 60)
    assert len(join_timesteps(schedule, 10)) == 5
