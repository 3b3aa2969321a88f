"""How Palette is trained: as our starters are, and as the thesis and the papers say.

`paper` is Sedykh 2024 (Imagining Infinity), who inpaints CT slices of 256 pixels with Palette (Saharia et al.
2022, arXiv:2111.05826) in its usual implementation: 64 channels times 1, 2, 4, 8 with two blocks a level,
dropout 0.2, attention at a 16th of the slice with 32 channels a head, 2000 levels with betas from 1e-6 to
0.01, Adam with 5e-5, an average of 0.9999. The thesis states no schedule, no batch and no number of steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lesionbrush.core.hu import HUScale
from lesionbrush.systems.palette.data import PATCHES
from lesionbrush.systems.palette.network import PaletteUNetConfig
from lesionbrush.systems.palette.scale import FULL, LUNG, SOFT_TISSUE
from lesionbrush.training.levels import Levels
from lesionbrush.training.recipes import (
    Loss,
    MovingAverage,
    Optimiser,
    Patches,
    Recipe,
    by_name,
    plain_adam,
)


@dataclass(frozen=True, kw_only=True)
class PaletteRecipe(Recipe[PaletteUNetConfig]):
    """scale: how HU become units, in place of `window`. drop_fill: how often the class is left open."""

    scale: HUScale = SOFT_TISSUE
    drop_fill: float = 0.25


OURS = PaletteRecipe(
    name="ours",
    source="LesionBrush, after Sedykh 2024",
    network=PaletteUNetConfig(dropout=0.1),
    prediction="v",
    data_spread=0.5,
    levels=Levels(-0.8, 1.4, uniform_share=0.3),
    patches=PATCHES,
    optimiser=Optimiser(learning_rate=4e-4),
    steps=4000,
    validate_every=250,
    validation_batches=16,
)
RECIPES = by_name(
    OURS,
    replace(OURS, name="ours-lung", scale=LUNG),
    replace(OURS, name="ours-full-hu", scale=FULL),
    PaletteRecipe(
        name="paper",
        source="Sedykh 2024, Sec. 3.2; what it leaves open, Saharia et al. 2022 and its usual implementation",
        differs=(
            "the class of the fill is told in three of four holes; the thesis trains a network a class",
            "a fifth level, as wide as the fourth, has the attention, at a 16th of the slice, as the thesis "
            "says; the usual implementation ends at an 8th and has it there",
            "a decoder has two blocks a level; the usual implementation has three",
        ),
        network=PaletteUNetConfig(
            channels=(64, 128, 256, 512, 512),
            attention=(False, False, False, False, True),
            blocks=2,
            norm_groups=32,
            level="gamma",
            shows_hole=False,
        ),
        prediction="eps",
        schedule="palette_training",
        timesteps=2000,
        loss=Loss(weighted=False),
        patches=Patches(sides=(256,), shares=(1.0,), counts=(3,)),
        optimiser=plain_adam(5e-5),
        average=MovingAverage(decay=0.9999, young=False),
        steps=500_000,
    ),
)
