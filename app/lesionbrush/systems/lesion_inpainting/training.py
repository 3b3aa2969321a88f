"""Training of the lesion inpainting model. Needs torch, numpy and scipy; reads the pack only.

Loss: the squared error of the predicted clean image in the edit region, weighted per noise level so that
every level counts alike (Karras et al. 2022, arXiv:2206.00364, Sec. 5: lambda = 1 / c_out^2, sigma_data being
the spread of the edit region given its surroundings), and per scan by how little noise it has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lesionbrush.core.hu import HUWindow
from lesionbrush.diffusion.schedules import NoiseSchedule, cosine
from lesionbrush.systems.lesion_inpainting.data import Batch
from lesionbrush.systems.lesion_inpainting.network import LesionUNet, LesionUNetConfig
from lesionbrush.systems.running import half_precision
from lesionbrush.training.levels import Levels
from lesionbrush.training.loop import Loop, LoopConfig, noise_like

_BLOCK = re.compile(r"(?:en|de)coder\.\d+\.(\d+)\.")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(LoopConfig):
    """What fixes a training run; the same config, pack and machine give the same weights."""

    network: LesionUNetConfig
    window: HUWindow = field(default_factory=lambda: HUWindow(-1000.0, 1000.0))
    log_ratio_mean: float = -1.2
    log_ratio_std: float = 1.5
    uniform_share: float = 0.1
    data_spread: float = 0.15


class Trainer(Loop[Batch]):
    """Trains a `LesionUNet` on batches of the pack."""

    config: TrainingConfig
    network: LesionUNet
    average: LesionUNet

    def __init__(self, config: TrainingConfig, device: torch.device) -> None:
        super().__init__(config, device)
        self.schedule: NoiseSchedule = cosine()

    def build(self) -> LesionUNet:
        network = LesionUNet(self.config.network).to(self.device)
        return network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Also with the weights of a network of fewer blocks: those it had not start as the identity."""
        had = {int(block[1]) for block in map(_BLOCK.match, weights) if block}
        own = ((name, _BLOCK.match(name), w) for name, w in self.network.state_dict().items())
        new = {name: w for name, block, w in own if block and had and int(block[1]) > max(had)}
        super().start_from({**new, **weights})

    def loss(self, network: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        t = self.draw_levels(len(batch.image), rng)
        alpha = self.schedule.alphas_bar[t].sqrt().float().to(self.device)
        sigma = (1 - self.schedule.alphas_bar[t]).sqrt().float().to(self.device)
        image = batch.image.to(self.device)
        noise = noise_like(image, rng)
        column = (slice(None), *[None] * 4)
        noisy = alpha[column] * image + sigma[column] * noise
        with half_precision(self.device):
            predicted = network(
                noisy, alpha, sigma, batch.conditions.to(self.device), batch.attributes.to(self.device)
            )
        ratio, spread = sigma / alpha, self.config.data_spread
        weight = (ratio**2 + spread**2) / (ratio * spread) ** 2
        scored = batch.scored.to(self.device)
        error = (scored * (predicted - image) ** 2).sum(dim=(1, 2, 3, 4)) / scored.sum(
            dim=(1, 2, 3, 4)
        ).clamp(min=1)
        return (batch.weight.to(self.device) * weight * error).mean()

    def draw_levels(self, count: int, rng: torch.Generator) -> Tensor:
        config = self.config
        levels = Levels(config.log_ratio_mean, config.log_ratio_std, config.uniform_share)
        return levels.draw(self.schedule, count, rng)
