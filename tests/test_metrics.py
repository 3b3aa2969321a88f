"""Figures about a synthetic lesion."""

from __future__ import annotations

import numpy as np
import pytest
from core_fixtures import edit_region as by_search_tree
from lesionbrush.evaluation.metrics import edit_region, seam_ratio

SPACING_MM = (1.0, 0.83, 0.83)  # no distance is exactly a margin


@pytest.fixture
def mask() -> np.ndarray:
    z, y, x = np.indices((24, 30, 30)) - np.array([12, 15, 15])[:, None, None, None]
    return z**2 + y**2 + x**2 <= 25


@pytest.mark.parametrize("margin_mm", [0.0, 1.1, 4.0])
def test_the_edit_region_is_what_lies_nearer_than_the_margin(mask: np.ndarray, margin_mm: float) -> None:
    assert np.array_equal(
        edit_region(mask, SPACING_MM, margin_mm), by_search_tree(mask, SPACING_MM, margin_mm)
    )


def test_an_empty_mask_has_no_edit_region(mask: np.ndarray) -> None:
    assert not edit_region(np.zeros_like(mask), SPACING_MM, 3.0).any()


def test_noise_without_a_lesion_has_no_seam(mask: np.ndarray) -> None:
    noise = np.random.default_rng(0).normal(0, 30, mask.shape)
    assert seam_ratio(noise, mask, SPACING_MM, 3.0) == pytest.approx(1, abs=0.05)


def test_a_step_at_the_border_is_a_seam_of_known_height(mask: np.ndarray) -> None:
    """The independent figure walks over all pairs; on the slope alone the two means are alike."""
    hu = np.broadcast_to(np.arange(30.0) * 4, mask.shape)
    edit = by_search_tree(mask, SPACING_MM, 3.0)
    stepped = hu + 100 * edit
    across, background = _pairs(stepped, edit)
    assert seam_ratio(stepped, mask, SPACING_MM, 3.0) == pytest.approx(across / background, rel=1e-5)
    assert seam_ratio(hu, mask, SPACING_MM, 3.0) < 2 < seam_ratio(stepped, mask, SPACING_MM, 3.0)


def _pairs(hu: np.ndarray, edit: np.ndarray) -> tuple[float, float]:
    """The two means, pair by pair."""
    ring = by_search_tree(edit, SPACING_MM, 4.0) & ~edit
    across, background = [], []
    for here in np.argwhere(edit | ring):
        for axis in range(3):
            for step in (-1, 1):
                there = here.copy()
                there[axis] += step
                if not 0 <= there[axis] < hu.shape[axis]:
                    continue
                a, b = tuple(here), tuple(there)
                if edit[a] and not edit[b]:
                    across.append(abs(hu[a] - hu[b]))
                if ring[a] and ring[b]:
                    background.append(abs(hu[a] - hu[b]))
    return float(np.mean(across)), float(np.mean(background))


def test_an_edit_region_that_fills_the_image_has_no_seam_to_measure(mask: np.ndarray) -> None:
    assert np.isnan(seam_ratio(np.zeros(mask.shape), np.ones_like(mask), SPACING_MM, 3.0))
