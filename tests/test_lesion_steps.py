"""Which noise levels a lesion visits."""

from __future__ import annotations

import pytest
import torch
from lesionbrush.diffusion.schedules import SCHEDULES
from lesionbrush.systems.lesion_inpainting.steps import NEXT_SIGNAL, lesion_timesteps
from lesionbrush.systems.running import first_timestep, visited_timesteps


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_second_step_is_where_a_lesion_begins_to_show(name: str) -> None:
    schedule = SCHEDULES[name]()
    first, second, *rest = lesion_timesteps(schedule, 12).tolist()
    assert first == first_timestep(schedule)
    assert schedule.alpha(second) >= NEXT_SIGNAL > schedule.alpha(second + 1)
    assert second > rest[0] > rest[-1] == 0
    assert len(rest) == 10


def test_one_step_and_every_step_are_as_for_other_models() -> None:
    schedule = SCHEDULES["cosine"]()
    levels = first_timestep(schedule) + 1
    for steps in (1, levels):
        assert torch.equal(lesion_timesteps(schedule, steps), visited_timesteps(schedule, steps))
