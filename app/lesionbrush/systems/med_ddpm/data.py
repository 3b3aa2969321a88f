"""Training batches of Med-DDPM: bodies and tumours as those of soft tissue, with a hole and a class.

Arrays are (z, y, x) on the model's grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lesionbrush.core.hu import HUScale, ends_hu, unit_ends
from lesionbrush.systems.lesion_inpainting.soft_tissue.data import SCALE, SoftBatches


@dataclass(frozen=True)
class MaskedBatch:
    """Float32 (B, 1, Z, Y, X), image in units; content (B,): 1 tumour, -1 healthy, 0 not told; weight (B,).

    mask: 1 in the lesion; visible: 1 where the network sees the CT; scored: 1 in the hole, where there is
    truth that the scale can hold.
    """

    image: Tensor
    visible: Tensor
    mask: Tensor
    content: Tensor
    scored: Tensor
    weight: Tensor


class MaskedBatches:
    """What `source` draws, on another HU scale, told of the class in so many cases."""

    def __init__(self, source: SoftBatches, scale: HUScale, drop_fill: float) -> None:
        self.source, self.scale, self.drop_fill = source, scale, drop_fill

    @property
    def rng(self) -> np.random.Generator:
        return self.source.rng

    @rng.setter
    def rng(self, generator: np.random.Generator) -> None:
        self.source.rng = generator

    def draw(self) -> MaskedBatch:
        soft = self.source.draw()
        hu, (low, high) = SCALE.from_unit(soft.image), ends_hu(self.scale)
        image = self.scale.to_unit(hu).clamp(*unit_ends(self.scale))
        scored = soft.scored * ((hu >= low) & (hu <= high))
        told = torch.from_numpy(self.rng.random(len(hu)) >= self.drop_fill)
        content = torch.where(told, 2 * soft.told[:, 0] - 1, 0.0)
        return MaskedBatch(image, soft.visible, (soft.mask > 0.5).float(), content, scored, soft.weight)
