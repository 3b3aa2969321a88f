"""How the lesion inpainting model is trained. There is no paper of it: `ours` alone."""

from __future__ import annotations

from lesionbrush.systems.lesion_inpainting.attributes import ATTRIBUTES
from lesionbrush.systems.lesion_inpainting.data import PATCHES
from lesionbrush.systems.lesion_inpainting.network import LesionUNetConfig
from lesionbrush.training.levels import Levels
from lesionbrush.training.recipes import Loss, Recipe, by_name

RECIPES = by_name(
    Recipe(
        name="ours",
        source="LesionBrush",
        network=LesionUNetConfig(attributes=len(ATTRIBUTES), blocks=3),
        prediction="x0",
        data_spread=0.15,
        loss=Loss(of="x0"),
        levels=Levels(-1.2, 1.5, uniform_share=0.1),
        patches=PATCHES,
        steps=10_000,
    )
)
