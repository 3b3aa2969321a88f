"""Several guidance images at once, noise sources of one's own, and learned variance, counted another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from lesionbrush.diffusion import samplers, schedules
from lesionbrush.diffusion.guidance import LowPassGuide, low_pass, match_low_pass
from lesionbrush.diffusion.learned_variance import (
    ddpm_learned,
    log_variance,
    log_variance_bounds,
    variational_bound,
)
from scipy.ndimage import uniform_filter1d

SCHEDULE = schedules.cosine(50)
SHAPE = (2, 1, 16, 16)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int) -> list[torch.Tensor]:
    return [torch.randn(SHAPE, generator=seeded(10 + k)).clamp(-1, 1) for k in range(count)]


def filter_by_numpy(image: np.ndarray, factor: int) -> np.ndarray:
    """Block means, then linear interpolation between block centres, held constant beyond the outer ones."""
    for axis in (-2, -1):
        image = np.moveaxis(image, axis, -1)
        n = image.shape[-1]
        means = image.reshape(*image.shape[:-1], n // factor, factor).mean(axis=-1)
        centres = (np.arange(n // factor) + 0.5) * factor - 0.5
        flat = means.reshape(-1, n // factor)
        image = np.stack([np.interp(np.arange(n), centres, row) for row in flat]).reshape(image.shape)
        image = np.moveaxis(image, -1, axis)
    return image


class TestSeveralImages:
    @pytest.mark.parametrize("factor", [1, 2, 4, 8, 16])
    def test_the_low_pass_is_block_means_interpolated(self, factor: int) -> None:
        image = images(1)[0]
        wanted = filter_by_numpy(image.double().numpy(), factor)
        np.testing.assert_allclose(low_pass(image, factor).numpy(), wanted, atol=1e-5)

    def test_eq_9_at_the_clean_level_is_a_sum_of_filtered_differences(self) -> None:
        one, other, x = *images(2), torch.randn(SHAPE, generator=seeded(3))
        hook = match_low_pass([LowPassGuide(one, 2, -1), LowPassGuide(other, 8, -1)], SCHEDULE, seeded())
        changes = [filter_by_numpy((y - x).double().numpy(), n) for y, n in ((one, 2), (other, 8))]
        np.testing.assert_allclose(hook(x, None, 0).numpy(), x.numpy() + sum(changes), atol=1e-5)

    def test_an_image_acts_down_to_its_stop(self) -> None:
        one, other = images(2)
        x = torch.randn(SHAPE, generator=seeded(3))
        hook = match_low_pass([LowPassGuide(one, 1, 20), LowPassGuide(other, 1, 99)], SCHEDULE, seeded())
        assert torch.equal(hook(x, 19, 0), x)
        guided = hook(x, 20, 0)
        noise = (guided - SCHEDULE.alpha(20) * one) / SCHEDULE.sigma(20)
        assert float(noise.std()) == pytest.approx(1, abs=0.1)

    def test_in_the_mean_a_band_that_all_hold_is_their_average(self) -> None:
        one, other, x = *images(2), torch.zeros(SHAPE)
        hook = match_low_pass([LowPassGuide(y, 4, -1) for y in (one, other)], SCHEDULE, seeded(), "mean")
        torch.testing.assert_close(hook(x, None, 0), low_pass((one + other) / 2, 4))

    def test_in_the_mean_a_finer_band_belongs_to_those_that_hold_it(self) -> None:
        fine, coarse, x = *images(2), torch.zeros(SHAPE)
        guides = [LowPassGuide(fine, 2, -1), LowPassGuide(coarse, 8, -1)]
        made = match_low_pass(guides, SCHEDULE, seeded(), "mean")(x, None, 0)
        wanted = low_pass((fine + coarse) / 2, 8) + low_pass(fine, 2) - low_pass(fine, 8)
        torch.testing.assert_close(made, wanted)

    def test_images_that_agree_are_not_overshot_in_the_mean(self) -> None:
        (image,), x = images(1), torch.zeros(SHAPE)
        guides = [LowPassGuide(image, n, -1) for n in (1, 1, 2)]
        by_sum, by_mean = (
            match_low_pass(guides, SCHEDULE, seeded(), way)(x, None, 0) for way in ("sum", "mean")
        )
        torch.testing.assert_close(by_mean, image)
        assert float((by_sum - image).abs().mean()) > 0.5

    def test_more_than_three_are_warned_of(self) -> None:
        guides = [LowPassGuide(image, 4, -1) for image in images(4)]
        with pytest.warns(UserWarning, match="4 guidance images"):
            match_low_pass(guides, SCHEDULE, seeded())
        match_low_pass(guides[:3], SCHEDULE, seeded())


def test_noise_may_come_from_a_source_of_its_own() -> None:
    def ones(shape, dtype):
        return torch.ones(tuple(shape), dtype=dtype)

    assert torch.equal(samplers.draw_noise((2, 3), ones, "cpu", torch.float32), torch.ones(2, 3))
    x = samplers.ddpm(lambda x, t: 0 * x, torch.zeros(1, 1, 2), SCHEDULE, [30, 10], generator=ones)
    assert torch.equal(x, torch.zeros(1, 1, 2))


class TestLearnedVariance:
    def test_the_bounds_are_beta_and_the_posterior_s(self) -> None:
        a, b = SCHEDULE.alpha_bar(20), SCHEDULE.alpha_bar(19)
        lower, upper = log_variance_bounds(SCHEDULE, 20, 19)
        assert math.exp(upper) == pytest.approx(1 - a / b)
        assert math.exp(lower) == pytest.approx((1 - b) / (1 - a) * (1 - a / b))

    def test_into_the_clean_level_the_lower_bound_is_the_first_step_s(self) -> None:
        assert log_variance_bounds(SCHEDULE, 0, None)[0] == log_variance_bounds(SCHEDULE, 1, 0)[0]
        lower, upper = log_variance_bounds(SCHEDULE, 30, None)
        assert lower <= upper

    def test_the_fraction_goes_from_one_bound_to_the_other(self) -> None:
        lower, upper = log_variance_bounds(SCHEDULE, 20, 10)
        made = log_variance(torch.tensor([-1.0, 0.0, 1.0]), SCHEDULE, 20, 10)
        assert made.tolist() == pytest.approx([lower, (lower + upper) / 2, upper])

    def test_at_its_lower_bound_it_is_ddpm(self) -> None:
        """The same draws, for the posterior's variance is "fixed small"."""
        x, times = torch.randn(SHAPE, generator=seeded(1)), [45, 30, 12, 3, 0]

        def denoise(x, t):
            return torch.tanh(x)

        learned = ddpm_learned(
            denoise, lambda x, t: -torch.ones_like(x), x, SCHEDULE, times, generator=seeded()
        )
        fixed = samplers.ddpm(denoise, x, SCHEDULE, times, generator=seeded())
        torch.testing.assert_close(learned, fixed)

    def test_wider_steps_at_the_upper_bound_and_none_at_temperature_0(self) -> None:
        x = torch.zeros(1, 1, 100, 100)

        def spread(fraction: float, temperature: float = 1.0) -> float:
            seen = []
            ddpm_learned(
                lambda x, t: 0 * x,
                lambda x, t: torch.full_like(x, fraction),
                x,
                SCHEDULE,
                [20, 10],
                generator=seeded(),
                after_step=[lambda x, t, step: seen.append(float(x.std())) or x],
                temperature=temperature,
            )
            return seen[0]

        lower, upper = log_variance_bounds(SCHEDULE, 20, 10)
        assert spread(-1) == pytest.approx(math.exp(lower / 2), rel=0.02)
        assert spread(1) == pytest.approx(math.exp(upper / 2), rel=0.02)
        assert spread(1, temperature=0) == 0

    def test_times_that_go_up_are_refused(self) -> None:
        with pytest.raises(ValueError, match="decrease strictly"):
            ddpm_learned(
                lambda x, t: x, lambda x, t: x, torch.zeros(1, 1, 2), SCHEDULE, [3, 9], generator=seeded()
            )

    def test_the_bound_is_the_kl_of_two_gaussians(self) -> None:
        clean, estimate = torch.full((1, 1, 1), 0.3), torch.full((1, 1, 1), 0.5)
        fraction, t = torch.full((1, 1, 1), 0.4), 20
        lower, _ = log_variance_bounds(SCHEDULE, t, t - 1)
        weight, _ = schedules.posterior_weights(SCHEDULE, t, t - 1)
        ours = float(log_variance(fraction, SCHEDULE, t, t - 1))
        true = torch.distributions.Normal(weight * 0.3, math.exp(lower / 2))
        made = torch.distributions.Normal(weight * 0.5, math.exp(ours / 2))
        wanted = SCHEDULE.T * float(torch.distributions.kl_divergence(true, made))
        found = variational_bound(clean, estimate, fraction, SCHEDULE, torch.tensor([t]))
        assert float(found) == pytest.approx(wanted, rel=1e-4)

    def test_the_bound_teaches_the_variance_alone(self) -> None:
        estimate = torch.zeros(1, 1, 4, requires_grad=True)
        fraction = torch.zeros(1, 1, 4, requires_grad=True)
        variational_bound(
            torch.ones(1, 1, 4), estimate, fraction, SCHEDULE, torch.tensor([7])
        ).sum().backward()
        assert estimate.grad is None
        assert fraction.grad is not None
        assert fraction.grad.abs().min() > 0


def test_block_means_are_a_true_anti_alias() -> None:
    """A wave of two voxels is gone at factor 2, not folded into a coarse one, as a subsampling would do."""
    wave = torch.tensor([1.0, -1.0]).repeat(8).expand(1, 1, 16, 16).contiguous()
    assert float(low_pass(wave, 2).abs().max()) < 1e-6
    assert np.abs(uniform_filter1d(wave.numpy(), 2, axis=-1)[..., 1:]).max() < 1e-6
