"""The generator of both baselines: a U-Net with skips, in two or three dimensions, of MONAI's blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.blocks import Convolution, ResidualUnit
from torch import Tensor, nn

HALF: dict[str, Any] = {"kernel_size": 4, "strides": 2, "padding": 1}
BACK: dict[str, Any] = {"is_transposed": True, "output_padding": 0}
LEAK = ("LEAKYRELU", {"negative_slope": 0.2})


class SkipGenerator(nn.Module):
    """Halves the sides once a level, and goes back with what it saw on the way beside it.

    Convolutions of 4 with stride 2, leaky on the way down, as Pix2Pix has them (Isola et al. 2017,
    arXiv:1611.07004, App. 6.1); residual blocks at the bottom, whose results stand beside what they were
    given, as Vox2Vox has them (Cirillo et al. 2020, arXiv:2003.13653, Sec. 2.1). Dropout in the deepest two
    levels of the way back is the only noise: the network is never put into its mode without it. Norms are of
    each image, since batches are small.
    """

    def __init__(
        self, dims: int, in_channels: int, channels: Sequence[int], *, residual_blocks: int, dropout: float
    ) -> None:
        super().__init__()
        self.dims, self.dropout = dims, dropout
        widths = (in_channels, *channels)
        self.down = nn.ModuleList(self._down(k, widths) for k in range(len(channels)))
        self.bottom = nn.ModuleList(
            ResidualUnit(dims, width, channels[-1], subunits=1, act="RELU")
            for width in (channels[-1] * (1 if k == 0 else 2) for k in range(residual_blocks))
        )
        deepest = channels[-1] * (2 if residual_blocks else 1)
        self.up = nn.ModuleList(self._up(k, channels, deepest) for k in range(len(channels) - 1))
        last = 2 * channels[0] if len(channels) > 1 else deepest
        self.last = Convolution(dims, last, 1, conv_only=True, **HALF, **BACK)

    def _down(self, level: int, widths: Sequence[int]) -> nn.Module:
        seen, given = widths[level : level + 2]
        norm = None if level == 0 else "INSTANCE"
        return Convolution(self.dims, seen, given, **{"act": LEAK, "norm": norm, **HALF})

    def _up(self, k: int, channels: Sequence[int], deepest: int) -> nn.Module:
        """The k-th from below."""
        wide = deepest if k == 0 else 2 * channels[-k - 1]
        dropout = self.dropout if k < 2 else None
        return Convolution(self.dims, wide, channels[-k - 2], act="RELU", dropout=dropout, **HALF, **BACK)

    def forward(self, conditions: Tensor) -> Tensor:
        """(B, C, ...) to (B, 1, ...) units; sides are multiples of 2 to the number of levels."""
        x, seen = conditions, list[Tensor]()
        for layer in self.down:
            x = layer(x)
            seen.append(x)
        for block in self.bottom:
            x = torch.cat((block(x), seen[-1]), dim=1)
        for layer, skip in zip(self.up, reversed(seen[:-1]), strict=True):
            x = torch.cat((layer(x), skip), dim=1)
        made: Tensor = self.last(x)
        return made
