"""A network without conditions, as what a sampler needs: estimates of x_0, and the width of steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lesionbrush.diffusion.denoisers import Denoiser, Predict, from_eps, from_v, from_x0
from lesionbrush.diffusion.learned_variance import ddpm_learned
from lesionbrush.diffusion.samplers import Generators, Hook, Times, ddpm
from lesionbrush.diffusion.schedules import NoiseSchedule
from lesionbrush.networks.ddpm_unet import DDPMUNet, Prediction
from lesionbrush.systems.devices import half_precision

CLIP = (-1.0, 1.0)


class Unconditional:
    """One evaluation of the network gives both the estimate and the variance of a step."""

    def __init__(self, network: DDPMUNet, schedule: NoiseSchedule) -> None:
        self.network, self.schedule = network, schedule
        self._fraction = torch.empty(0)
        self.denoise: Denoiser = _reader(network.config.prediction, self._predict, schedule)

    def _predict(self, x: Tensor, t: int) -> Tensor:
        with half_precision(x.device):
            out = self.network.at(x, t)
        self._fraction = out[:, 1:].clamp(-1, 1)
        return out[:, :1]

    def sample(
        self,
        noise: Tensor,
        timesteps: Times,
        generator: Generators,
        after_step: Sequence[Hook] = (),
        denoise: Denoiser | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """x_0 by ancestral sampling, with the variance the network was trained for.

        denoise: this one's, changed by the caller; it has to evaluate the network at the x and t it is given.
        """
        denoise = denoise or self.denoise
        if self.network.config.variance == "fixed_small":
            return ddpm(
                denoise,
                noise,
                self.schedule,
                timesteps,
                generator=generator,
                after_step=after_step,
                temperature=temperature,
            )
        return ddpm_learned(
            denoise,
            lambda x, t: self._fraction.reshape(x.shape),
            noise,
            self.schedule,
            timesteps,
            generator=generator,
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
