"""The networks of MedSyn: convolutions, attention at the bottom alone (Sec. IV.E of the paper).

Both are MONAI's `DiffusionModelUNet` on blocks of voxels: a patch of `fold` voxels a side becomes channels
before it and voxels again behind it, so that a network of few parameters sees 64³ at the cost of 32³. With
fold 1 it is the plain network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from monai.networks.nets import DiffusionModelUNet
from torch import Tensor, nn

from lesionbrush.systems.medsyn.channels import CHANNELS
from lesionbrush.systems.medsyn.expected import Expectation
from lesionbrush.systems.medsyn.released.network import ReleasedConfig, ReleasedUNet
from lesionbrush.systems.medsyn.text.encoder import EncoderSizes, WordEncoder
from lesionbrush.systems.medsyn.text.vocabulary import Vocabulary


@dataclass(frozen=True)
class MedSynConfig:
    """What fixes the shapes of the network's tensors.

    shown: channels beside the four noisy ones. text_width: of the tokens it attends to; 0: it reads none.
    pooled: width of what a text as a whole says to every block, as the time step does; 0: nothing.
    """

    shown: int
    channels: tuple[int, ...]
    attention: tuple[bool, ...]
    blocks: int = 1
    heads: int = 4
    norm_groups: int = 8
    fold: int = 1
    text_width: int = 0
    pooled: int = 0

    @property
    def multiple(self) -> int:
        """Each spatial side must be a multiple of this."""
        return int(self.fold * 2 ** (len(self.channels) - 1))


class MedSynUNet(nn.Module):
    """Says what the four clean channels are."""

    def __init__(self, config: MedSynConfig) -> None:
        super().__init__()
        self.config = config
        folded = config.fold**3
        self.unet = DiffusionModelUNet(
            spatial_dims=3,
            in_channels=(len(CHANNELS) + config.shown) * folded,
            out_channels=len(CHANNELS) * folded,
            num_res_blocks=config.blocks,
            channels=config.channels,
            attention_levels=config.attention,
            norm_num_groups=config.norm_groups,
            num_head_channels=[width // config.heads for width in config.channels],
            with_conditioning=config.text_width > 0,
            cross_attention_dim=config.text_width or None,
            num_class_embeds=1 if config.pooled else None,
        )
        if config.pooled:  # where MONAI has a class, whose embedding is added to that of the time step
            whole = PooledText(config.text_width, config.pooled, 4 * config.channels[0])
            self.unet.add_module("class_embedding", whole)

    def forward(self, image: Tensor, timesteps: Tensor, shown: Tensor, text: Tensor | None = None) -> Tensor:
        """image: (B, 4, Z, Y, X), noisy; timesteps: (B,); shown: (B, S, Z, Y, X); text: (B, tokens, width),
        zeros behind what is said.

        Returns (B, 4, Z, Y, X).
        """
        text = None if text is None else repeat_tokens(text)
        whole = text if self.config.pooled else None
        given = fold(torch.cat((image, shown), dim=1), self.config.fold)
        given = given.contiguous(memory_format=torch.channels_last_3d)
        return unfold(self.unet(given, timesteps, context=text, class_labels=whole), self.config.fold)


class PooledText(nn.Module):
    """A text as one vector: its first token, which stands for the whole, and what is most in all of them.

    Not in the paper: attention at the bottom alone took no notice of a text in thousands of steps.
    """

    def __init__(self, width: int, inner: int, out: int) -> None:
        super().__init__()
        self.token = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, inner), nn.GELU())
        self.whole = nn.Sequential(nn.Linear(inner + width, out), nn.SiLU(), nn.Linear(out, out))

    def forward(self, text: Tensor) -> Tensor:
        """(B, tokens, width), no padding, to (B, out)."""
        pooled: Tensor = self.whole(torch.cat((text[:, 0], self.token(text).amax(dim=1)), dim=1))
        return pooled


def make_network(config: MedSynConfig | ReleasedConfig) -> MedSynUNet | ReleasedUNet:
    return MedSynUNet(config) if isinstance(config, MedSynConfig) else ReleasedUNet(config)


class MedSynUNets(nn.Module):
    """Both networks, the frozen encoder of the text and what is expected, whose weights are in one file.

    encoder: None where it is one of somebody else's, which is not stored with them. expectation: None where
    nothing is expected: then none is stored either.
    """

    atlas: Tensor
    coarse_spread: Tensor
    fine_spread: Tensor
    reader: Tensor
    effects: Tensor

    def __init__(
        self,
        low: MedSynConfig | ReleasedConfig,
        high: MedSynConfig | ReleasedConfig,
        encoder: WordEncoder | None,
        expectation: Expectation | None = None,
    ) -> None:
        super().__init__()
        self.low, self.high, self.encoder = make_network(low), make_network(high), encoder
        self.expects = expectation is not None
        if expectation is not None:
            self.register_buffer("atlas", expectation.atlas[None])  # as an image: may lie channels last
            self.register_buffer("coarse_spread", expectation.coarse)
            self.register_buffer("fine_spread", expectation.fine)
            self.register_buffer("reader", expectation.reader)
            self.register_buffer("effects", expectation.effects)

    @property
    def expectation(self) -> Expectation | None:
        if not self.expects:
            return None
        return Expectation(self.atlas[0], self.coarse_spread, self.fine_spread, self.reader, self.effects)


@dataclass(frozen=True)
class NetworkParts:
    """What a card says of the networks, in plain values: see `card.MedSynCard`."""

    low: Mapping[str, Any]
    high: Mapping[str, Any]
    words: Mapping[str, Any] | None
    low_side: int
    residual: bool


class StoredUNets(MedSynUNets):
    """The networks of a card, to be loaded; called, the one that makes whole chests."""

    def __init__(self, config: NetworkParts) -> None:
        low, high = _config(config.low), _config(config.high)
        expectation = Expectation.none(config.low_side, low.text_width) if config.residual else None
        super().__init__(low, high, _words(config.words), expectation)

    def forward(self, image: Tensor, timesteps: Tensor, shown: Tensor, text: Tensor) -> Tensor:
        """See `MedSynUNet.forward`."""
        made: Tensor = self.low(image, timesteps, shown, text)
        return made


def _config(shape: Mapping[str, Any]) -> MedSynConfig | ReleasedConfig:
    """Ours is told apart by its blocks of voxels."""
    return MedSynConfig(**shape) if "fold" in shape else ReleasedConfig(**shape)


def _words(words: Mapping[str, Any] | None) -> WordEncoder | None:
    if words is None:
        return None
    sizes = {name: value for name, value in words.items() if name != "words"}
    return WordEncoder(Vocabulary(tuple(words["words"].split())), EncoderSizes(**sizes))


def repeat_tokens(text: Tensor) -> Tensor:
    """(B, tokens, width), zeros behind what is said, to what is said again and again: attention, which knows
    of no padding here, would spend itself on the zeros. A text of zeros alone stays one."""
    said = text.abs().sum(dim=2) > 0
    lengths = said.sum(dim=1, keepdim=True).clamp(min=1)
    places = torch.arange(text.shape[1], device=text.device) % lengths
    return text.gather(1, places[..., None].expand_as(text))


def fold(image: Tensor, size: int) -> Tensor:
    """(B, C, Z, Y, X) to (B, C size³, Z / size, Y / size, X / size): blocks of voxels as channels."""
    if size == 1:
        return image
    batch, channels, *sides = image.shape
    z, y, x = (side // size for side in sides)
    blocks = image.reshape(batch, channels, z, size, y, size, x, size)
    return blocks.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(batch, channels * size**3, z, y, x)


def unfold(image: Tensor, size: int) -> Tensor:
    """The inverse of `fold`."""
    if size == 1:
        return image
    batch, folded, z, y, x = image.shape
    blocks = image.reshape(batch, folded // size**3, size, size, size, z, y, x)
    return blocks.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(batch, -1, z * size, y * size, x * size)
