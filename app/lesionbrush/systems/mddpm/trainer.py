"""The trainer of the unconditional model behind mDDPM (Krishna et al. 2025). Reads the pack only.

With learned variance the loss is Nichol & Dhariwal's hybrid (2021, arXiv:2102.09672): the error of what the
network predicts and a thousandth of the variational bound. Only real data is scored.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from lesionbrush.diffusion.learned_variance import LAMBDA, variational_bound
from lesionbrush.systems.mddpm.data import SliceBatch
from lesionbrush.systems.mddpm.network import DDPMUNet, DDPMUNetConfig
from lesionbrush.training.noising import DiffusionLoop, Noised
from lesionbrush.training.recipes import Recipe


class SliceTrainer(DiffusionLoop[SliceBatch]):
    """Trains a `DDPMUNet` on axial slices."""

    recipe: Recipe[DDPMUNetConfig]
    network: DDPMUNet
    average: DDPMUNet

    def build(self) -> DDPMUNet:
        return DDPMUNet(replace(self.recipe.network, prediction=self.recipe.prediction))

    def ask(self, network: nn.Module, at: Noised, batch: SliceBatch) -> Tensor:
        said: Tensor = network(at.noisy, at.t.to(self.device))
        return said

    def error(self, said: Tensor, at: Noised) -> Tensor:
        error = super().error(said[:, :1], at)
        if self.recipe.network.variance != "learned_range":
            return error
        estimate = at.estimate(said[:, :1], self.recipe.prediction, self.recipe.data_spread).detach()
        return error + LAMBDA * variational_bound(at.clean, estimate, said[:, 1:], self.schedule, at.t)
