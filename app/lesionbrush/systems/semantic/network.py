"""The U-Net of improved-diffusion (Nichol & Dhariwal 2021, arXiv:2102.09672), shown a layout in three ways.

As Zhuang et al. 2023 (Sec. 2, Fig. 2) have it. conditional: the layout is a further channel of the input.
mask_guided: a second encoder sees the layout, and what it has before each halving is joined to the main
branch, there and in the decoder. edge_guided: the layout is a channel, and the second encoder sees its edges.

MONAI's `DiffusionModelUNet` only adds the embedding of the noise level; scale-shift norm, which is on by
default in improved-diffusion, is not in it, so the blocks are our own (`blocks`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from lesionbrush.systems.semantic.blocks import (
    EmbeddedBlock,
    UNetStep,
    silent_conv,
    sinusoids,
)
from lesionbrush.systems.semantic.classes import BODY, CLASSES

Conditioning = Literal["conditional", "mask_guided", "edge_guided"]
CONDITIONINGS: tuple[Conditioning, ...] = get_args(Conditioning)
Prediction = Literal["eps", "x0", "v"]
Variance = Literal["fixed_small", "fixed_large", "learned_range"]


@dataclass(frozen=True)
class SemanticUNetConfig:
    """What fixes the shapes of the network's tensors.

    channels: widths, one a level, each level half as fine as the one before. guide_channels: of the second
    encoder, one for each halving; empty: those of the main branch. layout_channels: 1, or one a class and one
    for outside. tissues: whether the classes go on after the body, with fat, muscle, bone and air.
    scale_shift: whether the embedding of the level scales and shifts, or is only added. variance: with
    "learned_range" a second channel says where between its bounds the log variance of a step lies.
    """

    conditioning: Conditioning = "conditional"
    channels: tuple[int, ...] = (16, 32, 64, 128, 160)
    attention: tuple[bool, ...] = (False, False, False, False, True)
    guide_channels: tuple[int, ...] = ()
    blocks: int = 1
    heads: int = 4
    norm_groups: int = 8
    layout_channels: int = 1
    tissues: bool = False
    scale_shift: bool = True
    dropout: float = 0.0
    prediction: Prediction = "v"
    variance: Variance = "learned_range"

    @property
    def multiple(self) -> int:
        """Each side of a slice must be a multiple of this."""
        return int(2 ** (len(self.channels) - 1))

    @property
    def classes(self) -> int:
        """The number of the last one."""
        return len(CLASSES) - 1 if self.tissues else BODY

    @property
    def one_hot(self) -> bool:
        return self.layout_channels > 1

    @property
    def in_channels(self) -> int:
        """Of the main branch: the noisy slice, and the layout unless the second encoder alone sees it."""
        return 1 if self.conditioning == "mask_guided" else 1 + self.layout_channels

    @property
    def guide_inputs(self) -> int:
        """Of the second encoder; 0 where there is none."""
        return {"conditional": 0, "mask_guided": self.layout_channels, "edge_guided": 1}[self.conditioning]

    @property
    def condition_channels(self) -> int:
        """Of what is shown beside the noisy slice: the layout, and for edge_guided the edges behind it."""
        return self.layout_channels + (self.conditioning == "edge_guided")

    @property
    def joined(self) -> tuple[int, ...]:
        """How many channels the second encoder adds at each level; none at the last, which is not halved."""
        if not self.guide_inputs:
            return (0,) * len(self.channels)
        return (*(self.guide_channels or self.channels[:-1]), 0)

    @property
    def out_channels(self) -> int:
        return 2 if self.variance == "learned_range" else 1


class SemanticUNet(nn.Module):
    """Says of noisy slices what the recipe made it say: eps, x_0 or v, and the variance of the step."""

    def __init__(self, config: SemanticUNetConfig) -> None:
        super().__init__()
        self.config = config
        widths, told = config.channels, 4 * config.channels[0]
        self.level = nn.Sequential(nn.Linear(widths[0], told), nn.SiLU(), nn.Linear(told, told))
        self.guide = GuideEncoder(config) if config.guide_inputs else None
        self.first = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        came = (widths[0], *widths[:-1])
        self.encoder = nn.ModuleList(
            nn.ModuleList(self._step(a, b, level) for a, b in pairwise((before, *[width] * config.blocks)))
            for level, (before, width) in enumerate(zip(came, widths, strict=True))
        )
        self.down = nn.ModuleList(
            nn.Conv2d(width + more, width, 3, stride=2, padding=1)
            for width, more in zip(widths[:-1], config.joined[:-1], strict=True)
        )
        self.middle = nn.ModuleList(
            UNetStep(widths[-1], widths[-1], told, attends, config) for attends in (True, False)
        )
        self.decoder, self.up = self._make_decoder()
        self.last = nn.Sequential(
            nn.GroupNorm(config.norm_groups, widths[0]),
            nn.SiLU(),
            silent_conv(nn.Conv2d(widths[0], config.out_channels, 3, padding=1)),
        )

    def _step(self, came: int, width: int, level: int) -> UNetStep:
        attends, told = self.config.attention[level], 4 * self.config.channels[0]
        return UNetStep(came, width, told, attends, self.config)

    def _make_decoder(self) -> tuple[nn.ModuleList, nn.ModuleList]:
        """Both from the coarsest level to the finest; each step takes one of what the encoder left."""
        widths, left = self.config.channels, self._skip_widths()
        decoder, up, came = nn.ModuleList(), nn.ModuleList(), widths[-1]
        for level in reversed(range(len(widths))):
            steps = nn.ModuleList()
            for _ in range(self.config.blocks + 1):
                steps.append(self._step(came + left.pop(), widths[level], level))
                came = widths[level]
            decoder.append(steps)
            if level:
                up.append(nn.Conv2d(came, came, 3, padding=1))
        return decoder, up

    def _skip_widths(self) -> list[int]:
        """Of all that the encoder leaves for the decoder, in its own order."""
        found = [self.config.channels[0]]
        for level, width in enumerate(self.config.channels):
            found += [found[-1]] if level else []  # the halved map, as wide as the level before
            found += [width] * self.config.blocks
        return self._with_guide(found)

    def _with_guide(self, plain: list[int]) -> list[int]:
        """The last map of each level carries what the second encoder has there."""
        blocks, found = self.config.blocks, list(plain)
        for level, more in enumerate(self.config.joined):
            found[blocks + level * (blocks + 1)] += more
        return found

    def forward(self, noisy: Tensor, timesteps: Tensor, conditions: Tensor) -> Tensor:
        """(B, out_channels, Y, X), float32.

        noisy: (B, 1, Y, X); timesteps: (B,); conditions: (B, condition_channels, Y, X).
        """
        told = self.level(sinusoids(timesteps, self.config.channels[0]))
        main, guides = self._see(noisy, conditions)
        h = self.first(main)
        left = [h]
        for level, steps in enumerate(self.encoder):
            if level:
                h = self.down[level - 1](h)
                left.append(h)
            for step in steps:  # type: ignore[attr-defined]
                h = step(h, told)
                left.append(h)
            if level < len(guides):
                h = left[-1] = torch.cat((h, guides[level]), dim=1)
        for step in self.middle:
            h = step(h, told)
        for number, steps in enumerate(self.decoder):
            for step in steps:  # type: ignore[attr-defined]
                h = step(torch.cat((h, left.pop()), dim=1), told)
            if number < len(self.up):
                h = self.up[number](nn.functional.interpolate(h, scale_factor=2.0, mode="nearest"))
        said: Tensor = self.last(h)
        return said.float()

    def _see(self, noisy: Tensor, conditions: Tensor) -> tuple[Tensor, list[Tensor]]:
        """What the main branch sees, and what the second encoder has at each halving."""
        if self.guide is None:
            return torch.cat((noisy, conditions), dim=1), []
        if self.config.conditioning == "mask_guided":
            return noisy, self.guide(conditions)
        layout = self.config.layout_channels
        return torch.cat((noisy, conditions[:, :layout]), dim=1), self.guide(conditions[:, layout:])


class GuideEncoder(nn.Module):
    """The second encoder: the first one's levels down to the last halving. A layout has no noise, so nobody
    tells it the level, and its blocks have no embedding."""

    def __init__(self, config: SemanticUNetConfig) -> None:
        super().__init__()
        widths = config.joined[:-1]
        self.first = nn.Conv2d(config.guide_inputs, widths[0], 3, padding=1)
        came = (widths[0], *widths[:-1])
        self.encoder = nn.ModuleList(
            nn.ModuleList(
                EmbeddedBlock(a, b, None, config) for a, b in pairwise((before, *[w] * config.blocks))
            )
            for before, w in zip(came, widths, strict=True)
        )
        self.down = nn.ModuleList(nn.Conv2d(w, w, 3, stride=2, padding=1) for w in widths[:-1])

    def forward(self, shown: Tensor) -> list[Tensor]:
        """(B, C, Y, X) to one map for each halving of the main branch, finest first."""
        h, maps = self.first(shown), []
        for level, blocks in enumerate(self.encoder):
            h = self.down[level - 1](h) if level else h
            for block in blocks:  # type: ignore[attr-defined]
                h = block(h, None)
            maps.append(h)
        return maps
