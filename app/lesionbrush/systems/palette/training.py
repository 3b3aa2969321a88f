"""What `run.py train` does for a model of Palette."""

from __future__ import annotations

from argparse import Namespace, _ArgumentGroup
from functools import partial

import numpy as np

from lesionbrush.systems.palette.data import PaletteBatches
from lesionbrush.systems.palette.pack import load_side, prepare_pack
from lesionbrush.systems.palette.recipes import RECIPES, PaletteRecipe
from lesionbrush.systems.palette.sheets import hole_sheet
from lesionbrush.systems.palette.trainer import PaletteTrainer
from lesionbrush.systems.running import pick_device
from lesionbrush.training.recipes import Patches, resize
from lesionbrush.training.runs import run_training
from lesionbrush.training.trainings import Run, Training, add_size_arguments


class PaletteTraining(Training[PaletteRecipe]):
    recipes = RECIPES

    def add_arguments(self, group: _ArgumentGroup) -> None:
        add_size_arguments(group)

    def adapt(self, recipe: PaletteRecipe, options: Namespace) -> PaletteRecipe:
        return resize(recipe, options.sides, options.channels)

    def run(self, recipe: PaletteRecipe, run: Run) -> None:
        path = prepare_pack(run)
        trainer = PaletteTrainer(recipe, pick_device(run.device), run.seed)

        def batches(rng: np.random.Generator, patches: Patches, *, validation: bool) -> PaletteBatches:
            cts = load_side(path, validation=validation)
            return PaletteBatches(cts, recipe.scale, rng, patches, recipe.drop_fill)

        seen = batches(trainer.numpy_rng, recipe.patches, validation=False)
        held_out = batches(np.random.default_rng(1), recipe.patches.unscaled(), validation=True)
        trainer.sheet = partial(hole_sheet, trainer, held_out)
        run_training(trainer, seen, held_out, run)
