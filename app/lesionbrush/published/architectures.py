"""Which published architectures we can check weights against, and turn into a state dict of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lesionbrush.systems.lung_ddpm.network import (
    LUNG_DDPM,
    LUNG_DDPM_PLUS,
    LungDDPMConfig,
    checkpoint_tensors,
    from_published,
)


@dataclass(frozen=True)
class Architecture:
    """A network of Lung-DDPM's kind, as published."""

    config: LungDDPMConfig

    def converted(self, checkpoint: Any) -> Mapping[str, Tensor]:
        """From what a published file holds to a state dict of ours; WeightsError names what does not fit."""
        return from_published(checkpoint_tensors(checkpoint), self.config)


ARCHITECTURES = {"lung_ddpm": Architecture(LUNG_DDPM), "lung_ddpm_plus": Architecture(LUNG_DDPM_PLUS)}
