"""match_moments: the mean and the spread of a region, met at every step and nowhere else."""

from __future__ import annotations

import pytest
import torch
from lesionbrush.diffusion import schedules
from lesionbrush.diffusion.guidance import SPREAD_BELOW_RATIO, Moments, match_moments

SCHEDULE = schedules.cosine(1000)
LUNG = -0.85


def ball(count: int = 2) -> torch.Tensor:
    axis = torch.arange(16.0) - 7.5
    distance = (axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis**2).sqrt()
    return (distance < 5).float().expand(count, 1, 16, 16, 16)


def lesion(noise: float = 0.1) -> torch.Tensor:
    """Two balls of tissue in lung, with some texture."""
    texture = torch.randn(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    return torch.where(ball() > 0, 0.0, LUNG) + noise * texture


def wish(mean: list[float] | None = None, spread: float | None = None) -> Moments:
    wanted = None if mean is None else torch.tensor(mean)
    return Moments(ball(), ball() / ball().sum() * 2, wanted, spread, LUNG)


def moved(x: torch.Tensor, moments: Moments, t: int = 0) -> torch.Tensor:
    return match_moments(lambda x, t: x, moments, SCHEDULE)(x, t)


def inside(x: torch.Tensor) -> torch.Tensor:
    return x[ball() > 0].reshape(len(x), -1)


def test_each_item_gets_its_own_mean() -> None:
    found = inside(moved(lesion(), wish([-0.2, 0.1]))).mean(dim=1)
    torch.testing.assert_close(found, torch.tensor([-0.2, 0.1]), atol=1e-5, rtol=0)


def test_mean_and_spread_are_met_together() -> None:
    found = inside(moved(lesion(), wish([-0.1, -0.1], 0.16)))
    torch.testing.assert_close(found.mean(dim=1), torch.full((2,), -0.1), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.std(dim=1), torch.full((2,), 0.16), atol=0.01, rtol=0)


def test_lung_around_the_region_stays_lung() -> None:
    calm = lesion(noise=0)
    change = (moved(calm, wish([0.3, -0.3])) - calm).abs()
    assert float(change[ball() == 0].max()) < 1e-6
    assert float(inside(change).min()) > 0.05


def test_what_hardly_differs_from_lung_is_moved_all_the_same() -> None:
    flat = torch.full((2, 1, 16, 16, 16), LUNG)
    torch.testing.assert_close(inside(moved(flat, wish([-0.5, -0.6]))).mean(1), torch.tensor([-0.5, -0.6]))


def test_while_there_is_much_noise_the_spread_is_left_alone() -> None:
    ratio = ((1 - SCHEDULE.alphas_bar) / SCHEDULE.alphas_bar).sqrt()
    noisy = int((ratio < SPREAD_BELOW_RATIO).sum())
    assert torch.equal(moved(lesion(), wish(None, 0.3), noisy), lesion())
    assert not torch.equal(moved(lesion(), wish(None, 0.3), noisy - 1), lesion())


def test_the_spread_is_not_scaled_without_end() -> None:
    flat = torch.zeros(2, 1, 16, 16, 16)
    assert torch.equal(moved(flat, wish(None, 0.3)), flat)


def test_without_a_wish_nothing_is_wrapped() -> None:
    def denoise(x: torch.Tensor, t: int) -> torch.Tensor:
        return x

    assert match_moments(denoise, wish(), SCHEDULE) is denoise


def test_a_region_of_no_voxels_changes_nothing_and_is_finite() -> None:
    empty = torch.zeros(2, 1, 16, 16, 16)
    found = moved(lesion(), Moments(empty, empty, torch.tensor([0.0, 0.0]), 0.1, LUNG))
    assert torch.equal(found, lesion())


@pytest.mark.parametrize("spatial", [(16,), (16, 16)])
def test_images_of_any_dimension(spatial: tuple[int, ...]) -> None:
    region = torch.zeros(1, 1, *spatial)
    region[..., 4:12] = 1
    x = torch.randn(1, 1, *spatial, generator=torch.Generator().manual_seed(1))
    found = moved(x, Moments(region, region, torch.tensor([0.25]), None, LUNG))
    assert float((found * region).sum() / region.sum()) == pytest.approx(0.25, abs=1e-5)
