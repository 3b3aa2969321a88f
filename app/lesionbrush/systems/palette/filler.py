"""A network that fills holes, as what a sampler needs: estimates of x_0, and what is known kept clean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lesionbrush.diffusion.denoisers import Clip, Denoiser, Predict, from_eps, from_x0
from lesionbrush.diffusion.preconditioning import image_from_v
from lesionbrush.diffusion.samplers import Hook
from lesionbrush.diffusion.schedules import NoiseSchedule
from lesionbrush.engines.evaluator import Evaluator
from lesionbrush.systems.palette.data import conditions_of
from lesionbrush.systems.palette.network import PaletteUNet
from lesionbrush.systems.slab import slices_at_once


@dataclass(frozen=True, eq=False)
class Holes:
    """Slices to fill, (N, 1, Y, X) each. image: clean, in units; inside: bool, the hole; masked: the image
    with noise in its hole; fill: (N,) int64, what each is filled with."""

    image: Tensor
    inside: Tensor
    masked: Tensor
    fill: Tensor

    @classmethod
    def of(cls, image: Tensor, inside: Tensor, noise: Tensor, fill: Tensor) -> Holes:
        return cls(image, inside, torch.where(inside, noise, image), fill)

    def put(self, made: Tensor) -> Tensor:
        """What was made in the hole, and what is known around it: not one known value is another."""
        return torch.where(self.inside, made, self.image)

    def keep_clean(self) -> Hook:
        """Palette's way with what is known: it has no noise, at no level."""
        return lambda x, t_next, step: self.put(x)


class HoleFiller:
    """A network with the schedule it is sampled on. clip: the ends of its scale, in units."""

    def __init__(
        self,
        evaluate: Evaluator,
        schedule: NoiseSchedule,
        prediction: Literal["eps", "x0", "v"],
        data_spread: float,
        clip: Clip,
    ) -> None:
        assert isinstance(evaluate.network, PaletteUNet)
        self.evaluate, self.schedule, self.clip = evaluate, schedule, clip
        self.config = evaluate.network.config
        self.prediction, self.data_spread = prediction, data_spread

    def denoiser(self, holes: Holes) -> Denoiser:
        """(N, 1, Y, X) at a level to the slices without noise."""

        def predict(x: Tensor, t: int) -> Tensor:
            return self._ask(holes, holes.put(x), self.schedule.alpha_bar(t))

        fill = self._reader(predict)
        return lambda x, t: holes.put(fill(x, t))

    def _ask(self, holes: Holes, x: Tensor, gamma: float) -> Tensor:
        conditions = conditions_of(holes.masked, holes.inside.to(x), self.config.shows_hole)
        levels = x.new_full((len(x),), gamma)
        inputs = (x, levels, conditions, holes.fill)
        parts = zip(*(each.split(slices_at_once(x)) for each in inputs), strict=True)
        return torch.cat([self.evaluate(*part) for part in parts])

    def _reader(self, predict: Predict) -> Denoiser:
        if self.prediction == "eps":
            return from_eps(predict, self.schedule, clip=self.clip)
        if self.prediction == "x0":
            return from_x0(predict, clip=self.clip)

        def from_v(x: Tensor, t: int) -> Tensor:
            alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
            return image_from_v(x, predict(x, t), alpha, sigma, self.data_spread).clamp(*self.clip)

        return from_v
