"""v for images of a small spread, against its definition."""

from __future__ import annotations

import math

import pytest
import torch
from lesionbrush.diffusion.preconditioning import image_from_v


def normal(seed: int, spread: float = 1.0) -> torch.Tensor:
    return spread * torch.randn(100_000, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("sigma", [0.05, 0.5, 0.99])
@pytest.mark.parametrize("spread", [0.1, 0.25, 1.0])
def test_the_v_that_gives_the_image_has_unit_variance(sigma: float, spread: float) -> None:
    """It is the part of the image that a linear guess from x leaves open, over that part's size."""
    alpha = math.sqrt(1 - sigma**2)
    image, noise = normal(0, spread), normal(1)
    x = alpha * image + sigma * noise
    guess = image_from_v(x, torch.zeros_like(x), alpha, sigma, spread)
    slope = float((x * image).mean() / (x * x).mean())
    torch.testing.assert_close(guess, slope * x, rtol=0.03, atol=0.05 * spread)
    unit = image_from_v(x, torch.ones_like(x), alpha, sigma, spread)
    v = (guess - image) / (guess - unit)
    assert float(v.std()) == pytest.approx(1, rel=0.02)
    torch.testing.assert_close(image_from_v(x, v, alpha, sigma, spread), image)


def test_with_spread_1_it_is_the_papers() -> None:
    x, v = normal(0), normal(1)
    torch.testing.assert_close(image_from_v(x, v, 0.6, 0.8), 0.6 * x - 0.8 * v)
