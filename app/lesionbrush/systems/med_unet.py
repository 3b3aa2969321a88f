"""The network of Med-DDPM (Dorjsembe et al. 2023, arXiv:2305.18453), which Lung-DDPM took over.

It is MONAI's `DiffusionModelUNet` but for two things that change no tensor's name or shape, so that
published weights load into the stock class without an error and then predict garbage: the timestep
embedding's longest period is 1000, not 10000, and the decoder upsamples trilinearly, not by nearest voxel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from monai.networks.nets import DiffusionModelUNet
from torch import Tensor, nn

LONGEST_PERIOD = 1000.0


@dataclass(frozen=True)
class MedUNetConfig:
    """What fixes the shapes of the network's tensors. in_channels: x_t, then what it is shown."""

    in_channels: int
    channels: tuple[int, ...]
    attention: tuple[bool, ...]
    blocks: int = 1
    norm_groups: int = 32

    @property
    def multiple(self) -> int:
        """Each spatial side must be a multiple of this."""
        return int(2 ** (len(self.channels) - 1))


class MedUNet(DiffusionModelUNet):
    """Predicts from (B, in_channels, X, Y, Z) and the timesteps (B,) of the level that x_t is at."""

    def __init__(self, config: MedUNetConfig) -> None:
        super().__init__(
            spatial_dims=3,
            in_channels=config.in_channels,
            out_channels=1,
            num_res_blocks=config.blocks,
            channels=config.channels,
            attention_levels=config.attention,
            norm_num_groups=config.norm_groups,
            num_head_channels=config.channels,  # one head, whatever the width
            norm_eps=1e-5,
        )
        for module in self.modules():
            if isinstance(module, nn.Upsample):
                module.mode, module.align_corners = "trilinear", False

    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:  # type: ignore[override]
        """(B, 1, X, Y, Z). The base class's way, with this network's own timestep embedding."""
        embedding = self.time_embed(timestep_embedding(timesteps, self.block_out_channels[0]).to(x.dtype))
        h = self.conv_in(x)
        skips = [h]
        for down in self.down_blocks:
            h, outputs = down(hidden_states=h, temb=embedding, context=None)
            skips.extend(outputs)
        h = self.middle_block(hidden_states=h, temb=embedding, context=None)
        for up in self.up_blocks:
            first = len(skips) - len(up.resnets)  # type: ignore[arg-type]
            h = up(hidden_states=h, res_hidden_states_list=skips[first:], temb=embedding, context=None)
            del skips[first:]
        out: Tensor = self.out(h)
        return out


def timestep_embedding(timesteps: Tensor, width: int) -> Tensor:
    """(B,) to (B, width): cosines, then sines, of t / 1000^(k / half), k = 0 ... half - 1."""
    half = width // 2
    k = torch.arange(half, dtype=torch.float32, device=timesteps.device)
    angle = timesteps.float()[:, None] * torch.exp(-math.log(LONGEST_PERIOD) * k / half)
    return torch.cat((angle.cos(), angle.sin()), dim=1)
