"""What both baselines learn from: the batches of the diffusion models, as what a GAN is shown and judged by.

Arrays have the axes of those batches: (Y, X) for slices, (Z, Y, X) for cubes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from lesionbrush.systems.med_ddpm.conditions import join_conditions
from lesionbrush.systems.med_ddpm.data import MaskedBatch
from lesionbrush.systems.palette.data import PaletteBatch
from lesionbrush.systems.palette.fills import FILLS
from lesionbrush.training.loop import BatchT, Draws

SLICE_CHANNELS, CUBE_CHANNELS = 2 + len(FILLS), 3


@dataclass(frozen=True, eq=False)
class FillExample:
    """Float32. image: (B, 1, ...) in units; conditions: (B, C, ...), what the generator is shown; scored:
    (B, 1, ...), 1 in the hole where there is truth."""

    image: Tensor
    conditions: Tensor
    scored: Tensor


class FillExamples(Protocol):
    """Examples without end."""

    def draw(self) -> FillExample: ...


class Converted(Generic[BatchT]):
    """Batches of a diffusion model, each made an example."""

    def __init__(self, batches: Draws[BatchT], convert: Callable[[BatchT], FillExample]) -> None:
        self.batches, self.convert = batches, convert

    def draw(self) -> FillExample:
        return self.convert(self.batches.draw())


def slice_conditions(image: Tensor, hole: Tensor, fill: Tensor) -> Tensor:
    """(B, 2 + classes, Y, X): what is known, the hole, and in it the class; all 0 for one left open.

    image: (B, 1, Y, X) units; hole: like it, 0 or 1; fill: (B,) int64, 0 for open.
    """
    named = F.one_hot(fill, len(FILLS) + 1)[:, 1:].to(image)
    return torch.cat((image * (1 - hole), hole, named[:, :, None, None] * hole), dim=1)


def of_slices(batch: PaletteBatch) -> FillExample:
    conditions = slice_conditions(batch.image, batch.hole, batch.fill)
    return FillExample(batch.image, conditions, batch.scored)


def of_cubes(batch: MaskedBatch) -> FillExample:
    conditions = join_conditions(batch.image, batch.visible, batch.mask, batch.content)
    return FillExample(batch.image, conditions, batch.scored)
