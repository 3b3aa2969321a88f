"""Which noise levels lesion inpainting visits."""

from __future__ import annotations

import torch
from torch import Tensor

from lesionbrush.diffusion.schedules import NoiseSchedule, timesteps
from lesionbrush.systems.running import first_timestep, visited_timesteps

NEXT_SIGNAL = 0.2
"""In between, what is expected of one lesion hardly changes: its second step is here."""


def lesion_timesteps(schedule: NoiseSchedule, steps: int) -> Tensor:
    """As `visited_timesteps`, but from the second on where `NEXT_SIGNAL` is left, if so many are wanted."""
    every = visited_timesteps(schedule, steps)
    after = first_timestep(schedule, NEXT_SIGNAL)
    if not 1 < steps <= after + 2:
        return every
    return torch.cat((every[:1], timesteps(schedule, steps - 1, t_start=after)))
