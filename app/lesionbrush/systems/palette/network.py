"""The U-Net of Palette (Saharia et al. 2022, arXiv:2111.05826), small: a slice with a hole, and a level.

What Palette takes from its ancestors: residual blocks whose second normalisation is scaled and shifted by the
embedding of the noise level (Dhariwal & Nichol 2021, arXiv:2105.05233), attention where the slice is small,
the condition as further channels of the input (Saharia et al. 2021, arXiv:2104.07636). The class of the fill
is ours: it is added to the embedding of the level.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lesionbrush.systems.palette.fills import FILLS

LevelScale = Literal["gamma", "log_snr"]


@dataclass(frozen=True)
class PaletteUNetConfig:
    """What fixes the shapes of the network's tensors, and how it is told the noise level.

    channels: widths, one a level, each level half as fine as the one before. level: on which scale the noise
    level is embedded: gamma itself as in Palette, or its log-SNR, which resolves low noise too. shows_hole:
    whether a channel says where the hole is; Palette leaves that to the eye. classes: fills that it can be
    told, 0 for none.
    """

    channels: tuple[int, ...] = (24, 48, 96, 160, 192)
    attention: tuple[bool, ...] = (False, False, False, False, True)
    blocks: int = 1
    norm_groups: int = 8
    head_channels: int = 32
    dropout: float = 0.2
    level: LevelScale = "log_snr"
    shows_hole: bool = True
    classes: int = len(FILLS)

    @property
    def multiple(self) -> int:
        """Each side of a slice must be a multiple of this."""
        return int(2 ** (len(self.channels) - 1))

    @property
    def in_channels(self) -> int:
        """The noisy slice, the masked one, and where the hole is."""
        return 3 if self.shows_hole else 2


class PaletteUNet(nn.Module):
    """Says of slices with noise in their hole what the recipe made it say: eps, x_0 or v."""

    def __init__(self, config: PaletteUNetConfig) -> None:
        super().__init__()
        self.config = config
        widths, embedding = config.channels, 4 * config.channels[0]
        self.level_embedding = nn.Sequential(
            nn.Linear(2 * FREQUENCIES, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        self.fill_embedding = nn.Embedding(config.classes + 1, embedding)
        nn.init.normal_(self.fill_embedding.weight, std=0.02)
        self.first = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        ways = (widths[0], *widths[:-1])
        self.encoder = nn.ModuleList(
            Stage(came, width, attends, config)
            for came, width, attends in zip(ways, widths, config.attention, strict=True)
        )
        self.down = nn.ModuleList(nn.Conv2d(w, w, 3, stride=2, padding=1) for w in widths[:-1])
        self.middle = Stage(widths[-1], widths[-1], attends=True, config=config)
        self.up = nn.ModuleList(nn.Conv2d(high, low, 3, padding=1) for low, high in pairwise(widths))
        self.decoder = nn.ModuleList(
            Stage(2 * width, width, attends, config)
            for width, attends in zip(widths, config.attention, strict=True)
        )
        self.last = nn.Sequential(
            nn.GroupNorm(config.norm_groups, widths[0]),
            nn.SiLU(),
            silent(nn.Conv2d(widths[0], 1, 3, padding=1)),
        )

    def forward(self, noisy: Tensor, gamma: Tensor, conditions: Tensor, fill: Tensor) -> Tensor:
        """(B, 1, Y, X), float32.

        noisy: (B, 1, Y, X), clean outside the hole. gamma: (B,), the variance of the signal in the hole, 0 to
        1. conditions: (B, 1 or 2, Y, X): the slice with noise in its hole, and 1 in the hole. fill: (B,)
        int64, `OPEN` or the number of a class.
        """
        level = fourier_of(gamma, self.config.level)
        told = F.silu(self.level_embedding(level) + self.fill_embedding(fill))
        h = self.first(torch.cat((noisy, conditions), dim=1))
        skips = []
        for level_number, stage in enumerate(self.encoder):
            h = self.down[level_number - 1](h) if level_number else h
            h = stage(h, told)
            skips.append(h)
        h = self.middle(h, told)
        for level_number in reversed(range(len(skips))):
            h = self.decoder[level_number](torch.cat((h, skips[level_number]), dim=1), told)
            if level_number:
                h = F.interpolate(self.up[level_number - 1](h), scale_factor=2.0, mode="nearest")
        said: Tensor = self.last(h)
        return said.float()


class Stage(nn.Module):
    """Some residual blocks, each with attention behind it where the slice is small enough."""

    def __init__(self, came: int, width: int, attends: bool, config: PaletteUNetConfig) -> None:
        super().__init__()
        widths = (came, *[width] * config.blocks)
        self.blocks = nn.ModuleList(ScaleShiftBlock(a, b, config) for a, b in pairwise(widths))
        self.attention = nn.ModuleList(SelfAttention(width, config) for _ in self.blocks if attends)

    def forward(self, h: Tensor, told: Tensor) -> Tensor:
        for number, block in enumerate(self.blocks):
            h = block(h, told)
            h = self.attention[number](h) if len(self.attention) else h
        return h


class ScaleShiftBlock(nn.Module):
    """Two convolutions; the embedding scales and shifts between them. Starts as the identity, or as a 1 x 1
    convolution where the width changes."""

    def __init__(self, came: int, width: int, config: PaletteUNetConfig) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(config.norm_groups, came)
        self.norm2 = nn.GroupNorm(config.norm_groups, width)
        self.conv1 = nn.Conv2d(came, width, 3, padding=1)
        self.conv2 = silent(nn.Conv2d(width, width, 3, padding=1))
        self.modulation = nn.Linear(4 * config.channels[0], 2 * width)
        self.dropout = nn.Dropout(config.dropout)
        self.shortcut = nn.Identity() if came == width else nn.Conv2d(came, width, 1)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        said, width = self.modulation(told), self.conv1.out_channels
        # parted before it gets its axes of space: the other way round OpenVINO crashes when it compiles
        scale, shift = said[:, :width, None, None], said[:, width:, None, None]
        h = self.conv1(F.silu(self.norm1(x)))
        h = F.silu(self.norm2(h) * (1 + scale) + shift)
        added: Tensor = self.conv2(self.dropout(h))
        return self.shortcut(x) + added


class SelfAttention(nn.Module):
    """Every place of a slice looks at every other; `head_channels` a head. Starts as the identity."""

    def __init__(self, width: int, config: PaletteUNetConfig) -> None:
        super().__init__()
        self.heads = width // config.head_channels
        self.norm = nn.GroupNorm(config.norm_groups, width)
        self.ask = nn.Conv2d(width, 3 * width, 1)
        self.answer = silent(nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        batch, width, rows, columns = x.shape
        asked = self.ask(self.norm(x)).reshape(batch, 3, self.heads, width // self.heads, rows * columns)
        query, key, value = (asked[:, part].transpose(2, 3) for part in range(3))
        seen = F.scaled_dot_product_attention(query, key, value)
        told: Tensor = self.answer(seen.transpose(2, 3).reshape(batch, width, rows, columns))
        return x + told


FREQUENCIES = 16
SLOWEST, FASTEST = {"gamma": 1.0, "log_snr": 0.25}, {"gamma": 1000.0, "log_snr": 8.0}
"""Radians per unit of the scale."""


def fourier_of(gamma: Tensor, scale: LevelScale) -> Tensor:
    """(B,) noise levels to (B, 2 x 16) sines and cosines, from slow to fast.

    The scale is gamma itself, or log(alpha / sigma) with alpha^2 = gamma.
    """
    level = gamma.float()
    if scale == "log_snr":
        level = 0.5 * torch.log(level / (1 - level))
    ends = (math.log(SLOWEST[scale]), math.log(FASTEST[scale]))
    angle = level[:, None] * torch.exp(torch.linspace(*ends, FREQUENCIES, device=gamma.device))
    return torch.cat((angle.sin(), angle.cos()), dim=1)


def silent(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with all parameters zero: what stands behind it starts as the identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
