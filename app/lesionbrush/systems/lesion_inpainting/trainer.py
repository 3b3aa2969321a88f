"""The trainer of the lesion inpainting model. Needs torch, numpy and scipy; reads the pack only.

Loss: the squared error of the predicted clean image in the edit region, weighted per noise level so that
every level counts alike, and per scan by how little noise it has. The spread it is weighted by is that of the
edit region given its surroundings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

from lesionbrush.systems.lesion_inpainting.data import Batch
from lesionbrush.systems.lesion_inpainting.network import LesionUNet, LesionUNetConfig
from lesionbrush.systems.running import in_channels_last
from lesionbrush.training.noising import DiffusionLoop, Noised
from lesionbrush.training.recipes import Recipe

_BLOCK = re.compile(r"(?:en|de)coder\.\d+\.(\d+)\.")


class Trainer(DiffusionLoop[Batch]):
    """Trains a `LesionUNet` on batches of the pack."""

    recipe: Recipe[LesionUNetConfig]
    network: LesionUNet
    average: LesionUNet

    def build(self) -> LesionUNet:
        return in_channels_last(LesionUNet(self.recipe.network))

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Also with the weights of a network of fewer blocks: those it had not start as the identity."""
        had = {int(block[1]) for block in map(_BLOCK.match, weights) if block}
        own = ((name, _BLOCK.match(name), w) for name, w in self.network.state_dict().items())
        new = {name: w for name, block, w in own if block and had and int(block[1]) > max(had)}
        super().start_from({**new, **weights})

    def ask(self, network: nn.Module, at: Noised, batch: Batch) -> Tensor:
        told = (batch.conditions.to(self.device), batch.attributes.to(self.device))
        said: Tensor = network(at.noisy, at.alpha.flatten(), at.sigma.flatten(), *told)
        return said
