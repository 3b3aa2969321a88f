"""Guidance: is the reference blended in at the right noise level, does the low pass keep what it should?"""

from __future__ import annotations

import math

import pytest
import torch
from lesionbrush.diffusion import schedules
from lesionbrush.diffusion.guidance import LowPassGuide, keep_known, low_pass, match_low_pass
from lesionbrush.diffusion.samplers import SAMPLERS, ddim, ddpm, draw_noise
from lesionbrush.diffusion.schedules import timesteps

SHAPE = (2, 1, 4, 30, 50)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def half_editable() -> torch.Tensor:
    """1 in the front half of the last axis."""
    editable = torch.zeros(1, 1, *SHAPE[2:])
    editable[..., : SHAPE[-1] // 2] = 1
    return editable


def trajectory(name, hook, process, visited):
    """[(x, level)] after every step of a sampler with a wild denoiser and `hook`."""
    seen = []
    generator = seeded(1)
    x = draw_noise(SHAPE, generator, "cpu", torch.float32)
    watch = [hook, lambda x, t, step: seen.append((x, t)) or x]
    SAMPLERS[name](lambda x, t: torch.tanh(3 * x), x, process, visited, generator=generator, after_step=watch)
    return seen


def known_statistics(x):
    known = x[..., SHAPE[-1] // 2 :]
    return float(known.mean()), float(known.std())


@pytest.mark.parametrize("name", SAMPLERS)
def test_known_voxels_have_the_level_of_the_new_x_and_end_as_the_reference(name):
    process = schedules.cosine(100)
    visited = timesteps(process, 8, "uniform")
    reference = torch.full((1, 1, *SHAPE[2:]), 0.7)
    seen = trajectory(name, keep_known(reference, half_editable(), process, seeded(9)), process, visited)
    count = SHAPE[0] * math.prod(SHAPE[2:]) / 2
    for x, t in seen[:-1]:
        mean, std = known_statistics(x)
        assert mean == pytest.approx(process.alpha(t) * 0.7, abs=4 * process.sigma(t) / math.sqrt(count))
        assert std == pytest.approx(process.sigma(t), rel=4 / math.sqrt(2 * count))
    last, level = seen[-1]
    assert level is None
    half = SHAPE[-1] // 2
    assert torch.equal(last[..., half:], reference.expand(SHAPE)[..., half:])
    assert not torch.isclose(last[..., :half], torch.tensor(0.7)).all()


def test_the_level_test_sees_a_blend_that_is_one_level_off():
    """Read the level back from mean and spread of the known voxels: the right hook gives the levels of the
    new x; blending at the level of the old x gives levels one entry late, and a last result that is noisy."""
    schedule = schedules.cosine(100)
    visited = timesteps(schedule, 8, "uniform").tolist()
    reference = torch.full((1, 1, *SHAPE[2:]), 0.7)
    right = keep_known(reference, half_editable(), schedule, seeded(9))

    def one_level_off(x, t_next, step):
        return right(x, visited[step], step)

    def measured_levels(hook):
        return [closest_level(schedule, x) for x, _ in trajectory("ddpm", hook, schedule, visited)]

    def closest_level(schedule, x):
        mean, std = known_statistics(x)
        levels = [None, *visited]
        return min(
            levels, key=lambda t: (schedule.alpha(t) * 0.7 - mean) ** 2 + (schedule.sigma(t) - std) ** 2
        )

    assert measured_levels(right) == [*visited[1:], None]
    assert measured_levels(one_level_off) == visited


def test_soft_weights_blend_and_hard_ones_choose_exactly():
    x, reference = torch.randn(2, 1, 1, 3, generator=seeded())
    editable = torch.tensor([0.0, 0.25, 1.0])
    out = keep_known(reference, editable, schedules.cosine(10), seeded())(x, None, 0)[0, 0]
    assert out[0] == reference[0, 0, 0]
    assert float(out[1]) == pytest.approx(float(0.25 * x[0, 0, 1] + 0.75 * reference[0, 0, 1]))
    assert out[2] == x[0, 0, 2]


def test_keep_known_with_a_generator_per_item_does_not_depend_on_the_batch():
    reference = torch.linspace(-1, 1, 25).reshape(1, 1, 5, 5)
    editable = (reference > 0).float()
    schedule = schedules.cosine(50)

    def sample(seeds):
        generators = [seeded(seed) for seed in seeds]
        x = draw_noise((len(seeds), 1, 5, 5), generators, "cpu", torch.float32)
        hooks = [
            keep_known(reference, editable, schedule, generators),
            match_low_pass([LowPassGuide(reference, 5, 10)], schedule, generators),
        ]
        return ddpm(
            lambda x, t: x / 2, x, schedule, timesteps(schedule, 6), generator=generators, after_step=hooks
        )

    batch = sample([4, 5])
    assert torch.equal(batch[:1], sample([4]))
    assert torch.equal(batch[1:], sample([5]))


@pytest.mark.parametrize("weight", [-0.1, 1.5, math.nan])
def test_weights_outside_the_unit_interval_are_refused(weight):
    with pytest.raises(ValueError, match=f"got .*{weight}"):
        keep_known(torch.zeros(1, 1, 2), torch.tensor([0.5, weight]), schedules.cosine(10), seeded())


def test_a_reference_of_another_shape_is_refused():
    hook = keep_known(torch.zeros(1, 1, 5), torch.zeros(1, 1, 5), schedules.cosine(10), seeded())
    with pytest.raises(RuntimeError, match="expanded size"):
        hook(torch.zeros(1, 1, 4), None, 0)


@pytest.mark.parametrize("spatial", [(12,), (8, 12), (4, 8, 12)])
def test_low_pass_keeps_constants_and_the_mean_and_is_linear(spatial):
    a, b = torch.randn(2, 2, 1, *spatial, generator=seeded(), dtype=torch.float64)
    flat = torch.full_like(a, 3.0)
    torch.testing.assert_close(low_pass(flat, 4), flat)
    torch.testing.assert_close(low_pass(a, 4).mean(), a.mean())
    torch.testing.assert_close(low_pass(a + 2 * b, 4), low_pass(a, 4) + 2 * low_pass(b, 4))
    assert torch.equal(low_pass(a, 1), a)


def test_low_pass_keeps_slow_waves_and_stops_what_would_alias():
    at = torch.arange(64, dtype=torch.float64) + 0.5
    slow = torch.cos(math.pi * at / 64).reshape(1, 1, 64)
    fast = torch.cos(math.pi * at).reshape(1, 1, 64) + torch.cos(2 * math.pi * at / 4).reshape(1, 1, 64)
    assert float((low_pass(slow, 4) - slow).abs().max()) < 0.06
    assert float(low_pass(fast, 4).abs().max()) < 1e-12


@pytest.mark.parametrize(("factor", "spatial"), [(3, (6, 8)), (5, (4, 4, 4)), (0, (4, 4))])
def test_a_factor_that_does_not_divide_the_shape_is_refused(factor, spatial):
    numbers = ", ".join(map(str, spatial))
    with pytest.raises(ValueError, match=rf"factor {factor} .*\({numbers}\)"):
        low_pass(torch.zeros(1, 1, *spatial), factor)


def test_match_low_pass_is_the_sum_of_equation_9():
    """All conditions are compared with the same x, before any correction; one that has stopped adds none."""
    schedule, t = schedules.cosine(100), 40
    x, first, second, third = torch.randn(4, 2, 1, 8, 8, generator=seeded())
    guides = [LowPassGuide(first, 2, 10), LowPassGuide(third, 8, 41), LowPassGuide(second, 4, 40)]
    out = match_low_pass(guides, schedule, seeded(5))(x, t, 0)
    generator = seeded(5)
    noised = [
        schedule.add_noise(y, draw_noise(x.shape, generator, "cpu", x.dtype), t) for y in (first, second)
    ]
    expected = x + sum(low_pass(y, n) - low_pass(x, n) for y, n in zip(noised, (2, 4), strict=True))
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize(("stop", "guided"), [(-1, True), (0, False)])
def test_the_clean_level_is_guided_only_when_asked(stop, guided):
    x, image = torch.randn(2, 1, 1, 4, 4, generator=seeded())
    out = match_low_pass([LowPassGuide(image, 1, stop)], schedules.cosine(10), seeded())(x, None, 9)
    torch.testing.assert_close(out, image if guided else x)


@pytest.mark.parametrize("spatial", [(16, 16), (8, 8, 8)], ids=["2d", "3d"])
def test_a_guided_sample_takes_the_large_structure_of_its_guide(spatial):
    schedule = schedules.cosine(100)
    ramp = (
        torch.linspace(-1, 1, spatial[0]).reshape(1, 1, -1, *[1] * (len(spatial) - 1)).expand(1, 1, *spatial)
    )
    x = draw_noise((1, 1, *spatial), seeded(), "cpu", torch.float32)

    def error(guides):
        hook = match_low_pass(guides, schedule, seeded(5))
        out = ddim(lambda x, t: x, x, schedule, timesteps(schedule, 20, "uniform"), after_step=[hook])
        return float((low_pass(out, 4) - low_pass(ramp, 4)).abs().mean())

    assert error([LowPassGuide(ramp, 4, 0)]) < error([]) / 3
