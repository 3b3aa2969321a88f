"""The two networks whose weights the authors of MedSyn give out, tensor by tensor as in their files.

U-Nets of convolutions within slices, each level followed by one over slices; a level has half the rows and
columns of the one before, and as many slices. Facts are of github.com/batmanlab/MedSyn, commit ed98d6c (CC
BY-NC 4.0: names, shapes and order of layers were read there, no line of it stands here).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lesionbrush.systems.medsyn.channels import CHANNELS

HEAD_WIDTH, NORM_GROUPS, FIRST_KERNEL = 32, 8, 7
ROUNDS = (1, 2, 3, 4)
"""Of attention at the bottom of the network that reads; all four have one attention within slices."""


@dataclass(frozen=True)
class ReleasedConfig:
    """What fixes the shapes of the network's tensors.

    width: channels of the first level; multiples: of it, one a level. text_width: of the tokens that it
    reads; 0: it reads none, and is shown what is coarser instead. tokens: how many it reads. enlarges_last:
    a level going up ends with enlarging, as in the released program for inference; else that comes after its
    first block, as in the one for training. No tensor shows which one weights are of.
    """

    width: int
    multiples: tuple[int, ...]
    heads: int
    text_width: int = 0
    tokens: int = 192
    enlarges_last: bool = True

    @property
    def widths(self) -> tuple[int, ...]:
        """Of the levels, from above to the bottom."""
        return tuple(self.width * multiple for multiple in self.multiples)

    @property
    def multiple(self) -> int:
        """Rows and columns must be multiples of this; of slices there may be any number."""
        return int(2 ** (len(self.multiples) - 1))


@dataclass(frozen=True)
class LayerNames:
    """What is called differently in the two networks: the layers at both ends, and in a level the number of
    its block over slices and of what changes its size."""

    first: str
    last: str
    across: str
    resize: str


READER = LayerNames("init_conv", "final_conv", "2", "3")
FINER = LayerNames("init_conv0", "final_conv0", "4", "5")


class ReleasedUNet(nn.Module):
    """Says what the four clean channels are, as `network.MedSynUNet` does."""

    def __init__(self, config: ReleasedConfig) -> None:
        super().__init__()
        self.config, reads = config, config.text_width > 0
        self.names = names = READER if reads else FINER
        width, time, bottom = config.width, 4 * config.width, config.widths[-1]
        inputs = len(CHANNELS) if reads else 2 * len(CHANNELS)
        self.add_module(names.first, nn.Conv3d(inputs, width, FIRST_KERNEL, padding=FIRST_KERNEL // 2))
        self.time_mlp = nn.Sequential(
            SineWaves(width), nn.Linear(width, time), nn.GELU(), nn.Linear(time, time)
        )
        if reads:
            self.null_cond_emb = nn.Parameter(torch.zeros(1, config.tokens, config.text_width))
        levels = list(zip((width, *config.widths), config.widths, strict=False))
        last = len(levels) - 1
        self.downs = nn.ModuleList(
            self._level(above, below, below, None if k == last else halving(below))
            for k, (above, below) in enumerate(levels)
        )
        self.ups = nn.ModuleList(
            self._level(2 * below, above, above, None if k == last else doubling(above))
            for k, (above, below) in enumerate(reversed(levels))
        )
        self.mid_block1 = TimedBlock(bottom, bottom, time)
        self.mid_block2 = TimedBlock(bottom, bottom, time)
        within = slice_attention(bottom, config.heads * HEAD_WIDTH)
        if reads:
            for number in ROUNDS:
                self.add_module(f"mid_spatial_attn{number}", WithinSlices(bottom, config.heads, within))
                reading = TextAttention(bottom, config.heads, config.text_width)
                self.add_module(f"mid_cross_attn{number}", reading)
                self.add_module(f"mid_temporal_attn{number}", TimedBlock(bottom, bottom, time, across=True))
        else:
            self.mid_spatial_attn = WithinSlices(bottom, config.heads, within)
            self.mid_temporal_conv = TimedBlock(bottom, bottom, time, across=True)
        end = nn.Sequential(TimedBlock(2 * width, width, 0), nn.Conv3d(width, len(CHANNELS), 1))
        self.add_module(names.last, end)

    def _level(self, inputs: int, width: int, out: int, resize: nn.Module | None) -> nn.ModuleDict:
        time = 4 * self.config.width
        level = {"0": TimedBlock(inputs, width, time), "1": TimedBlock(width, width, time)}
        level[self.names.across] = TimedBlock(out, out, time, across=True)
        return nn.ModuleDict({**level, self.names.resize: resize or nn.Identity()})

    def forward(self, image: Tensor, timesteps: Tensor, shown: Tensor, text: Tensor | None = None) -> Tensor:
        """image: (B, 4, Z, Y, X), noisy; timesteps: (B,), of 1000; shown: (B, 4, Z, Y, X), what is coarser,
        for the network that reads no text, and nothing to the other; text: (B, tokens, width), all zeros
        where there is none.

        Returns (B, 4, Z, Y, X). Rows run to the patient's left in their volumes, to the right in ours.
        """
        given = image if self.config.text_width else torch.cat((shown, image), dim=1)
        x = first = self.get_submodule(self.names.first)(given.flip(-1))
        time = self.time_mlp(timesteps)
        kept, across, resize = [], self.names.across, self.names.resize
        for level in self.downs:
            part = level.get_submodule
            x = part("1")(part("0")(x, time), time)
            kept.append(x)
            x = part(across)(part(resize)(x), time)
        x = self._bottom(self.mid_block1(x, time), time, text)
        x = self.mid_block2(x, time)
        for level in self.ups:
            part = level.get_submodule
            x = part("0")(torch.cat((x, kept.pop()), dim=1), time)
            if not self.config.enlarges_last:
                x = part(resize)(x)
            x = part(across)(part("1")(x, time), time)
            if self.config.enlarges_last:
                x = part(resize)(x)
        said: Tensor = self.get_submodule(self.names.last)(torch.cat((x, first), dim=1))
        return said.flip(-1)

    def _bottom(self, x: Tensor, time: Tensor, text: Tensor | None) -> Tensor:
        if not self.config.text_width:
            finer: Tensor = self.mid_temporal_conv(self.mid_spatial_attn(x), time)
            return finer
        tokens = self.null_cond_emb.expand(len(x), -1, -1)
        if text is not None:
            empty = (text == 0).flatten(1).all(dim=1)
            tokens = torch.where(empty[:, None, None], tokens, text)
        for number in ROUNDS:
            x = self.get_submodule(f"mid_spatial_attn{number}")(x)
            x = self.get_submodule(f"mid_cross_attn{number}")(x, tokens)
            x = self.get_submodule(f"mid_temporal_attn{number}")(x, time)
        return x


class SineWaves(nn.Module):
    """(B,) time steps to (B, width): sines, then cosines, of periods up to 10 000 (times 2 pi)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pairs = width // 2

    def forward(self, timesteps: Tensor) -> Tensor:
        steps = torch.arange(self.pairs, device=timesteps.device, dtype=torch.float32)
        angles = timesteps.float()[:, None] * torch.exp(steps * (-math.log(10_000) / (self.pairs - 1)))
        return torch.cat((angles.sin(), angles.cos()), dim=1)


class NormedConvolution(nn.Module):
    """Of 3 x 3 voxels within slices, or of 3 slices too."""

    def __init__(self, inputs: int, width: int, across: bool) -> None:
        super().__init__()
        deep = 3 if across else 1
        self.proj = nn.Conv3d(inputs, width, (deep, 3, 3), padding=(deep // 2, 1, 1))
        self.norm = nn.GroupNorm(NORM_GROUPS, width)

    def forward(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        x = self.norm(self.proj(x))
        if scale is not None and shift is not None:
            x = x * (1 + scale) + shift
        return F.silu(x)


class TimedBlock(nn.Module):
    """Two convolutions around which the input goes on; the time scales and shifts what is between them."""

    def __init__(self, inputs: int, width: int, time: int, across: bool = False) -> None:
        """time: width of what is told of the time; 0: nothing."""
        super().__init__()
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(time, 2 * width)) if time else None
        self.block1 = NormedConvolution(inputs, width, across)
        self.block2 = NormedConvolution(width, width, across)
        self.res_conv = nn.Identity() if inputs == width else nn.Conv3d(inputs, width, 1)

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        told = () if self.mlp is None else self.mlp(time)[..., None, None, None].chunk(2, dim=1)
        said: Tensor = self.block2(self.block1(x, *told)) + self.res_conv(x)
        return said


class VoxelNorm(nn.Module):
    """Of each voxel over its channels, with a scale and no shift."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(1, width, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        normed = F.layer_norm(x.movedim(1, -1), (x.shape[1],), self.gamma.flatten(), eps=1e-5)
        return normed.movedim(-1, 1)


class WithinSlices(nn.Module):
    """Each voxel of a slice attends to all of that slice. Modules are nested as theirs are."""

    def __init__(self, width: int, heads: int, within: nn.ModuleDict) -> None:
        """within: see `slice_attention`; it may be another's as well."""
        super().__init__()
        self.heads = heads
        self.fn = nn.ModuleDict({"norm": VoxelNorm(width), "fn": nn.ModuleDict({"fn": within})})

    def forward(self, x: Tensor) -> Tensor:
        part = self.fn.get_submodule
        voxels = part("norm")(x).movedim(1, -1).flatten(0, 1).flatten(1, 2)  # (B slices, voxels, C)
        asked = part("fn.fn.to_qkv")(voxels).unflatten(-1, (3, self.heads, HEAD_WIDTH))
        query, key, value = asked.permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(query, key, value)
        said: Tensor = part("fn.fn.to_out")(found.transpose(1, 2).flatten(2))
        return x + said.unflatten(1, x.shape[3:]).unflatten(0, (len(x), -1)).movedim(-1, 1)


class TextAttention(nn.Module):
    """Each voxel attends to the tokens, padding included: so were the released weights trained."""

    def __init__(self, width: int, heads: int, text_width: int) -> None:
        super().__init__()
        self.heads, inner = heads, heads * HEAD_WIDTH
        attention = {
            "to_q": nn.Conv2d(width, inner, 1, bias=False),
            "to_kv": nn.Linear(text_width, 2 * inner, bias=False),
            "to_out": nn.Conv2d(inner, width, 1),
        }
        self.fn = nn.ModuleDict({"norm": VoxelNorm(width), "fn": nn.ModuleDict(attention)})

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        part = self.fn.get_submodule
        asked = part("fn.to_q")(part("norm")(x).flatten(3)).flatten(2)
        query = asked.unflatten(1, (self.heads, HEAD_WIDTH)).transpose(2, 3)
        given = part("fn.to_kv")(tokens).unflatten(-1, (2, self.heads, HEAD_WIDTH))
        key, value = given.permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(query, key, value).transpose(2, 3).flatten(1, 2)
        said: Tensor = part("fn.to_out")(found.unflatten(2, (x.shape[2], -1)))
        return x + said.unflatten(3, x.shape[3:])


def slice_attention(width: int, inner: int) -> nn.ModuleDict:
    """The weights of an attention within slices."""
    asking, answering = nn.Linear(width, 3 * inner, bias=False), nn.Linear(inner, width, bias=False)
    return nn.ModuleDict({"to_qkv": asking, "to_out": answering})


def halving(width: int) -> nn.Module:
    """Of rows and columns."""
    return nn.Conv3d(width, width, (1, 4, 4), (1, 2, 2), (0, 1, 1))


def doubling(width: int) -> nn.Module:
    """Of rows and columns."""
    return nn.ConvTranspose3d(width, width, (1, 4, 4), (1, 2, 2), (0, 1, 1))
