"""What a card says of a model of semantic CT. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from lesionbrush.core.hu import CompressiveHU, HUWindow
from lesionbrush.systems.contract import DiffusionCard
from lesionbrush.systems.semantic.painting import check_names


class SemanticShape(BaseModel):
    """What fixes the tensors of the network, and how its output is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    conditioning: Literal["conditional", "mask_guided", "edge_guided"]
    channels: tuple[int, ...]
    attention: tuple[bool, ...]
    guide_channels: tuple[int, ...] = ()
    blocks: int
    heads: int
    norm_groups: int
    layout_channels: int = 1
    tissues: bool = False
    scale_shift: bool = True
    prediction: Literal["eps", "x0", "v"]
    variance: Literal["fixed_small", "fixed_large", "learned_range"] = "learned_range"
    data_spread: float = Field(1.0, gt=0, description="of the images that v is scaled for")


class SemanticCard(DiffusionCard):
    """The network, how HU become what it sees, and which classes it saw in training."""

    network: SemanticShape
    scale: HUWindow | CompressiveHU = Field(description="a CT window, or all HU compressed around a density")
    coarse_noise: float = Field(
        1.0, ge=0, le=1, description="share of coarse noise that sampling begins with; less is calmer"
    )
    class_hu: dict[str, float] = Field(
        default={}, description="mean HU of classes in training patients, which sampling begins to paint with"
    )
    painted_above: float | None = Field(
        None, gt=0, description="ratio of noise to signal, above which organs are painted; null: never"
    )
    classes: tuple[str, ...] = Field(description="that training cases had; another is answered as body")

    @field_validator("class_hu")
    @classmethod
    def _are_classes(cls, class_hu: dict[str, float]) -> dict[str, float]:
        check_names(class_hu)
        return class_hu
