"""A network that is shown a layout, as what a sampler needs: estimates of x_0, and the width of steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lesionbrush.diffusion.denoisers import Clip, Denoiser, classifier_free
from lesionbrush.diffusion.learned_variance import ddpm_learned
from lesionbrush.diffusion.preconditioning import image_from
from lesionbrush.diffusion.samplers import SAMPLERS, Generators, Hook, Times
from lesionbrush.diffusion.schedules import NoiseSchedule
from lesionbrush.engines.evaluator import Evaluator
from lesionbrush.systems.semantic.classes import UNKNOWN
from lesionbrush.systems.semantic.layouts import encode
from lesionbrush.systems.semantic.network import SemanticUNet, SemanticUNetConfig
from lesionbrush.systems.slab import slices_at_once


@dataclass(frozen=True, eq=False)
class Walk:
    """How x goes down: from noise (N, 1, Y, X) over the noise levels, with what is done after each step."""

    noise: Tensor
    timesteps: Times
    generator: Generators
    after_step: Sequence[Hook] = ()


class SemanticDiffusion:
    """A network with the schedule it is sampled on. clip: the ends of its scale, in units."""

    def __init__(self, evaluate: Evaluator, schedule: NoiseSchedule, data_spread: float, clip: Clip) -> None:
        assert isinstance(evaluate.network, SemanticUNet)
        self.evaluate, self.schedule, self.clip = evaluate, schedule, clip
        self.config, self.data_spread = evaluate.network.config, data_spread
        self._fraction = torch.empty(0)

    def denoiser(self, conditions: Tensor, strength: float = 1.0) -> Denoiser:
        """Of slices with these conditions, (N, C, Y, X). Unless strength is 1 the network is also asked
        without a layout (Ho & Salimans 2022)."""
        nothing = torch.from_numpy(show(np.full((1, 1, 1), UNKNOWN), self.config))
        without = nothing.to(conditions).expand_as(conditions)
        return classifier_free(self._told(conditions), self._told(without), strength)

    def _told(self, conditions: Tensor) -> Denoiser:
        def x_0(x: Tensor, t: int) -> Tensor:
            said = self._ask(x, t, conditions)
            self._fraction = said[:, 1:].clamp(-1, 1)
            alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
            found = image_from(self.config.prediction, x, said[:, :1], alpha, sigma, self.data_spread)
            return found.clamp(*self.clip)

        return x_0

    def _ask(self, x: Tensor, t: int, conditions: Tensor) -> Tensor:
        times = torch.full((len(x),), t, dtype=torch.long, device=x.device)
        parts = zip(*(each.split(slices_at_once(x)) for each in (x, times, conditions)), strict=True)
        return torch.cat([self.evaluate(*part) for part in parts])

    def sample(self, sampler: str, denoise: Denoiser, walk: Walk) -> Tensor:
        """x_0. "ddpm" takes the variance that the network was trained for, as published."""
        start = (walk.noise, self.schedule, walk.timesteps)
        more = {"generator": walk.generator, "after_step": walk.after_step}
        if sampler == "ddpm" and self.config.variance == "learned_range":
            return ddpm_learned(denoise, lambda x, t: self._fraction, *start, **more)  # type: ignore[arg-type]
        return SAMPLERS[sampler](denoise, *start, **more)


def show(labels: np.ndarray, config: SemanticUNetConfig) -> np.ndarray:
    """float32 (N, C, Y, X) of (N, Y, X) classes, as this network takes them."""
    edges = config.conditioning == "edge_guided"
    return encode(labels, classes=config.classes, one_hot=config.one_hot, edges=edges)
