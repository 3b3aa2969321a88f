"""Lung-DDPM's sampling pieces against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from lesionbrush.diffusion.denoisers import from_eps
from lesionbrush.diffusion.guidance import keep_known
from lesionbrush.diffusion.samplers import ddpm
from lesionbrush.diffusion.schedules import cosine
from lesionbrush.systems.lung_ddpm.anatomy import (
    Level,
    ReleasedBlend,
    inversion_start,
    multistep,
    threshold_dynamically,
    uniform_levels,
)
from lesionbrush.systems.lung_ddpm.column_scaling import ColumnScaling
from torch import Tensor

T = 250
SCHEDULE = cosine(T)
SHAPE = (1, 1, 4, 4, 4)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(seed: int, shape: tuple[int, ...] = SHAPE) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


class TestPaperStep:
    """Eq. 4 with sigma_t² = beta_t, as both papers write it, is `ddpm` with the variance "fixed_large"."""

    @pytest.mark.parametrize("t", [1, 5, 120, 249])
    def test_a_step_is_eq_4(self, t: int) -> None:
        x, eps, seen = normal(0), normal(1), []
        a_t = SCHEDULE.alpha_bar(t)
        alpha = a_t / SCHEDULE.alpha_bar(t - 1)
        mean = (x - (1 - alpha) / math.sqrt(1 - a_t) * eps) / math.sqrt(alpha)
        ddpm(
            from_eps(lambda x, t: eps, SCHEDULE),
            x,
            SCHEDULE,
            [t, t - 1],
            generator=generator(2),
            after_step=[lambda x, t_next, step: seen.append(x) or x],
            variance="fixed_large",
        )
        torch.testing.assert_close(seen[0], mean + math.sqrt(1 - alpha) * normal(2), rtol=1e-6, atol=1e-9)

    def test_the_last_step_gives_the_estimate_without_noise(self) -> None:
        x_0, eps = normal(0), normal(1)
        x = SCHEDULE.add_noise(x_0, eps, 0)
        denoise = from_eps(lambda x, t: eps, SCHEDULE)
        made = ddpm(denoise, x, SCHEDULE, [0], generator=generator(), variance="fixed_large")
        torch.testing.assert_close(made, x_0)


class TestBlend:
    INSIDE = torch.zeros(SHAPE, dtype=torch.float64)
    INSIDE[..., :2] = 1

    def outside(self, x: Tensor) -> Tensor:
        return x[..., 2:]

    @pytest.mark.parametrize("t_next", [0, 40, 248])
    def test_outside_is_the_reference_at_the_new_level(self, t_next: int) -> None:
        x, reference = normal(0), normal(1)
        made = keep_known(reference, self.INSIDE, SCHEDULE, generator(7))(x, t_next, 3)
        wanted = SCHEDULE.add_noise(reference, normal(7), t_next)
        torch.testing.assert_close(self.outside(made), self.outside(wanted))
        assert torch.equal(made[..., :2], x[..., :2])

    def test_in_the_end_outside_is_the_reference_itself(self) -> None:
        reference = normal(1)
        made = keep_known(reference, self.INSIDE, SCHEDULE, generator())(normal(0), None, 249)
        assert torch.equal(self.outside(made), self.outside(reference))

    @pytest.mark.parametrize(("step", "t_next"), [(0, 248), (209, 39), (249, None)])
    def test_as_released_it_is_one_level_too_noisy(self, step: int, t_next: int | None) -> None:
        x, reference, visited = normal(0), normal(1), list(range(T - 1, -1, -1))
        released = ReleasedBlend(reference, self.INSIDE, SCHEDULE, generator(7), visited)
        made = released(x, t_next, step)
        wanted = SCHEDULE.add_noise(reference, normal(7), 0 if t_next is None else t_next + 1)
        torch.testing.assert_close(self.outside(made), self.outside(wanted))
        assert torch.equal(made[..., :2], x[..., :2])

    def test_as_released_noise_of_the_first_level_stays(self) -> None:
        """Whatever the network: outside is sqrt(ᾱ_0) reference + sqrt(1 - ᾱ_0) eps, 1.4 % of it noise."""
        shape, visited = (1, 1, 16, 16, 16), [2, 1, 0]
        nothing = torch.zeros(shape, dtype=torch.float64)
        reference = torch.full(shape, 0.5, dtype=torch.float64)

        def end(hook) -> Tensor:
            drawn = generator(2)
            return ddpm(
                lambda x, t: x, normal(0, shape), SCHEDULE, visited, generator=drawn, after_step=[hook]
            )

        assert torch.equal(end(keep_known(reference, nothing, SCHEDULE, generator(1))), reference)
        released = end(ReleasedBlend(reference, nothing, SCHEDULE, generator(1), visited))
        assert float(released.std()) == pytest.approx(SCHEDULE.sigma(0), rel=0.05)
        assert SCHEDULE.sigma(0) == pytest.approx(0.0138, abs=2e-4)

    def test_blend_from_leaves_noisier_steps_alone(self) -> None:
        x, visited = normal(0), list(range(T - 1, -1, -1))
        released = ReleasedBlend(normal(1), self.INSIDE, SCHEDULE, generator(), visited, blend_from=100)
        assert torch.equal(released(x, 100, visited.index(101)), x)
        assert not torch.equal(released(x, 99, visited.index(100)), x)


class Gaussian:
    """Data of mean 0.3 and spread 0.2: the best estimate, and the exact path of the ODE, are known."""

    MEAN, SPREAD = 0.3, 0.2

    def size(self, level: Level) -> float:
        return math.sqrt((level.alpha * self.SPREAD) ** 2 + level.sigma**2)

    def at(self, level: Level, z: Tensor) -> Tensor:
        return level.alpha * self.MEAN + self.size(level) * z

    def estimate(self, x: Tensor, level: Level) -> Tensor:
        weight = level.alpha * self.SPREAD**2 / self.size(level) ** 2
        return self.MEAN + weight * (x - level.alpha * self.MEAN)


def released_update(x: Tensor, m: list[Tensor], levels: list[Level]) -> Tensor:
    """One step of order 3 from levels[2] to levels[3], as DPM-Solver's code writes it."""
    lambdas = [math.log(level.alpha / level.sigma) for level in levels]
    h_1, h_0, h = (lambdas[k + 1] - lambdas[k] for k in range(3))
    r0, r1 = h_0 / h, h_1 / h
    d1_0, d1_1 = (m[2] - m[1]) / r0, (m[1] - m[0]) / r1
    d1, d2 = d1_0 + r0 / (r0 + r1) * (d1_0 - d1_1), (d1_0 - d1_1) / (r0 + r1)
    p1 = math.exp(-h) - 1
    p2 = p1 / h + 1
    p3 = p2 / h - 0.5
    alpha = levels[3].alpha
    return levels[3].sigma / levels[2].sigma * x - alpha * p1 * m[2] + alpha * p2 * d1 - alpha * p3 * d2


class TestSolver:
    DATA = Gaussian()

    def error(self, steps: int, order: int, backwards: bool = False) -> float:
        levels, z = uniform_levels(SCHEDULE, steps), normal(3)
        levels = levels[::-1] if backwards else levels
        made = multistep(self.DATA.estimate, self.DATA.at(levels[0], z), levels, order)
        return float((made - self.DATA.at(levels[-1], z)).abs().max())

    @pytest.mark.parametrize("backwards", [False, True])
    def test_a_known_image_is_exact_in_any_order(self, backwards: bool) -> None:
        x_0, eps, levels = normal(0), normal(1), uniform_levels(SCHEDULE, 6)
        levels = levels[::-1] if backwards else levels
        for order in (1, 2, 3):
            start = levels[0].alpha * x_0 + levels[0].sigma * eps
            wanted = levels[-1].alpha * x_0 + levels[-1].sigma * eps
            torch.testing.assert_close(multistep(lambda x, level: x_0, start, levels, order), wanted)

    @pytest.mark.parametrize("backwards", [False, True])
    def test_more_steps_and_higher_order_come_nearer(self, backwards: bool) -> None:
        assert self.error(50, 1, backwards) < 0.2
        assert self.error(200, 1, backwards) < self.error(50, 1, backwards) / 2
        assert self.error(200, 2, backwards) < self.error(200, 1, backwards) / 4
        assert self.error(200, 3, backwards) < self.error(200, 2, backwards)

    def test_inverted_and_sampled_again_is_the_reference(self) -> None:
        levels = uniform_levels(SCHEDULE, 200)
        reference = self.DATA.at(levels[-1], normal(4))
        noise = multistep(self.DATA.estimate, reference, levels[::-1])
        again = multistep(self.DATA.estimate, noise, levels)
        assert float((again - reference).abs().max()) < 5e-3

    def test_third_order_is_the_published_update(self) -> None:
        levels, states, estimates = uniform_levels(SCHEDULE, 20)[5:9], [], []

        def denoise(x: Tensor, level: Level) -> Tensor:
            states.append(x)
            estimates.append(torch.tanh(x + level.alpha))
            return estimates[-1]

        made = multistep(denoise, normal(5), levels)
        torch.testing.assert_close(made, released_update(states[2], estimates, levels))

    def test_one_evaluation_a_step(self) -> None:
        asked = []
        multistep(lambda x, level: asked.append(level) or x, normal(0), uniform_levels(SCHEDULE, 7))
        assert asked == uniform_levels(SCHEDULE, 7)[:-1]

    @pytest.mark.parametrize("order", [0, 4])
    def test_another_order_is_refused(self, order: int) -> None:
        with pytest.raises(ValueError, match=f"got {order}"):
            multistep(lambda x, level: x, normal(0), uniform_levels(SCHEDULE, 3), order)


class TestLevels:
    def test_on_a_timestep_they_are_the_schedule(self) -> None:
        levels = uniform_levels(SCHEDULE, T - 1)
        for t in (0, 1, 100, 249):
            level = levels[T - 1 - t]
            assert level.timestep == pytest.approx(t)
            assert level.alpha == pytest.approx(SCHEDULE.alpha(t), rel=1e-9)
            assert level.sigma == pytest.approx(SCHEDULE.sigma(t), rel=1e-9)

    def test_in_between_log_alpha_is_linear(self) -> None:
        middle = uniform_levels(SCHEDULE, 2 * (T - 1))[-2]
        assert middle.timestep == pytest.approx(0.5)
        assert middle.alpha == pytest.approx(math.sqrt(SCHEDULE.alpha(0) * SCHEDULE.alpha(1)), rel=1e-9)

    def test_as_released_the_network_is_told_four_times_the_timestep(self) -> None:
        released = uniform_levels(SCHEDULE, 50, as_released=True)
        assert released[0].timestep == pytest.approx(996)
        assert [level.alpha for level in released] == [level.alpha for level in uniform_levels(SCHEDULE, 50)]

    def test_no_step_is_refused(self) -> None:
        with pytest.raises(ValueError, match="got 0"):
            uniform_levels(SCHEDULE, 0)


def test_the_start_is_noise_under_the_mask_and_the_inverted_reference_outside() -> None:
    noise, inverted, mask = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]), torch.tensor([1, 0])
    assert inversion_start(noise, inverted, mask).tolist() == [1, 4]


class TestThreshold:
    def test_small_values_are_kept(self) -> None:
        x = normal(0).clamp(-1, 1)
        assert torch.equal(threshold_dynamically(x), x)

    def test_large_ones_are_clamped_and_scaled_item_by_item(self) -> None:
        x = torch.linspace(-4, 4, 2001, dtype=torch.float64).repeat(2, 1)
        x[1] /= 8
        made = threshold_dynamically(x)
        assert made[0].abs().max() == 1
        assert float((made[0].abs() == 1).double().mean()) == pytest.approx(0.005, abs=0.002)
        assert torch.equal(made[1], x[1])
        limit = torch.quantile(x[0].abs(), 0.995)
        torch.testing.assert_close(made[0], x[0].clamp(-limit, limit) / limit)


class TestColumnScaling:
    VOLUME = np.random.default_rng(0).normal(-500, 300, (5, 6, 7)).round()

    @pytest.mark.parametrize("axis", [0, 1, 2, -1])
    def test_each_slab_fills_the_range_by_itself(self, axis: int) -> None:
        scaling = ColumnScaling.of(self.VOLUME, axis)
        unit = np.moveaxis(scaling.to_unit(self.VOLUME), axis, -1)
        assert unit.min(axis=(0, 1)) == pytest.approx(-1)
        assert unit.max(axis=(0, 1)) == pytest.approx(1)
        np.testing.assert_allclose(scaling.from_unit(scaling.to_unit(self.VOLUME)), self.VOLUME, atol=1e-9)

    def test_it_is_what_the_published_code_calls(self) -> None:
        from sklearn.preprocessing import MinMaxScaler

        volume = self.VOLUME.copy()
        volume[..., 3] = -1000
        columns = MinMaxScaler().fit_transform(volume.reshape(-1, volume.shape[-1])).reshape(volume.shape)
        made = ColumnScaling.of(volume).to_unit(volume)
        np.testing.assert_allclose(made, 2 * columns - 1, atol=1e-12)
        assert (made[..., 3] == -1).all()

    def test_one_bright_voxel_changes_its_own_slab_only(self) -> None:
        bright = self.VOLUME.copy()
        bright[2, 2, 2] = 3000
        changed = ColumnScaling.of(bright).to_unit(bright) != ColumnScaling.of(self.VOLUME).to_unit(
            self.VOLUME
        )
        assert changed[..., 2].mean() > 0.9
        assert not changed[..., [0, 1, 3, 4, 5, 6]].any()

    def test_a_picture_is_refused(self) -> None:
        with pytest.raises(ValueError, match="3 axes, got 2"):
            ColumnScaling.of(self.VOLUME[0])
