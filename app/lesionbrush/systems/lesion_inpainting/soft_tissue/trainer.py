"""The trainer of lesion inpainting in soft tissue. Needs torch, numpy and scipy; reads the pack only."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lesionbrush.systems.lesion_inpainting.attributes import ATTRIBUTES
from lesionbrush.systems.lesion_inpainting.network import LesionUNet, LesionUNetConfig
from lesionbrush.systems.lesion_inpainting.soft_tissue.data import SoftBatch
from lesionbrush.systems.lesion_inpainting.soft_tissue.told import TOLD
from lesionbrush.systems.running import in_channels_last
from lesionbrush.training.noising import DiffusionLoop, Noised
from lesionbrush.training.recipes import Recipe

_ASKED = "attribute_embedding.0.weight"


class SoftTissueTrainer(DiffusionLoop[SoftBatch]):
    """Trains a `LesionUNet` that is given a plan."""

    recipe: Recipe[LesionUNetConfig]
    network: LesionUNet
    average: LesionUNet

    def build(self) -> LesionUNet:
        return in_channels_last(LesionUNet(self.recipe.network))

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Also with the weights of a lung model: it knows no plan, and is told more in words."""
        own = self.network.state_dict()
        taken = {name: widen(weights[name], own[name].shape) for name in own if name != _ASKED}
        asked = weights[_ASKED]
        taken[_ASKED] = asked if asked.shape == own[_ASKED].shape else keep_words(asked, own[_ASKED])
        super().start_from(taken)

    def ask(self, network: nn.Module, at: Noised, batch: SoftBatch) -> Tensor:
        told = (batch.conditions.to(self.device), batch.told.to(self.device))
        said: Tensor = network(at.noisy, at.alpha.flatten(), at.sigma.flatten(), *told)
        return said


def widen(weight: Tensor, shape: torch.Size) -> Tensor:
    """(O, I, ...) with more inputs at the end, which it does not listen to yet."""
    if weight.ndim < 2 or weight.shape == shape:
        return weight
    wide = weight.new_zeros(shape)
    wide[:, : weight.shape[1]] = weight
    return wide


def keep_words(asked: Tensor, own: Tensor) -> Tensor:
    """(O, 2 T): of the lung model's columns (O, 2 A) those of words that both know; 0 for the others."""
    kept = torch.zeros_like(own)
    for place, name in enumerate(TOLD):
        if name in ("lesion", "margin"):
            there = ATTRIBUTES.index(name)
            kept[:, place] = asked[:, there]
            kept[:, len(TOLD) + place] = asked[:, len(ATTRIBUTES) + there]
    return kept
