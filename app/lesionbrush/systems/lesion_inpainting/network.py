"""The U-Net of the lesion inpainting system.

Three choices make it small and independent of the size of the ROI it is given:
a 2x pixel-unshuffle stem (an eighth of the positions, eight times the channels), normalisation over the
channels of each voxel alone (so what is predicted at a voxel depends on its surroundings, never on how
large a box was cut around it: tiles agree where they overlap), and a head at full resolution that sees
the noisy image again, so that fine noise need not travel through the stem.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class LesionUNetConfig:
    """Everything that fixes the shape of the network's tensors."""

    attributes: int
    channels: tuple[int, ...] = (48, 96, 160)
    blocks: int = 2
    head_channels: int = 16
    prior_spread: float = 0.05
    """Expected spread of x_0 around the network's guess, in units of the image: see `LesionUNet.forward`."""
    conditions: int = 3
    """Channels beside x_t: visible context, where it is visible, the lesion mask, and what else is given."""

    @property
    def image_channels(self) -> int:
        return 1 + self.conditions

    @property
    def multiple(self) -> int:
        """Each spatial side must be a multiple of this."""
        return int(2 ** len(self.channels))


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each voxel (Ba et al. 2016, arXiv:1607.06450), no offset."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # else a GPU leaves bfloat16 for it
            normed = F.layer_norm(x.movedim(1, -1), self.weight.shape, self.weight.to(x.dtype))
        return normed.movedim(-1, 1)


class ResBlock(nn.Module):
    """Two convolutions with a scale and shift from the embedding; starts as the identity."""

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = ChannelNorm(channels), ChannelNorm(channels)
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1)
        self.conv2 = zero(nn.Conv3d(channels, channels, 3, padding=1))
        self.modulation = zero(nn.Linear(embedding, 2 * channels))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.modulation(embedding)[:, :, None, None, None].chunk(2, dim=1)
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift))
        return x + h


class LesionUNet(nn.Module):
    """Predicts the clean image from a noisy one, its visible surroundings, a mask and attributes."""

    def __init__(self, config: LesionUNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.channels
        embedding = 4 * widths[0]
        self.level_embedding = mlp(2 * _FREQUENCIES, embedding)
        self.attribute_embedding = mlp(2 * config.attributes, embedding)
        self.stem = nn.Conv3d(8 * config.image_channels, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(stage(width, embedding, config.blocks) for width in widths)
        self.decoder = nn.ModuleList(stage(width, embedding, config.blocks) for width in widths[:-1])
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList(nn.Conv3d(low, high, 2, stride=2) for low, high in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose3d(high, low, 2, stride=2) for low, high in pairs)
        self.to_head = nn.Conv3d(widths[0], 8 * config.head_channels, 1)
        self.head_in = nn.Conv3d(
            config.head_channels + config.image_channels, config.head_channels, 3, padding=1
        )
        self.head_out = zero(nn.Conv3d(config.head_channels, 1, 3, padding=1))

    def forward(
        self, x: Tensor, alpha: Tensor, sigma: Tensor, conditions: Tensor, attributes: Tensor
    ) -> Tensor:
        """Estimate of x_0, float32, (B, 1, Z, Y, X).

        x:          (B, 1, Z, Y, X) = alpha x_0 + sigma eps
        alpha, sigma: (B,)
        conditions: (B, C, Z, Y, X): visible context (0 where unknown), visibility, lesion mask, and the rest
        attributes: (B, 2 A): values, then 1 where given and 0 where left open

        The network's own output is read as a guess m of x_0 with spread s = `prior_spread`; combined with
        the noisy image it gives the posterior mean of a Gaussian, (s^2 x/alpha + r^2 m) / (s^2 + r^2) with
        r = sigma/alpha. Where there is much noise that is m, where there is little it is the image itself.
        """
        guess = self.guess(x, alpha, sigma, conditions, attributes).float()
        ratio = (sigma / alpha).float()[:, None, None, None, None]
        trust = ratio**2 / (ratio**2 + self.config.prior_spread**2)
        noisy = x.float() / alpha.float()[:, None, None, None, None]
        return guess + (1 - trust) * (noisy - guess)

    def guess(
        self, x: Tensor, alpha: Tensor, sigma: Tensor, conditions: Tensor, attributes: Tensor
    ) -> Tensor:
        """The network proper: (B, 1, Z, Y, X), without the shortcut from the noisy image."""
        embedding = self.level_embedding(fourier(torch.log(alpha / sigma)))
        embedding = F.silu(embedding + self.attribute_embedding(attributes))
        image = torch.cat((x, conditions), dim=1).contiguous(memory_format=torch.channels_last_3d)
        h = self.stem(pixel_unshuffle(image))
        skips = []
        for level, blocks in enumerate(self.encoder):
            h = self.down[level - 1](h) if level else h
            h = run(blocks, h, embedding)
            skips.append(h)
        for level in reversed(range(len(self.decoder))):
            h = run(self.decoder[level], skips[level] + self.up[level](h), embedding)
        fine = torch.cat((pixel_shuffle(self.to_head(h)), image.to(h.dtype)), dim=1)
        fine = fine.contiguous(memory_format=torch.channels_last_3d)
        return self.head_out(F.silu(self.head_in(fine)))


_FREQUENCIES = 16


def fourier(level: Tensor) -> Tensor:
    """(B,) log(alpha/sigma) to (B, 2 x 16) sines and cosines, from slow to fast."""
    frequencies = torch.exp(torch.linspace(math.log(0.25), math.log(8.0), _FREQUENCIES, device=level.device))
    angle = level.float()[:, None] * frequencies
    return torch.cat((angle.sin(), angle.cos()), dim=1)


def mlp(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.SiLU(), nn.Linear(outputs, outputs))


def stage(channels: int, embedding: int, blocks: int) -> nn.ModuleList:
    return nn.ModuleList(ResBlock(channels, embedding) for _ in range(blocks))


def run(blocks: nn.Module, h: Tensor, embedding: Tensor) -> Tensor:
    for block in blocks.children():
        h = block(h, embedding)
    return h


def zero(layer: nn.Conv3d | nn.Linear) -> nn.Conv3d | nn.Linear:
    """The layer with all parameters zero: the residual branch behind it starts silent."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def pixel_unshuffle(x: Tensor) -> Tensor:
    """(B, C, Z, Y, X) to (B, 8 C, Z/2, Y/2, X/2): each 2 x 2 x 2 cube becomes channels."""
    b, c, z, y, w = x.shape
    cubes = x.reshape(b, c, z // 2, 2, y // 2, 2, w // 2, 2).permute(0, 2, 4, 6, 1, 3, 5, 7)
    return cubes.reshape(b, z // 2, y // 2, w // 2, 8 * c).movedim(-1, 1)


def pixel_shuffle(x: Tensor) -> Tensor:
    """The inverse of `pixel_unshuffle`."""
    b, c, z, y, w = x.shape
    cubes = x.reshape(b, c // 8, 2, 2, 2, z, y, w).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return cubes.reshape(b, c // 8, 2 * z, 2 * y, 2 * w)
