"""How what is known is held while the rest is sampled: three ways, of which training knows the noise of one.

The thesis (Sedykh 2024, Sec. 4.3) lists: noise for the step, a denoised image, that image blended with the
original outside the mask, noise added. If what is blended is the estimate of x_0 (its Eq. 6), the known has
the noise of its level (`blended`). If it is the mean of the step, as Med-DDPM's sampler has it, the known is
clean but for one step's noise (`clean`), which no network trained on wholly noisy images has seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lesionbrush.diffusion.denoisers import Denoiser
from lesionbrush.diffusion.guidance import keep_known
from lesionbrush.diffusion.samplers import Generators, Hook, draw_noise
from lesionbrush.diffusion.schedules import NoiseSchedule, step_variances
from lesionbrush.systems.med_ddpm.request import Known


def blend_known(denoise: Denoiser, reference: Tensor, editable: Tensor) -> Denoiser:
    """Each estimate of x_0 with the reference where editable (0 or 1) is 0."""
    return lambda x, t: torch.lerp(reference, denoise(x, t), editable)


def put_clean(
    reference: Tensor,
    editable: Tensor,
    schedule: NoiseSchedule,
    timesteps: Sequence[int],
    generator: Generators,
) -> Hook:
    """x <- editable x + (1 - editable) (reference + the noise of the step alone). timesteps: all visited."""

    def hook(x: Tensor, t_next: int | None, step: int) -> Tensor:
        known = reference
        if t_next is not None:
            spread = math.sqrt(step_variances(schedule, timesteps[step], t_next)["fixed_small"])
            known = reference + spread * draw_noise(x.shape, generator, x.device, x.dtype)
        return torch.lerp(known, x, editable)

    return hook


def hold_known(  # noqa: PLR0913, what is known, and where and how it is held
    way: Known,
    denoise: Denoiser,
    reference: Tensor,
    editable: Tensor,
    schedule: NoiseSchedule,
    timesteps: Sequence[int],
    generator: Generators,
) -> tuple[Denoiser, list[Hook]]:
    """What to give a sampler. reference, editable: (B, 1, Z, Y, X); editable is 0 or 1."""
    if way == "blended":
        return blend_known(denoise, reference, editable), []
    if way == "clean":
        return denoise, [put_clean(reference, editable, schedule, timesteps, generator)]
    return denoise, [keep_known(reference, editable, schedule, generator)]
