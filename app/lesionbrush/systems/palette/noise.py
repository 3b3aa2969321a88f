"""The noise of Palette (Saharia et al. 2022, arXiv:2111.05826): fine to learn on, coarse to sample on.

The network is told gamma, not the number of a level, so it can be sampled on any schedule.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from lesionbrush.diffusion.schedules import SCHEDULES, NoiseSchedule, linear

PALETTE_SCHEDULES: dict[str, Callable[[int], NoiseSchedule]] = {
    **SCHEDULES,
    "palette_training": partial(linear, beta_start=1e-6, beta_end=1e-2),
    "palette_sampling": partial(linear, beta_start=1e-4, beta_end=9e-2),
}
"""With 2000 levels for training and 1000 for sampling, as in its usual implementation."""
