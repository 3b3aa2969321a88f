"""Training of Lung-DDPM and Lung-DDPM+ (Jiang et al. 2025, arXiv:2502.15204, arXiv:2508.09327).

The network sees the noisy image and the layout, never the clean surroundings: what stays is held in place by
the sampler. So all that is known is scored, the nodule and what borders on it more. The papers predict the
noise with an L1 loss in 100 000 steps; we predict v for images of a small spread (see `preconditioning`) and
score the clean image it stands for, weighted per noise level as in `train`: a fraction of the steps will do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lesionbrush.core.hu import HUWindow
from lesionbrush.diffusion.preconditioning import image_from_v
from lesionbrush.diffusion.schedules import NoiseSchedule, cosine
from lesionbrush.systems.lung_ddpm.network import TIMESTEPS, LungDDPMConfig, LungDDPMUNet
from lesionbrush.systems.running import half_precision
from lesionbrush.training.levels import Levels
from lesionbrush.training.loop import Loop, LoopConfig, noise_like

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


@dataclass(frozen=True, kw_only=True)
class LayoutConfig(LoopConfig):
    """What fixes a training run; the same config, pack and machine give the same weights."""

    network: LungDDPMConfig
    window: HUWindow = field(default_factory=lambda: HUWindow(-1000.0, 1000.0))
    levels: Levels = field(default_factory=lambda: Levels(-1.0, 1.5, 0.15))
    data_spread: float = 0.25


class LayoutTrainer(Loop[LayoutBatch]):
    """Trains a `LungDDPMUNet` that predicts v on the published noise schedule."""

    config: LayoutConfig
    network: LungDDPMUNet
    average: LungDDPMUNet

    def __init__(self, config: LayoutConfig, device: torch.device) -> None:
        super().__init__(config, device)
        self.schedule: NoiseSchedule = cosine(TIMESTEPS)

    def build(self) -> LungDDPMUNet:
        network = LungDDPMUNet(self.config.network).to(self.device)
        return network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def loss(self, network: nn.Module, batch: LayoutBatch, rng: torch.Generator) -> Tensor:
        t = self.config.levels.draw(self.schedule, len(batch.image), rng)
        alpha = self.schedule.alphas_bar[t].sqrt().float().to(self.device)
        sigma = (1 - self.schedule.alphas_bar[t]).sqrt().float().to(self.device)
        image = batch.image.to(self.device)
        noise = noise_like(image, rng)
        column = (slice(None), *[None] * 4)
        noisy = alpha[column] * image + sigma[column] * noise
        inputs = torch.cat((noisy, batch.layout.to(self.device)), dim=1)
        with half_precision(self.device):
            v = network(inputs.contiguous(memory_format=torch.channels_last_3d), t.to(self.device))
        spread = self.config.data_spread
        x_0 = image_from_v(noisy, v.float(), alpha[column], sigma[column], spread)
        error = _mean_over(batch.scored.to(self.device), (x_0 - image) ** 2)
        ratio = sigma / alpha
        weight = (ratio**2 + spread**2) / (ratio * spread) ** 2
        return (batch.weight.to(self.device) * weight * error).mean()

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


def _mean_over(weights: Tensor, values: Tensor) -> Tensor:
    """(B,) weighted means of (B, 1, Z, Y, X)."""
    return (weights * values).flatten(1).sum(1) / weights.flatten(1).sum(1).clamp(min=1)
