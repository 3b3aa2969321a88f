"""Schedules against MONAI's tables, timesteps against their definition, denoisers against each other."""

from __future__ import annotations

import math

import pytest
import torch
from lesionbrush.diffusion import denoisers, schedules
from lesionbrush.diffusion.schedules import (
    SCHEDULES,
    NoiseSchedule,
    posterior_weights,
    step_variances,
    timesteps,
)
from monai.networks.schedulers import DDPMScheduler

SPACINGS = ("log_snr", "uniform", "trailing")


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(7)


@pytest.mark.parametrize("T", [10, 250, 1000])
@pytest.mark.parametrize(
    ("ours", "monai"),
    [("linear", "linear_beta"), ("scaled_linear", "scaled_linear_beta"), ("cosine", "cosine")],
)
def test_tables_equal_monai_to_float_precision(ours, monai, T):
    """MONAI keeps float32 tables; small alpha_bar_T of the cosine needs a relative comparison."""
    expected = DDPMScheduler(num_train_timesteps=T, schedule=monai).alphas_cumprod.double()
    torch.testing.assert_close(SCHEDULES[ours](T).alphas_bar, expected, rtol=1e-3, atol=1e-9)
    torch.testing.assert_close(SCHEDULES[ours](T).alphas_bar, expected, rtol=0, atol=1e-6)


def test_levels_are_those_of_a_variance_preserving_process():
    schedule = schedules.cosine(50)
    for t in (0, 17, 49):
        assert schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2 == pytest.approx(1, abs=1e-14)
        assert math.log(schedule.alpha(t) ** 2 / schedule.sigma(t) ** 2) == pytest.approx(
            float(schedule.log_snr()[t])
        )
    assert (schedule.alpha(None), schedule.sigma(None)) == (1.0, 0.0)


@pytest.mark.parametrize("t", [-1, 50])
def test_a_level_outside_the_table_is_refused(t):
    with pytest.raises(ValueError, match=rf"timestep {t} is outside \[0, 50\)"):
        schedules.cosine(50).alpha(t)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (torch.zeros(0, dtype=torch.float64), "non-empty"),
        (torch.full((2, 2), 0.5, dtype=torch.float64), r"\(2, 2\)"),
        (torch.tensor([0.9, 0.5]), "float32"),
        (torch.tensor([0.5, 0.9], dtype=torch.float64), "decrease"),
        (torch.tensor([0.5, 0.5], dtype=torch.float64), "decrease"),
        (torch.tensor([1.0, 0.5], dtype=torch.float64), "decrease"),
        (torch.tensor([0.9, 0.0], dtype=torch.float64), "decrease"),
    ],
)
def test_a_table_that_is_no_schedule_is_refused(table, message):
    with pytest.raises(ValueError, match=message):
        NoiseSchedule(table)


@pytest.mark.parametrize("spatial", [(4, 6), (3, 4, 5)])
def test_add_noise_equals_monai_for_one_timestep_per_item(spatial, generator):
    x_0, noise = torch.randn(2, 3, 2, *spatial, generator=generator)
    t = torch.tensor([3, 90, 41])
    expected = DDPMScheduler(num_train_timesteps=100, schedule="cosine").add_noise(x_0, noise, t)
    noised = schedules.cosine(100).add_noise(x_0, noise, t)
    torch.testing.assert_close(noised, expected)
    one_by_one = [
        schedules.cosine(100).add_noise(*pair, int(k))
        for pair, k in zip(zip(x_0, noise, strict=True), t, strict=True)
    ]
    torch.testing.assert_close(noised, torch.stack(one_by_one))


def test_add_noise_at_the_clean_level_changes_nothing(generator):
    x_0, noise = torch.randn(2, 1, 1, 8, generator=generator)
    assert torch.equal(schedules.cosine().add_noise(x_0, noise, None), x_0)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [1, 2, 7, 50, 399, 400])
@pytest.mark.parametrize("t_start", [None, 399])
def test_timesteps_are_distinct_and_fall_from_the_start(name, spacing, steps, t_start):
    schedule = SCHEDULES[name](400 if t_start is None else 1000)
    visited = timesteps(schedule, steps, spacing, t_start=t_start)
    assert visited.dtype == torch.int64
    assert visited.shape == (steps,)
    assert int(visited[0]) == 399
    assert (visited.diff() < 0).all()
    if spacing != "trailing" and steps > 1:
        assert int(visited[-1]) == 0


def test_log_snr_spacing_is_even_in_log_snr_where_the_table_allows_it():
    even = NoiseSchedule(torch.sigmoid(torch.linspace(6, -6, 121, dtype=torch.float64)))
    assert timesteps(even, 5, "log_snr").tolist() == [120, 90, 60, 30, 0]
    fine = schedules.linear(10_000, 1e-5, 2e-3)
    gaps = fine.log_snr()[timesteps(fine, 9, "log_snr")].diff()
    torch.testing.assert_close(gaps, gaps.mean().expand(8), rtol=0.06, atol=0)


def test_uniform_and_trailing_spacing():
    assert timesteps(schedules.cosine(100), 4, "uniform").tolist() == [99, 66, 33, 0]
    assert timesteps(schedules.cosine(100), 4, "trailing").tolist() == [99, 74, 49, 24]
    monai = DDPMScheduler(num_train_timesteps=1000)
    monai.set_timesteps(37)
    assert torch.equal(timesteps(schedules.linear(), 37, "uniform"), monai.timesteps)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "got 0"),
        ({"steps": 101}, r"\[1, 100\] to start at t = 99, got 101"),
        ({"steps": 12, "t_start": 10}, r"\[1, 11\] to start at t = 10, got 12"),
        ({"steps": 5, "t_start": 100}, "t_start 100"),
        ({"steps": 5, "t_start": -1}, "t_start -1"),
        ({"steps": 5, "spacing": "karras"}, "'karras'"),
    ],
)
def test_impossible_timesteps_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        timesteps(schedules.cosine(100), **arguments)


@pytest.mark.parametrize(("t", "s"), [(60, 59), (60, 12), (1, 0), (0, None)])
def test_the_posterior_is_bayes_rule(t, s):
    """By precisions: N(a_s x_0, 1 - a_s^2) before, x_t given x_s ~ N(r x_s, beta) seen."""
    schedule = schedules.cosine(100)
    r = schedule.alpha(t) / schedule.alpha(s)
    variances = step_variances(schedule, t, s)
    assert variances["fixed_large"] == pytest.approx(1 - r**2)
    if s is None:
        assert posterior_weights(schedule, t, s) == pytest.approx((1.0, 0.0), abs=1e-12)
        assert variances["fixed_small"] == 0
        return
    before, seen = 1 / schedule.sigma(s) ** 2, r**2 / (1 - r**2)
    spread = 1 / (before + seen)
    assert variances["fixed_small"] == pytest.approx(spread)
    wanted = (spread * before * schedule.alpha(s), spread * seen / r)
    assert posterior_weights(schedule, t, s) == pytest.approx(wanted)


def test_every_prediction_type_gives_back_x_0(generator):
    schedule, t = schedules.cosine(100), 60
    x_0, eps = torch.randn(2, 2, 1, 3, 4, 5, generator=generator, dtype=torch.float64)
    x = schedule.add_noise(x_0, eps, t)
    v = schedule.alpha(t) * eps - schedule.sigma(t) * x_0
    found = [
        denoisers.from_eps(lambda x, t: eps, schedule)(x, t),
        denoisers.from_v(lambda x, t: v, schedule)(x, t),
        denoisers.from_x0(lambda x, t: x_0)(x, t),
    ]
    for estimate in found:
        torch.testing.assert_close(estimate, x_0)


def test_clip_clamps_the_estimate_of_every_denoiser():
    schedule, x = schedules.cosine(100), torch.tensor([[-9.0, 0.1, 9.0]])
    for denoise, t in (
        (denoisers.from_eps(lambda x, t: 0 * x, schedule, clip=(-1, 1)), 3),
        (denoisers.from_v(lambda x, t: 0 * x, schedule, clip=(-1, 1)), 3),
        (denoisers.from_x0(lambda x, t: x, clip=(-1, 1)), 3),
    ):
        torch.testing.assert_close(denoise(x, t), torch.tensor([[-1.0, 0.1, 1.0]]), atol=1e-2, rtol=0)


def test_an_empty_clip_is_refused():
    with pytest.raises(ValueError, match=r"\(1, -1\)"):
        denoisers.from_x0(lambda x, t: x, clip=(1, -1))


@pytest.mark.parametrize(("strength", "expected", "calls"), [(0, 1.0, 1), (1, 3.0, 1), (2.5, 6.0, 2)])
def test_classifier_free_guidance_and_its_cost(strength, expected, calls):
    asked = []

    def constant(value):
        def denoise(x, t):
            asked.append(value)
            return torch.full_like(x, value)

        return denoise

    guided = denoisers.classifier_free(constant(3.0), constant(1.0), strength)
    assert float(guided(torch.zeros(1), 5)) == expected
    assert len(asked) == calls
