"""A network without conditions, as what a sampler needs: estimates of x_0, and the width of steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from lesionbrush.diffusion.denoisers import Denoiser, Predict, from_eps, from_v, from_x0
from lesionbrush.diffusion.learned_variance import ddpm_learned
from lesionbrush.diffusion.samplers import Hook, ddpm
from lesionbrush.diffusion.schedules import NoiseSchedule
from lesionbrush.engines.evaluator import Evaluator
from lesionbrush.systems.mddpm.guided import Start
from lesionbrush.systems.mddpm.network import DDPMUNet, Prediction

CLIP = (-1.0, 1.0)


class Unconditional:
    """One evaluation of the network gives both the estimate and the variance of a step.

    at_once: how much of a batch is evaluated at a time; all of it, if nothing else is said.
    """

    def __init__(
        self, evaluate: Evaluator, schedule: NoiseSchedule, at_once: Callable[[Tensor], int] = len
    ) -> None:
        assert isinstance(evaluate.network, DDPMUNet)
        self.evaluate, self.schedule, self.at_once = evaluate, schedule, at_once
        self.config = evaluate.network.config
        self._fraction = torch.empty(0)
        self.denoise: Denoiser = _reader(self.config.prediction, self._predict, schedule)

    def _predict(self, x: Tensor, t: int) -> Tensor:
        times = torch.full((len(x),), t, dtype=torch.long, device=x.device)
        parts = zip(*(each.split(self.at_once(x)) for each in (x, times)), strict=True)
        out = torch.cat([self.evaluate(*part) for part in parts])
        self._fraction = out[:, 1:].clamp(-1, 1)
        return out[:, :1]

    def sample(
        self, start: Start, denoise: Denoiser, after_step: Sequence[Hook] = (), temperature: float = 1.0
    ) -> Tensor:
        """x_0 by ancestral sampling, with the variance the network was trained for.

        denoise: this one's, or the caller's around it, which has to call it with the x and t it is given.
        """
        variance = self.config.variance
        if variance == "learned_range":
            sampler = partial(ddpm_learned, denoise, lambda x, t: self._fraction)
        else:
            sampler = partial(ddpm, denoise, variance=variance)
        return sampler(
            start.noise,
            self.schedule,
            start.timesteps,
            generator=start.generators,
            after_step=after_step,
            temperature=temperature,
        )


def _reader(prediction: Prediction, predict: Predict, schedule: NoiseSchedule) -> Denoiser:
    readers: dict[Prediction, Callable[[], Denoiser]] = {
        "eps": lambda: from_eps(predict, schedule, clip=CLIP),
        "v": lambda: from_v(predict, schedule, clip=CLIP),
        "x0": lambda: from_x0(predict, clip=CLIP),
    }
    return readers[prediction]()
