"""The trainer of Lung-DDPM and Lung-DDPM+ (Jiang et al. 2025, arXiv:2502.15204, arXiv:2508.09327).

The network sees the noisy image and the layout, never the clean surroundings: what stays is held in place by
the sampler. So all that is known is scored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lesionbrush.systems.med_unet import MedUNet, MedUNetConfig
from lesionbrush.systems.running import in_channels_last
from lesionbrush.training.noising import DiffusionLoop, Noised
from lesionbrush.training.recipes import Recipe

FIRST_LAYER = "conv_in.conv.weight"


@dataclass(frozen=True)
class LayoutBatch:
    """Float32 tensors. image: (B, 1, Z, Y, X) in [-1, 1]; layout: (B, M, Z, Y, X) in ±1.

    scored: (B, 1, Z, Y, X), weight of each voxel's error, 0 where nothing is known; weight: (B,).
    """

    image: Tensor
    layout: Tensor
    scored: Tensor
    weight: Tensor


class LayoutTrainer(DiffusionLoop[LayoutBatch]):
    """Trains a `MedUNet`."""

    recipe: Recipe[MedUNetConfig]
    network: MedUNet
    average: MedUNet

    def build(self) -> MedUNet:
        return in_channels_last(MedUNet(self.recipe.network))

    def ask(self, network: nn.Module, at: Noised, batch: LayoutBatch) -> Tensor:
        inputs = torch.cat((at.noisy, batch.layout.to(self.device)), dim=1)
        said: Tensor = network(inputs.contiguous(memory_format=torch.channels_last_3d), at.t.to(self.device))
        return said

    def start_from_similar(self, weights: Mapping[str, Tensor]) -> float:
        """Begin with the weights of a network of other inputs or attention, where names and shapes agree.

        The first layer's channels for x and the nodule are the first and the last in either network; a layout
        channel the other had not starts at zero. Returns the share of our weights that were given.
        """
        state = self.network.state_dict()
        given = {name: w for name, w in weights.items() if name in state and w.shape == state[name].shape}
        first = weights.get(FIRST_LAYER)
        if first is not None and FIRST_LAYER not in given and first.shape[0] == state[FIRST_LAYER].shape[0]:
            given[FIRST_LAYER] = torch.zeros_like(state[FIRST_LAYER])
            given[FIRST_LAYER][:, [0, -1]] = first[:, [0, -1]]
        self.start_from({**state, **given})
        return sum(w.numel() for w in given.values()) / sum(w.numel() for w in state.values())
