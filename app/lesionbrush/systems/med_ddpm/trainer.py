"""The trainer of Med-DDPM: the whole image is noisy, the loss is of the hole alone."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lesionbrush.systems.med_ddpm.card import TOLD_CHANNELS
from lesionbrush.systems.med_ddpm.conditions import join_conditions
from lesionbrush.systems.med_ddpm.data import MaskedBatch
from lesionbrush.systems.med_ddpm.recipes import MaskedRecipe
from lesionbrush.systems.med_unet import MedUNet
from lesionbrush.systems.running import in_channels_last
from lesionbrush.training.noising import DiffusionLoop, Noised

FIRST_LAYER = "conv_in.conv.weight"
IMAGE, MASK = 0, 2
"""Among the network's inputs."""


class MedDDPMTrainer(DiffusionLoop[MaskedBatch]):
    """Trains a `MedUNet` that is shown the CT around the hole."""

    recipe: MaskedRecipe
    network: MedUNet
    average: MedUNet

    def build(self) -> MedUNet:
        return in_channels_last(MedUNet(self.recipe.network))

    def ask(self, network: nn.Module, at: Noised, batch: MaskedBatch) -> Tensor:
        told = self.recipe.network.in_channels == TOLD_CHANNELS
        shown = (batch.visible.to(self.device), batch.mask.to(self.device))
        content = batch.content.to(self.device) if told else None
        inputs = torch.cat((at.noisy, join_conditions(at.clean, *shown, content)), dim=1)
        said: Tensor = network(inputs.contiguous(memory_format=torch.channels_last_3d), at.t.to(self.device))
        return said

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Also with those of Lung-DDPM+, which is shown a mask alone; it listens to nothing else yet."""
        own, first = self.network.state_dict()[FIRST_LAYER], weights[FIRST_LAYER]
        if first.shape[1] == 2:
            wide = torch.zeros_like(own)
            wide[:, [IMAGE, MASK]] = first.to(wide)
            weights = {**weights, FIRST_LAYER: wide}
        super().start_from(weights)
