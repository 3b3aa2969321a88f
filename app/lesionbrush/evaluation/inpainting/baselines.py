"""The two baselines as data: Pix2Pix on slices, Vox2Vox on cubes, small enough for a CPU.

Both are of their papers but for their sizes, the class that they are told, the norm of each image, and the
loss, which is of the hole alone. Vox2Vox segments; here its generalised Dice is L1, as CT is continuous.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from torch import nn

from lesionbrush.core.hu import CompressiveHU
from lesionbrush.evaluation.inpainting.examples import (
    CUBE_CHANNELS,
    SLICE_CHANNELS,
    Converted,
    FillExamples,
    of_cubes,
    of_slices,
)
from lesionbrush.evaluation.inpainting.generator import SkipGenerator
from lesionbrush.systems.lesion_inpainting.soft_tissue.data import SCALE, SoftBatches, SoftPack
from lesionbrush.systems.med_ddpm.data import MaskedBatches
from lesionbrush.systems.palette.data import PATCHES, PaletteBatches
from lesionbrush.systems.palette.fills import FILLS, Fill
from lesionbrush.systems.palette.pack import load_side
from lesionbrush.systems.palette.scale import FULL
from lesionbrush.training.recipes import Patches

DROP_FILL = 0.15
SOFT_FILLS: tuple[Fill, ...] = tuple(fill for fill in FILLS if fill != "lung")
"""What the cubes of soft tissue show."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A GAN of this evaluation. examples: (pack, generator of all that is random) to what it learns from.

    pixels: what makes up a batch; channels: of the generator, a level each; layers: of the discriminator.
    l1_weight: of the absolute error beside the adversarial loss. sides: of the boxes it is run on.
    """

    name: Literal["pix2pix", "vox2vox"]
    title: str
    dims: Literal[2, 3]
    in_channels: int
    channels: tuple[int, ...]
    residual_blocks: int
    dropout: float = 0.5
    criterion: Literal["bce", "least_squares"]
    layers: int
    discriminator_channels: int
    scale: CompressiveHU
    fills: tuple[Fill, ...]
    sides: tuple[int, ...]
    patches: Patches
    examples: Callable[[Path, np.random.Generator, Patches], FillExamples] = field(repr=False)
    l1_weight: float = 100.0
    learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)

    @property
    def multiple(self) -> int:
        """Of which its sides are multiples."""
        return 2 ** len(self.channels)

    def generator(self) -> nn.Module:
        """With first weights from the global generator."""
        return SkipGenerator(
            self.dims,
            self.in_channels,
            self.channels,
            residual_blocks=self.residual_blocks,
            dropout=self.dropout,
        )


def draw_slices(pack: Path, rng: np.random.Generator, patches: Patches) -> FillExamples:
    """Of the pack of Palette, patients that are seen."""
    cts = load_side(pack, validation=False)
    return Converted(PaletteBatches(cts, FULL, rng, patches, DROP_FILL), of_slices)


def draw_cubes(pack: Path, rng: np.random.Generator, patches: Patches) -> FillExamples:
    """Of the pack of soft tissue, patients that are seen."""
    source = SoftBatches(SoftPack(pack, held_out=False), rng, patches)
    return Converted(MaskedBatches(source, SCALE, DROP_FILL), of_cubes)


PIX2PIX = Baseline(
    name="pix2pix",
    title="Pix2Pix",
    dims=2,
    in_channels=SLICE_CHANNELS,
    channels=(32, 64, 128, 256),
    residual_blocks=0,
    criterion="bce",
    layers=3,
    discriminator_channels=32,
    scale=FULL,
    fills=FILLS,
    sides=(64, 96, 128, 192, 256),
    patches=replace(PATCHES, voxels_per_batch=16_384),
    examples=draw_slices,
)
VOX2VOX = Baseline(
    name="vox2vox",
    title="Vox2Vox",
    dims=3,
    in_channels=CUBE_CHANNELS,
    channels=(16, 32, 64),
    residual_blocks=4,
    criterion="least_squares",
    layers=2,
    discriminator_channels=16,
    scale=SCALE,
    fills=SOFT_FILLS,
    sides=(32, 48, 64),
    patches=Patches(sides=(32, 48), shares=(0.7, 0.3), counts=(2, 1)),
    examples=draw_cubes,
)
BASELINES = (PIX2PIX, VOX2VOX)
