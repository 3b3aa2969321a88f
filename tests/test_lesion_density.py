"""The middle of a solid lesion: which voxels it is, what is drawn for it, and that it is held."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lesionbrush.diffusion import schedules
from lesionbrush.diffusion.guidance import Moments
from lesionbrush.request import Attributes
from lesionbrush.systems.lesion_density import CORE_DEPTH_MM, FURTHEST, drawn_core, hold_core, is_left_open
from scipy import ndimage

ITEMS = [(seed, lesion) for seed in range(40) for lesion in range(2)]
CORE_HU = (37.0, 30.0)


def masks(count: int = 2) -> np.ndarray:
    """A ball of 8 mm radius, then one of 2.5 mm, and so on."""
    distance = np.linalg.norm(np.stack(np.indices((24,) * 3), -1) - 11.5, axis=-1)
    return np.stack([distance <= (8.0 if k % 2 == 0 else 2.5) for k in range(count)]).astype(np.float32)


def test_the_middle_is_deep_inside_and_a_small_lesion_has_none() -> None:
    large, small = drawn_core(masks(), 1.0, CORE_HU, ITEMS[:2]).weights
    assert not small.any()
    depth_mm = ndimage.distance_transform_edt(masks()[0])
    assert np.array_equal(large > 0, depth_mm > CORE_DEPTH_MM)


def test_draws_have_the_mean_of_real_ones_repeat_and_are_never_far_off() -> None:
    drawn = drawn_core(masks(len(ITEMS)), 1.0, CORE_HU, ITEMS).mean_hu
    assert drawn.mean() == pytest.approx(37, abs=10)
    assert 15 < drawn.std() < 30
    assert np.abs(drawn - 37).max() <= FURTHEST * 30 + 1e-3
    assert np.array_equal(drawn, drawn_core(masks(len(ITEMS)), 1.0, CORE_HU, ITEMS).mean_hu)


@pytest.mark.parametrize(
    ("asked", "open_"),
    [
        ({}, True),
        ({"calcification": "none"}, True),
        ({"calcification": "solid"}, False),
        ({"texture": "ground_glass"}, False),
        ({"texture": None}, False),
        ({"mean_hu": -100}, False),
        ({"lesion": "none"}, False),
    ],
)
def test_only_solid_tissue_of_open_density_is_held(asked: dict, open_: bool) -> None:
    assert is_left_open(Attributes.model_validate(asked)) == open_


def test_the_middle_is_held_and_lesions_without_one_are_left_alone() -> None:
    region = torch.from_numpy(masks())[:, None]
    core = drawn_core(masks(), 1.0, CORE_HU, ITEMS[:2])
    counted = torch.from_numpy(core.weights)[:, None]
    estimate = torch.where(region > 0, -0.1, -0.85)
    wish = Moments(region, counted, torch.tensor([0.04, 0.04]), None, -0.85)
    found = hold_core(lambda x, t: estimate, wish, schedules.cosine(1000))(estimate, 500)
    assert float(found[0][counted[0] > 0].mean()) == pytest.approx(0.04, abs=1e-4)
    assert torch.equal(found[1], estimate[1])
