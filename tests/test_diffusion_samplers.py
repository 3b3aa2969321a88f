"""Samplers against closed forms on Gaussian data, and what they promise about seeds, hooks and mistakes.

For data N(MEAN, STD^2) the best denoiser is known, E[x_0 | x_t], so a sampler is tested without any network.
"""

from __future__ import annotations

import math

import pytest
import torch
from lesionbrush.diffusion import denoisers, schedules
from lesionbrush.diffusion.samplers import SAMPLERS, ddim, ddpm, dpm_solver_pp_2m, draw_noise
from lesionbrush.diffusion.schedules import NoiseSchedule, timesteps

MEAN, STD = 0.3, 0.5
# Even in log-SNR, so that halving the number of steps doubles every step exactly.
EVEN = NoiseSchedule(torch.sigmoid(torch.linspace(8, -8, 257, dtype=torch.float64)))
SOLVERS = {"ddim": ddim, "dpm_solver_pp_2m": dpm_solver_pp_2m}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian_denoiser(process):
    """E[x_0 | x_t] for data N(MEAN, STD^2)."""

    def denoise(x, t):
        a, s = process.alpha(t), process.sigma(t)
        return (a * STD**2 * x + s**2 * MEAN) / (a**2 * STD**2 + s**2)

    return denoise


def marginal_std(process, t) -> float:
    return math.sqrt((process.alpha(t) * STD) ** 2 + process.sigma(t) ** 2)


def transport(process, x, t, s):
    """Exact solution of the probability-flow ODE from t to s: the standard score of x is kept."""
    score = (x - process.alpha(t) * MEAN) / marginal_std(process, t)
    return process.alpha(s) * MEAN + marginal_std(process, s) * score


@pytest.mark.parametrize(
    "sampler", [ddpm, lambda *a, **k: ddim(*a, eta=1.0, **k)], ids=["ddpm", "ddim_eta_1"]
)
@pytest.mark.parametrize("schedule", [schedules.linear(), schedules.cosine()], ids=["linear", "cosine"])
def test_ancestral_sampling_reaches_the_data_distribution(sampler, schedule):
    generator, count = seeded(), 20_000
    x = draw_noise((count, 1, 1), generator, "cpu", torch.float32)
    every = torch.arange(schedule.T - 1, -1, -1)
    out = sampler(gaussian_denoiser(schedule), x, schedule, every, generator=generator)
    assert float(out.mean()) == pytest.approx(MEAN, abs=4 * STD / math.sqrt(count))
    # the variance "fixed small" is short of the true one by O(1 / T): 1 % is left for it
    assert float(out.std()) == pytest.approx(STD, rel=4 / math.sqrt(2 * count) + 0.01)


@pytest.mark.parametrize("spacing", ["log_snr", "uniform", "trailing"])
@pytest.mark.parametrize(
    "sampler", [ddpm, lambda *a, **k: ddim(*a, eta=1.0, **k)], ids=["ddpm", "ddim_eta_1"]
)
def test_strided_ancestral_sampling_has_the_mean_and_variance_of_its_recursion(sampler, spacing):
    """With few steps the law is not the data's, but Gaussian still: every step is Bayes' rule."""
    schedule, generator, count = schedules.cosine(), seeded(1), 40_000
    visited = timesteps(schedule, 12, spacing).tolist()
    mean, variance = 0.0, 1.0
    for t, s in zip(visited, [*visited[1:], None], strict=True):
        a_t, s_t, a_s, s_s = (f(k) for k in (t, s) for f in (schedule.alpha, schedule.sigma))
        # x_s given x_t and x_0, by precisions: N(a_s x_0, s_s^2) before, x_t ~ N(r x_s, s_t^2 - r^2 s_s^2)
        r = a_t / a_s
        likelihood = r / (s_t**2 - r**2 * s_s**2)
        spread = 1 / (1 / s_s**2 + r * likelihood) if s_s > 0 else 0.0
        from_x_t, from_x_0 = spread * likelihood, (spread / s_s**2 if s_s > 0 else 1.0) * a_s
        gain = a_t * STD**2 / marginal_std(schedule, t) ** 2
        slope = from_x_t + from_x_0 * gain
        mean = slope * mean + from_x_0 * (MEAN - gain * a_t * MEAN)
        variance = slope**2 * variance + spread
    x = draw_noise((count, 1, 1), generator, "cpu", torch.float64)
    out = sampler(gaussian_denoiser(schedule), x, schedule, visited, generator=generator)
    assert float(out.mean()) == pytest.approx(mean, abs=4 * math.sqrt(variance / count))
    assert float(out.std()) == pytest.approx(math.sqrt(variance), rel=4 / math.sqrt(2 * count))


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_the_variance_of_a_step_is_the_posteriors_or_beta(variance):
    """Ho et al. 2020, Sec. 3.2: what a step adds to its mean, with a denoiser that always says 0."""
    schedule, seen = schedules.linear(100, 1e-4, 0.1), []
    x, noise = torch.zeros(1, 1, 50), torch.randn(1, 1, 50, generator=seeded(4))
    watch = [lambda x, t, step: seen.append(x) or x]
    ddpm(lambda x, t: 0 * x, x, schedule, [60, 59], generator=seeded(4), after_step=watch, variance=variance)
    beta = 1 - schedule.alpha_bar(60) / schedule.alpha_bar(59)
    posterior = (1 - schedule.alpha_bar(59)) / (1 - schedule.alpha_bar(60)) * beta
    wanted = {"fixed_small": posterior, "fixed_large": beta}[variance]
    torch.testing.assert_close(seen[0], math.sqrt(wanted) * noise)
    assert not seen[1].any()  # into the clean level nothing is drawn


def test_on_standard_normal_data_beta_keeps_the_law_over_any_strides():
    """For data N(0, 1) the reverse step is x_s = a x_t + sqrt(1 - a^2) z: its variance is beta."""
    schedule, generator, seen = schedules.cosine(), seeded(2), []
    x = draw_noise((40_000, 1, 1), generator, "cpu", torch.float64)
    visited = timesteps(schedule, 9, "uniform")
    watch = [lambda x, t, step: seen.append(float(x.std())) or x]
    optimal = schedule.alpha
    ddpm(
        lambda x, t: optimal(t) * x,
        x,
        schedule,
        visited,
        generator=generator,
        after_step=watch,
        variance="fixed_large",
    )
    assert seen[:-1] == pytest.approx([1.0] * 8, abs=4 / math.sqrt(2 * 40_000))


def solver_error(name: str, steps: int) -> float:
    """Distance to the exact ODE solution after `steps` equal steps, before the jump to the clean level."""
    visited, seen = timesteps(EVEN, steps + 1, "log_snr"), []
    start = torch.linspace(-2, 2, 9, dtype=torch.float64).reshape(1, 1, 3, 3)
    watch = [lambda x, t, step: seen.append((x, t)) or x]
    SOLVERS[name](gaussian_denoiser(EVEN), start, EVEN, visited, after_step=watch)
    x, t = seen[-2]
    return float((x - transport(EVEN, start, visited[0].item(), t)).abs().max())


@pytest.mark.parametrize(("name", "order"), [("ddim", 1), ("dpm_solver_pp_2m", 2)])
def test_order_of_convergence(name, order):
    coarse, fine = solver_error(name, 64), solver_error(name, 128)
    assert coarse < 0.05
    assert coarse / fine == pytest.approx(2**order, rel=0.08)


@pytest.mark.parametrize("name", SOLVERS)
def test_ode_samplers_are_affine_on_gaussian_data_and_end_near_the_exact_solution(name):
    sampler, process = SOLVERS[name], EVEN
    visited = timesteps(process, 257)
    x = torch.tensor([-1.0, 0.0, 1.0, 3.0], dtype=torch.float64).reshape(1, 1, 4)
    low, mid, high, far = sampler(gaussian_denoiser(process), x, process, visited).flatten().tolist()
    assert high - mid == pytest.approx(mid - low)
    assert far - mid == pytest.approx(3 * (high - mid))
    assert (high - low) / 2 == pytest.approx(STD, rel=0.02)
    exact = transport(process, x, visited[0].item(), None).flatten()[1]
    assert mid == pytest.approx(float(exact), abs=0.01)


def network(x: torch.Tensor, t: int) -> torch.Tensor:
    """Any smooth function will do where nothing is claimed about the result's quality."""
    return 0.6 * torch.tanh(x + 0.01 * t) + 0.1 * x.roll(1, -1)


def run(name, x, generator, spatial_denoiser=network, **options):
    """Any sampler of the table, called alike: ten steps."""
    process = schedules.cosine(100)
    visited = timesteps(process, 10)
    return SAMPLERS[name](
        denoisers.from_x0(spatial_denoiser), x, process, visited, generator=generator, **options
    )


@pytest.mark.parametrize("spatial", [(8, 8), (4, 6, 8)], ids=["2d", "3d"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_variant_in_a_batch_equals_the_variant_alone_bit_for_bit(name, spatial):
    seeds = (5, 6, 7)

    def sample(chosen, options):
        generators = [seeded(seed) for seed in chosen]
        noise = draw_noise((len(chosen), 1, *spatial), generators, "cpu", torch.float32)
        return run(name, noise, generators, **options)

    for options in ({}, {"eta": 0.7}) if name == "ddim" else ({},):
        batch = sample(seeds, options)
        for item, seed in zip(batch, seeds, strict=True):
            assert torch.equal(item, sample([seed], options)[0])
        assert not torch.equal(batch[0], batch[1])


@pytest.mark.parametrize("name", SAMPLERS)
def test_same_seed_same_result(name):
    x = torch.randn(1, 1, 4, 4, generator=seeded())
    assert torch.equal(run(name, x, seeded(1)), run(name, x, seeded(1)))
    same = torch.equal(run(name, x, seeded(1)), run(name, x, seeded(2)))
    assert same == (name != "ddpm")


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_leave_their_input_and_the_global_generator_alone(name):
    x = torch.randn(1, 1, 4, 4, generator=seeded())
    before, state = x.clone(), torch.random.get_rng_state()
    run(name, x, seeded(1))
    assert torch.equal(x, before)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("name", SAMPLERS)
def test_hooks_see_every_new_x_at_its_own_level_in_order(name):
    seen, shifted = [], []

    def shift(x, t_next, step):
        seen.append((t_next, step))
        return x + 1

    x = torch.randn(1, 1, 4, 4, generator=seeded())
    out = run(name, x, seeded(1), after_step=[shift, lambda x, *_: shifted.append(x) or x])
    visited = timesteps(schedules.cosine(100), 10)
    assert seen == list(zip([*visited.tolist()[1:], None], range(10), strict=True))
    assert torch.equal(out, shifted[-1])


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_hook_that_raises_ends_the_sampling(name):
    class Stop(Exception):
        pass

    asked = []

    def cancel(x, t_next, step):
        if step == 3:
            raise Stop
        return x

    def count(x, t):
        asked.append(t)
        return x

    with pytest.raises(Stop):
        run(name, torch.zeros(1, 1, 4, 4), seeded(), count, after_step=[cancel])
    assert len(asked) == 4


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_last_step_lands_on_the_estimate_of_x_0(name):
    out = run(name, torch.full((1, 1, 4), 5.0), seeded(), lambda x, t: torch.full_like(x, 0.1))
    torch.testing.assert_close(out, torch.full((1, 1, 4), 0.1), rtol=0, atol=1e-6)


def test_draw_noise_is_standard_normal_in_the_asked_dtype():
    noise = draw_noise((3, 2, 50, 60), seeded(), "cpu", torch.float64)
    assert (noise.dtype, noise.shape) == (torch.float64, (3, 2, 50, 60))
    assert float(noise.mean()) == pytest.approx(0, abs=0.03)
    assert float(noise.std()) == pytest.approx(1, abs=0.02)


@pytest.mark.gpu
def test_a_cpu_generator_gives_the_same_noise_on_the_gpu():
    there = draw_noise((2, 1, 8, 8), [seeded(1), seeded(2)], "cuda", torch.float32)
    assert there.is_cuda
    assert torch.equal(there.cpu(), draw_noise((2, 1, 8, 8), [seeded(1), seeded(2)], "cpu", torch.float32))


def test_a_wrong_number_of_generators_is_refused():
    with pytest.raises(ValueError, match="2 generators for a batch of 3"):
        draw_noise((3, 1, 4), [seeded(), seeded(1)], "cpu", torch.float32)


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_empty_list_of_timesteps_is_refused(name):
    process = schedules.cosine(10)
    with pytest.raises(ValueError, match="at least one timestep"):
        SAMPLERS[name](network, torch.zeros(1, 1, 4), process, [], generator=seeded())


@pytest.mark.parametrize(
    ("name", "times"), [("ddpm", [4, 7]), ("ddim", [5, 5]), ("dpm_solver_pp_2m", [3, 5])]
)
def test_rising_timesteps_are_refused(name, times):
    with pytest.raises(ValueError, match=f"got {times[0]} then {times[1]}"):
        SAMPLERS[name](network, torch.zeros(1, 1, 4), schedules.cosine(10), times, generator=seeded())


@pytest.mark.parametrize("name", ["ddpm", "ddim", "dpm_solver_pp_2m"])
def test_a_timestep_outside_the_schedule_is_refused(name):
    with pytest.raises(ValueError, match="timestep 10 is outside"):
        SAMPLERS[name](network, torch.zeros(1, 1, 4), schedules.cosine(10), [10, 3], generator=seeded())


@pytest.mark.parametrize("eta", [-0.1, 1.1])
def test_eta_outside_its_range_is_refused(eta):
    with pytest.raises(ValueError, match=f"got {eta}"):
        ddim(network, torch.zeros(1, 1, 4), schedules.cosine(10), [5], generator=seeded(), eta=eta)


def test_eta_without_a_generator_is_refused():
    with pytest.raises(ValueError, match="pass a generator"):
        ddim(network, torch.zeros(1, 1, 4), schedules.cosine(10), [5], eta=1.0)
