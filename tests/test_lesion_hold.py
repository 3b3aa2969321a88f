"""Estimates held to a mean, and kept between limits, each item of a batch by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lesionbrush.diffusion import schedules
from lesionbrush.diffusion.guidance import Moments
from lesionbrush.systems.lesion_inpainting.laws.density import CORE_DEPTH_MM
from lesionbrush.systems.lesion_inpainting.laws.limits import cap, hold, lift
from scipy import ndimage


def masks() -> np.ndarray:
    """A ball of 8 mm radius, and one of 2.5 mm."""
    distance = np.linalg.norm(np.stack(np.indices((24,) * 3), -1) - 11.5, axis=-1)
    return np.stack([distance <= 8.0, distance <= 2.5]).astype(np.float32)


def test_the_middle_is_held_and_lesions_without_one_are_left_alone() -> None:
    region = torch.from_numpy(masks())[:, None]
    deep = np.stack([ndimage.distance_transform_edt(mask) > CORE_DEPTH_MM for mask in masks()])
    counted = torch.from_numpy(deep.astype(np.float32))[:, None]
    estimate = torch.where(region > 0, -0.1, -0.85)
    wish = Moments(region, counted, torch.tensor([0.04, 0.04]), None, -0.85)
    found = hold(lambda x, t: estimate, wish, schedules.cosine(1000))(estimate, 500)
    assert float(found[0][counted[0] > 0].mean()) == pytest.approx(0.04, abs=1e-4)
    assert torch.equal(found[1], estimate[1])


def test_a_mean_to_keep_below_is_only_lowered() -> None:
    region = torch.from_numpy(masks())[:, None]
    wish = Moments(region, region, torch.tensor([-0.6, -0.2]), None, -0.85)
    estimate = torch.where(region > 0, -0.4, -0.85)
    found = hold(lambda x, t: estimate, wish, schedules.cosine(1000), at_most=True)(estimate, 500)
    assert float(found[0][region[0] > 0].mean()) == pytest.approx(-0.6, abs=1e-4)
    assert found[1] == pytest.approx(estimate[1], abs=1e-6)


def test_nothing_in_a_core_exceeds_the_most_until_only_grain_is_left() -> None:
    region = torch.from_numpy(masks())[:, None]
    estimate, most = torch.full_like(region, 0.5), torch.tensor([0.1, 0.7])
    found = cap(lambda x, t: estimate, region, most, schedules.cosine(1000))
    assert float(found(estimate, 500)[0][region[0] > 0].max()) == pytest.approx(0.1)
    assert torch.equal(found(estimate, 500)[1], estimate[1])
    assert torch.equal(found(estimate, 500)[0][region[0] == 0], estimate[0][region[0] == 0])
    assert torch.equal(found(estimate, 3), estimate)


def test_nothing_is_below_the_least_until_only_grain_is_left() -> None:
    region = torch.from_numpy(masks())[:, None]
    estimate, least = torch.full_like(region, -0.5), torch.tensor([-0.1, -0.7])
    found = lift(lambda x, t: estimate, region, least, schedules.cosine(1000))
    assert float(found(estimate, 500)[0][region[0] > 0].min()) == pytest.approx(-0.1)
    assert torch.equal(found(estimate, 500)[1], estimate[1])
    assert torch.equal(found(estimate, 3), estimate)
