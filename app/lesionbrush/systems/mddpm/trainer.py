"""The trainer of the unconditional model behind mDDPM (Krishna et al. 2025). Reads the pack only.

With learned variance the loss is the hybrid one (`training.noising`). Only real data is scored.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from lesionbrush.systems.mddpm.data import SliceBatch
from lesionbrush.systems.mddpm.network import DDPMUNet, DDPMUNetConfig
from lesionbrush.training.noising import HybridLoop, Noised
from lesionbrush.training.recipes import Recipe


class SliceTrainer(HybridLoop[SliceBatch]):
    """Trains a `DDPMUNet` on axial slices."""

    recipe: Recipe[DDPMUNetConfig]
    network: DDPMUNet
    average: DDPMUNet

    def build(self) -> DDPMUNet:
        return DDPMUNet(replace(self.recipe.network, prediction=self.recipe.prediction))

    def ask(self, network: nn.Module, at: Noised, batch: SliceBatch) -> Tensor:
        said: Tensor = network(at.noisy, at.t.to(self.device))
        return said

    @property
    def learns_variance(self) -> bool:
        return self.recipe.network.variance == "learned_range"
