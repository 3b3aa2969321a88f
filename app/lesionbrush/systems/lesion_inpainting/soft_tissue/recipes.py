"""How lesion inpainting in soft tissue is trained: from the weights of `lung_lesion` on."""

from __future__ import annotations

from lesionbrush.core.hu import HUWindow
from lesionbrush.systems.lesion_inpainting.network import LesionUNetConfig
from lesionbrush.systems.lesion_inpainting.soft_tissue.data import PATCHES
from lesionbrush.systems.lesion_inpainting.soft_tissue.told import TOLD
from lesionbrush.training.levels import Levels
from lesionbrush.training.recipes import Loss, Optimiser, Recipe, by_name

RECIPES = by_name(
    Recipe(
        name="ours",
        source="LesionBrush",
        network=LesionUNetConfig(attributes=len(TOLD), blocks=3, conditions=5),
        prediction="x0",
        data_spread=0.12,
        loss=Loss(of="x0"),
        levels=Levels(-1.7, 1.5, uniform_share=0.1),
        window=HUWindow(-1024.0, 3071.0),
        patches=PATCHES,
        optimiser=Optimiser(learning_rate=4e-4),
        steps=12_000,
        validations_per_sheet=10_000,
    )
)
