"""What a card says of a model of MedSyn. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from lesionbrush.systems.contract import DiffusionCard


class UNetShape(BaseModel):
    """What fixes the tensors of one of the two networks; see `network.MedSynConfig`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shown: int
    channels: tuple[int, ...]
    attention: tuple[bool, ...]
    blocks: int
    heads: int
    norm_groups: int
    fold: int
    text_width: int = 0
    pooled: int = 0


class ReleasedShape(BaseModel):
    """Of one of the two networks that the authors give out; see `released.network.ReleasedConfig`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int
    multiples: tuple[int, ...]
    heads: int
    text_width: int = 0
    tokens: int = 192
    enlarges_last: bool = True


class WordShape(BaseModel):
    """Of the encoder of words that is stored with the networks, and the words that it knows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int
    layers: int
    heads: int
    longest: int
    words: str = Field(
        description="in their order, a space before each: MONAI takes a text that begins with % for a macro"
    )

    @field_validator("words", mode="before")
    @classmethod
    def _joined(cls, words: str | Sequence[str]) -> str:
        return words if isinstance(words, str) else "".join(f" {word}" for word in words)


class MedSynCard(DiffusionCard):
    """low: makes chests of `low_side` voxels from a text; high: makes them finer, tile by tile."""

    temperature: float = Field(
        1.0, gt=0, le=1, description="of the noise that chests begin with: below 1 is calmer and less varied"
    )
    low: UNetShape | ReleasedShape
    high: UNetShape | ReleasedShape
    prediction: Literal["eps", "x0", "v"]
    data_spread: float = Field(1.0, gt=0, description="of the images that v is scaled for")
    low_side: Literal[32, 64] = Field(64, description="voxels a side that a text acts on")
    residual: bool = Field(
        False, description="the networks make what differs from the mean chest, and from what is coarser"
    )
    tile: int = Field(64, description="voxels a side of the fine tiles")
    words: WordShape | None = Field(
        None, description="null: the text is read by a BERT, from the folder that LESIONBRUSH_BERT names"
    )
    padded_tokens: int | None = Field(
        None, description="as many as a BERT is given, the last ones padding that is attended to; null: none"
    )
