"""Which noise levels a model of one lesion visits."""

from __future__ import annotations

import torch
from torch import Tensor

from lesionbrush.diffusion.schedules import NoiseSchedule, timesteps
from lesionbrush.errors import InvalidRequest

LEAST_SIGNAL = 0.02
"""Sampling starts where this much of the signal is left: below it, steps of even log-SNR do nothing."""
NEXT_SIGNAL = 0.2
"""In between, what is expected of one lesion hardly changes: its second step is here."""


def visited_timesteps(schedule: NoiseSchedule, steps: int) -> Tensor:
    """The noise levels a request visits. InvalidRequest when it wants more than there are."""
    start = first_timestep(schedule)
    if steps > start + 1:
        raise InvalidRequest(f"steps: this model has {start + 1} noise levels, choose no more (got {steps})")
    return timesteps(schedule, steps, t_start=start)


def lesion_timesteps(schedule: NoiseSchedule, steps: int) -> Tensor:
    """As `visited_timesteps`, but from the second on where `NEXT_SIGNAL` is left, if so many are wanted."""
    every = visited_timesteps(schedule, steps)
    after = first_timestep(schedule, NEXT_SIGNAL)
    if not 1 < steps <= after + 2:
        return every
    return torch.cat((every[:1], timesteps(schedule, steps - 1, t_start=after)))


def first_timestep(schedule: NoiseSchedule, signal: float = LEAST_SIGNAL) -> int:
    """The noisiest timestep whose signal amplitude is at least `signal`."""
    return int((schedule.alphas_bar.sqrt() >= signal).sum()) - 1
