"""What the losses of diffusion models share: noise put into a batch, and errors made one number.

With learned variance the loss is Nichol & Dhariwal's hybrid (2021, arXiv:2102.09672): the error of what the
network predicts and a thousandth of the variational bound.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from lesionbrush.diffusion.learned_variance import LAMBDA, variational_bound
from lesionbrush.diffusion.preconditioning import image_from, v_from_image
from lesionbrush.diffusion.schedules import SCHEDULES, NoiseSchedule
from lesionbrush.engines.choice import choose_engine
from lesionbrush.engines.pytorch import autocast
from lesionbrush.training.levels import Levels
from lesionbrush.training.loop import Loop
from lesionbrush.training.recipes import Prediction


class Scored(Protocol):
    """A batch. image: (B, 1, *spatial) in [-1, 1]; scored: the same shape, weight of each voxel's error, 0
    where nothing is known; weight: (B,), of each item.
    """

    @property
    def image(self) -> Tensor: ...
    @property
    def scored(self) -> Tensor: ...
    @property
    def weight(self) -> Tensor: ...


ScoredT = TypeVar("ScoredT", bound=Scored)


def noise_like(image: Tensor, rng: torch.Generator) -> Tensor:
    """Gaussian noise of the image's shape; a GPU draws it itself, from a seed out of `rng`."""
    if image.device.type == "cpu":
        return torch.randn(image.shape, generator=rng)
    seed = int(torch.randint(2**62, (1,), generator=rng))
    own = torch.Generator(image.device).manual_seed(seed)
    return torch.randn(image.shape, generator=own, device=image.device)


@dataclass(frozen=True, eq=False)
class Noised:
    """Images at the levels t (B,): noisy = alpha clean + sigma noise, all (B, 1, *spatial), alpha and sigma
    (B, 1, ..., 1).
    """

    clean: Tensor
    noise: Tensor
    noisy: Tensor
    t: Tensor
    alpha: Tensor
    sigma: Tensor

    @classmethod
    def draw(cls, clean: Tensor, schedule: NoiseSchedule, levels: Levels, rng: torch.Generator) -> Noised:
        t = levels.draw(schedule, len(clean), rng)
        alpha_bar = schedule.alphas_bar[t].reshape(-1, *[1] * (clean.ndim - 1))
        alpha, sigma = (a.sqrt().float().to(clean.device) for a in (alpha_bar, 1 - alpha_bar))
        noise = noise_like(clean, rng)
        return cls(clean, noise, alpha * clean + sigma * noise, t, alpha, sigma)

    def target(self, prediction: Prediction, spread: float) -> Tensor:
        """What the network should say. spread: of the images, for v; see `image_from_v`."""
        if prediction == "eps":
            return self.noise
        if prediction == "x0":
            return self.clean
        if spread == 1:
            return self.alpha * self.noise - self.sigma * self.clean
        return v_from_image(self.noisy, self.clean, self.alpha, self.sigma, spread)

    def estimate(self, said: Tensor, prediction: Prediction, spread: float) -> Tensor:
        """The clean image that follows from what the network says."""
        if prediction == "v" and spread == 1:
            return self.alpha * self.noisy - self.sigma * said
        return image_from(prediction, self.noisy, said, self.alpha, self.sigma, spread)

    def weight(self, spread: float) -> Tensor:
        """(B,) of squared errors of x_0: one over what the best guess is wrong by (Karras et al. 2022)."""
        ratio = (self.sigma / self.alpha).flatten()
        return (ratio**2 + spread**2) / (ratio * spread) ** 2


class DiffusionLoop(Loop[ScoredT]):
    """A training run of a diffusion network: its loss is as the recipe says."""

    @cached_property
    def schedule(self) -> NoiseSchedule:
        return SCHEDULES[self.recipe.schedule](self.recipe.timesteps)

    @abstractmethod
    def ask(self, network: nn.Module, at: Noised, batch: ScoredT) -> Tensor:
        """The network's answer, (B, 1 or more, *spatial)."""

    def levels(self, batch: ScoredT) -> Levels:
        """That its images are noised to."""
        del batch
        return self.recipe.levels

    def loss(self, network: nn.Module, batch: ScoredT, rng: torch.Generator) -> Tensor:
        loss, spread = self.recipe.loss, self.recipe.data_spread
        at = Noised.draw(batch.image.to(self.device), self.schedule, self.levels(batch), rng)
        with autocast(self.device, choose_engine(self.device.type).precision):
            said = self.ask(network, at, batch).float()
        scored, weight = batch.scored.to(self.device), batch.weight.to(self.device)
        if not loss.weighted:
            scored, weight = (scored > 0).float(), torch.ones_like(weight)
        if loss.of == "x0":
            weight = weight * at.weight(spread)
        return (weight * mean_over(scored, self.error(said, at))).mean()

    def error(self, said: Tensor, at: Noised) -> Tensor:
        """(B, 1, *spatial), of every voxel."""
        prediction, spread = self.recipe.prediction, self.recipe.data_spread
        if self.recipe.loss.of == "x0":
            difference = at.estimate(said, prediction, spread) - at.clean
        else:
            difference = said - at.target(prediction, spread)
        return difference.abs() if self.recipe.loss.error == "absolute" else difference**2


class HybridLoop(DiffusionLoop[ScoredT]):
    """Of a network that may say, in a second channel, where the log variance of a step lies."""

    @property
    @abstractmethod
    def learns_variance(self) -> bool: ...

    def error(self, said: Tensor, at: Noised) -> Tensor:
        error = super().error(said[:, :1], at)
        if not self.learns_variance:
            return error
        estimate = at.estimate(said[:, :1], self.recipe.prediction, self.recipe.data_spread).detach()
        return error + LAMBDA * variational_bound(at.clean, estimate, said[:, 1:], self.schedule, at.t)


def mean_over(weights: Tensor, values: Tensor) -> Tensor:
    """(B,) weighted means of (B, 1, *spatial); 0 where nothing is weighted."""
    axes = tuple(range(1, values.ndim))
    return (weights * values).sum(axes) / weights.sum(axes).clamp(min=1)
