"""What `run.py train` does for a model of lesion inpainting."""

from __future__ import annotations

from functools import partial

import numpy as np

from lesionbrush.systems.lesion_inpainting.data import Batches, side_of_split
from lesionbrush.systems.lesion_inpainting.network import LesionUNetConfig
from lesionbrush.systems.lesion_inpainting.pack import prepare_pack
from lesionbrush.systems.lesion_inpainting.recipes import RECIPES
from lesionbrush.systems.lesion_inpainting.sheets import sample_sheet
from lesionbrush.systems.lesion_inpainting.trainer import Trainer
from lesionbrush.systems.running import pick_device
from lesionbrush.training.recipes import Recipe
from lesionbrush.training.runs import run_training
from lesionbrush.training.trainings import Run, Training


class LesionTraining(Training[Recipe[LesionUNetConfig]]):
    recipes = RECIPES

    def run(self, recipe: Recipe[LesionUNetConfig], run: Run) -> None:
        pack = prepare_pack(run)
        seen, held_out = (side_of_split(pack, validation=flag) for flag in (False, True))
        trainer = Trainer(recipe, pick_device(run.device), run.seed)
        trainer.sheet = partial(sample_sheet, trainer, held_out)
        batches = Batches(seen, recipe.window, trainer.numpy_rng, recipe.patches)
        validation = Batches(held_out, recipe.window, np.random.default_rng(1), recipe.patches.unscaled())
        run_training(trainer, batches, validation, run)
