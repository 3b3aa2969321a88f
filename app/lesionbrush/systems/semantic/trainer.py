"""The trainer of semantic CT: noise on the whole slice, the layout beside it, the hybrid loss."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from lesionbrush.systems.semantic.data import SemanticBatch
from lesionbrush.systems.semantic.network import SemanticUNet
from lesionbrush.systems.semantic.recipes import SemanticRecipe
from lesionbrush.training.noising import HybridLoop, Noised


class SemanticTrainer(HybridLoop[SemanticBatch]):
    """Trains a `SemanticUNet` on slices with a layout."""

    recipe: SemanticRecipe
    network: SemanticUNet
    average: SemanticUNet

    @property
    def learns_variance(self) -> bool:
        return self.recipe.network.variance == "learned_range"

    def build(self) -> SemanticUNet:
        return SemanticUNet(replace(self.recipe.network, prediction=self.recipe.prediction))

    def ask(self, network: nn.Module, at: Noised, batch: SemanticBatch) -> Tensor:
        said: Tensor = network(at.noisy, at.t.to(self.device), batch.conditions.to(self.device))
        return said
