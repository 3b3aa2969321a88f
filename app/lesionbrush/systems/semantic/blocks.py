"""The parts of the U-Net: a residual block told the noise level, attention, and the level as sines."""

from __future__ import annotations

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LONGEST_PERIOD = 10_000.0


class BlockSizes(Protocol):
    """What the parts need to know of their network."""

    @property
    def norm_groups(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def scale_shift(self) -> bool: ...
    @property
    def dropout(self) -> float: ...


class EmbeddedBlock(nn.Module):
    """Two convolutions; between them the embedding of the level scales and shifts, or is added. Starts as the
    identity, or as a 1 x 1 convolution where the width changes. told: width of the embedding, None for a
    block that nobody tells anything."""

    def __init__(self, came: int, width: int, told: int | None, sizes: BlockSizes) -> None:
        super().__init__()
        self.width, self.scale_shift = width, sizes.scale_shift
        self.norm1 = nn.GroupNorm(sizes.norm_groups, came)
        self.conv1 = nn.Conv2d(came, width, 3, padding=1)
        self.tell = None if told is None else nn.Linear(told, width * (2 if sizes.scale_shift else 1))
        self.norm2 = nn.GroupNorm(sizes.norm_groups, width)
        self.dropout = nn.Dropout(sizes.dropout)
        self.conv2 = silent_conv(nn.Conv2d(width, width, 3, padding=1))
        self.shortcut = nn.Identity() if came == width else nn.Conv2d(came, width, 1)

    def forward(self, x: Tensor, told: Tensor | None) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        added: Tensor = self.conv2(self.dropout(F.silu(self._normalise(h, told))))
        return self.shortcut(x) + added

    def _normalise(self, h: Tensor, told: Tensor | None) -> Tensor:
        if self.tell is None or told is None:
            normal: Tensor = self.norm2(h)
            return normal
        said = self.tell(F.silu(told))
        if not self.scale_shift:
            added: Tensor = self.norm2(h + said[:, :, None, None])
            return added
        # parted before it gets its axes of space: the other way round OpenVINO crashes when it compiles
        scale, shift = said[:, : self.width, None, None], said[:, self.width :, None, None]
        scaled: Tensor = self.norm2(h) * (1 + scale) + shift
        return scaled


class HeadedAttention(nn.Module):
    """Every place of a slice looks at every other. Starts as the identity."""

    def __init__(self, width: int, sizes: BlockSizes) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.norm = nn.GroupNorm(sizes.norm_groups, width)
        self.ask = nn.Conv1d(width, 3 * width, 1)
        self.answer = silent_conv(nn.Conv1d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Y, X). A head's query, key and value stand side by side, as in improved-diffusion."""
        batch, width, rows, columns = x.shape
        flat = self.norm(x).reshape(batch, width, rows * columns)
        asked = self.ask(flat).reshape(batch, self.heads, 3, width // self.heads, rows * columns)
        query, key, value = (asked[:, :, part].transpose(2, 3) for part in range(3))
        seen = F.scaled_dot_product_attention(query, key, value)
        told: Tensor = self.answer(seen.transpose(2, 3).reshape(batch, width, rows * columns))
        return x + told.reshape(batch, width, rows, columns)


class UNetStep(nn.Module):
    """A residual block, and attention behind it where the slice is small enough."""

    def __init__(self, came: int, width: int, told: int, attends: bool, sizes: BlockSizes) -> None:
        super().__init__()
        self.block = EmbeddedBlock(came, width, told, sizes)
        self.attention = HeadedAttention(width, sizes) if attends else None

    def forward(self, h: Tensor, told: Tensor) -> Tensor:
        made: Tensor = self.block(h, told)
        return made if self.attention is None else self.attention(made)


def sinusoids(timesteps: Tensor, width: int) -> Tensor:
    """(B,) to (B, width): cosines, then sines, of t / 10000^(k / half), k = 0 ... half - 1."""
    half = width // 2
    k = torch.arange(half, dtype=torch.float32, device=timesteps.device)
    angle = timesteps.float()[:, None] * torch.exp(-math.log(LONGEST_PERIOD) * k / half)
    return torch.cat((angle.cos(), angle.sin()), dim=1)


def silent_conv(layer: nn.Conv2d | nn.Conv1d) -> nn.Conv2d | nn.Conv1d:
    """The layer with all parameters zero: what stands behind it starts as the identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
