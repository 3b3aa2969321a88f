"""How semantic CT is trained: as our starters are, and as the paper says.

`paper` is Zhuang et al. 2023, Sec. 2 and 3: slices of 256 pixels, level 40 and width 400, improved-diffusion
(Nichol & Dhariwal 2021) with T = 1000, a linear schedule and the hybrid loss, Adam with 1e-4, 150 000 steps
of 16. It states no widths: those are the defaults of that program for slices of 256.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lesionbrush.core.hu import CompressiveHU, HUScale, HUWindow
from lesionbrush.systems.semantic.classes import BODY
from lesionbrush.systems.semantic.network import SemanticUNetConfig
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

ABDOMEN = HUWindow(-160.0, 240.0)
FULL = CompressiveHU(centre_hu=50.0, scale_hu=200.0, hu_per_unit=200.0)
SPACING_MM = 1.5


@dataclass(frozen=True, kw_only=True)
class SemanticRecipe(Recipe[SemanticUNetConfig]):
    """scale: how HU become units, in place of `window`. drop_layout: how often the whole layout is left
    out; drop_tissues: how often only the tissues are, for layouts that lack them, and as often in a part.

    whole: patches are whole slices resized, as published, or crops at about SPACING_MM times `zoom`.
    deform_mm: of the image and its layout together, at most.
    """

    scale: HUScale = ABDOMEN
    drop_layout: float = 0.1
    drop_tissues: float = 0.3
    whole: bool = False
    zoom: tuple[float, float] = (0.8, 2.2)
    deform_mm: float = 6.0


OURS = SemanticRecipe(
    name="ours",
    source="LesionBrush, after Zhuang et al. 2023",
    network=SemanticUNetConfig(guide_channels=(16, 32, 48, 64)),
    prediction="v",
    data_spread=0.6,
    levels=Levels(-0.6, 1.5, uniform_share=0.4),
    patches=Patches(sides=(96, 128), shares=(0.3, 0.7), voxels_per_batch=32_768),
    optimiser=Optimiser(learning_rate=4e-4),
    steps=6000,
    validate_every=250,
)
RECIPES = by_name(
    OURS,
    replace(OURS, name="ours-full-hu", scale=FULL, data_spread=1.0),
    replace(OURS, name="ours-one-hot", network=replace(OURS.network, layout_channels=BODY + 1)),
    replace(OURS, name="ours-tissues", network=replace(OURS.network, tissues=True)),
    SemanticRecipe(
        name="paper",
        source="Zhuang et al. 2023, Sec. 2, 3; what it leaves open, the defaults of improved-diffusion",
        differs=(
            "HU of the window go to [-1, 1], which the noise of improved-diffusion is made for; the paper "
            "says [0, 1]",
            "the second encoder is not told the noise level, and adds to every level that is halved; the "
            "paper draws it and says no more",
            "the layout is dropped in one of ten slices",
            "a few abdomens with automatic labels; the paper has 200 of AMOS22",
        ),
        network=SemanticUNetConfig(
            channels=(128, 128, 256, 256, 512, 512),
            attention=(False, False, False, False, True, True),
            blocks=2,
            norm_groups=32,
            prediction="eps",
        ),
        prediction="eps",
        schedule="linear",
        loss=Loss(weighted=False),
        whole=True,
        deform_mm=0.0,
        patches=Patches(sides=(256,), shares=(1.0,), counts=(4,)),
        accumulate=4,
        optimiser=plain_adam(1e-4),
        average=MovingAverage(decay=0.9999, young=False),
        steps=150_000,
    ),
)
