"""Which published architectures we can check weights against, and turn into a state dict of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from lesionbrush.networks.lung_ddpm import (
    LUNG_DDPM,
    LUNG_DDPM_PLUS,
    LungDDPMConfig,
    checkpoint_tensors,
    from_published,
)

Converter = Callable[[Any], Mapping[str, Tensor]]
"""From what a published file holds to a state dict of ours; WeightsError says by name what does not fit."""


def _lung_ddpm(config: LungDDPMConfig) -> Converter:
    return lambda checkpoint: from_published(checkpoint_tensors(checkpoint), config)


ARCHITECTURES: dict[str, Converter] = {
    "lung_ddpm": _lung_ddpm(LUNG_DDPM),
    "lung_ddpm_plus": _lung_ddpm(LUNG_DDPM_PLUS),
}
