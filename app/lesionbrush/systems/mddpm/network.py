"""An unconditional diffusion network in 2D or 3D, on MONAI's `DiffusionModelUNet`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from monai.networks.nets import DiffusionModelUNet
from torch import Tensor

Prediction = Literal["eps", "x0", "v"]
Variance = Literal["fixed_small", "fixed_large", "learned_range"]


@dataclass(frozen=True)
class DDPMUNetConfig:
    """What fixes the shapes of the network's tensors.

    norm_groups divides every width; as many groups as channels would take every channel's mean away, and
    with it the HU. variance: with "learned_range" a second channel says where between its two bounds the log
    variance of a step lies (Nichol & Dhariwal 2021, arXiv:2102.09672, Eq. 15).
    """

    dims: Literal[2, 3] = 2
    in_channels: int = 1
    channels: tuple[int, ...] = (32, 64, 96, 128)
    attention: tuple[bool, ...] = (False, False, False, False)
    blocks: int = 1
    norm_groups: int = 8
    prediction: Prediction = "v"
    variance: Variance = "learned_range"

    @property
    def multiple(self) -> int:
        """Each spatial side must be a multiple of this."""
        return int(2 ** (len(self.channels) - 1))

    @property
    def out_channels(self) -> int:
        return 2 if self.variance == "learned_range" else 1


class DDPMUNet(DiffusionModelUNet):
    """(B, 1, *spatial) and integer timesteps (B,) to (B, out_channels, *spatial), float32."""

    def __init__(self, config: DDPMUNetConfig) -> None:
        super().__init__(
            spatial_dims=config.dims,
            in_channels=config.in_channels,
            out_channels=config.out_channels,
            num_res_blocks=config.blocks,
            channels=config.channels,
            attention_levels=config.attention,
            norm_num_groups=config.norm_groups,
            num_head_channels=config.channels,  # one head, whatever the width
        )
        self.config = config

    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:  # type: ignore[override]
        out: Tensor = super().forward(x, timesteps)
        return out.float()
