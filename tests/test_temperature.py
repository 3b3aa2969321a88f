"""The temperature of `ddpm`: on the noise it draws, and on nothing else."""

from __future__ import annotations

import pytest
import torch
from lesionbrush.diffusion import schedules
from lesionbrush.diffusion.samplers import Temperature, ddpm


def first_step(temperature: Temperature) -> torch.Tensor:
    """What one step makes of x = 2 where x_0 is known to be 0."""
    seen = []
    ddpm(
        lambda x, t: torch.zeros_like(x),
        torch.full((1, 1, 40_000), 2.0),
        schedules.cosine(100),
        [60, 30],
        generator=torch.Generator().manual_seed(0),
        after_step=[lambda x, t, step: seen.append(x) or x],
        temperature=temperature,
    )
    return seen[0]


@pytest.mark.parametrize("temperature", [0.0, 0.5])
def test_it_scales_the_noise_of_a_step(temperature: float) -> None:
    plain, calm = first_step(1.0), first_step(temperature)
    mean = first_step(0.0)
    torch.testing.assert_close(calm - mean, temperature * (plain - mean), atol=1e-5, rtol=1e-4)
    assert float((plain - mean).std()) > 0.1


def test_a_negative_one_is_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        first_step(-1)


def test_it_may_depend_on_how_much_noise_is_left() -> None:
    schedule, asked = schedules.cosine(100), []
    found = first_step(lambda ratio: asked.append(ratio) or 0.5)
    torch.testing.assert_close(found, first_step(0.5))
    assert asked == [schedule.sigma(30) / schedule.alpha(30)]  # the step to the clean level draws nothing
