"""What `run.py train` does for a model of mDDPM: it trains the unconditional network of slices behind it."""

from __future__ import annotations

from argparse import Namespace, _ArgumentGroup
from dataclasses import replace
from functools import partial

import numpy as np

from lesionbrush.diffusion.schedules import SCHEDULES
from lesionbrush.systems.lesion_inpainting.data import side_of_split
from lesionbrush.systems.lesion_inpainting.pack import prepare_pack
from lesionbrush.systems.mddpm.data import SliceBatches
from lesionbrush.systems.mddpm.network import DDPMUNetConfig
from lesionbrush.systems.mddpm.recipes import RECIPES
from lesionbrush.systems.mddpm.sheets import slice_sheet
from lesionbrush.systems.mddpm.trainer import SliceTrainer
from lesionbrush.systems.running import pick_device
from lesionbrush.training.recipes import Recipe, resize
from lesionbrush.training.runs import run_training
from lesionbrush.training.trainings import Run, Training, add_size_arguments

SliceRecipe = Recipe[DDPMUNetConfig]


class SliceTraining(Training[SliceRecipe]):
    recipes = RECIPES

    def add_arguments(self, group: _ArgumentGroup) -> None:
        add_size_arguments(group)
        group.add_argument("--schedule", choices=sorted(SCHEDULES))
        group.add_argument("--prediction", choices=("v", "x0", "eps"))
        group.add_argument("--variance", choices=("learned_range", "fixed_small", "fixed_large"))

    def adapt(self, recipe: SliceRecipe, options: Namespace) -> SliceRecipe:
        recipe = resize(recipe, options.sides, options.channels)
        prediction = options.prediction or recipe.prediction
        network = replace(
            recipe.network, prediction=prediction, variance=options.variance or recipe.network.variance
        )
        schedule = options.schedule or recipe.schedule
        return replace(recipe, network=network, prediction=prediction, schedule=schedule)

    def run(self, recipe: SliceRecipe, run: Run) -> None:
        seen, held_out = (side_of_split(prepare_pack(run), validation=flag) for flag in (False, True))
        trainer = SliceTrainer(recipe, pick_device(run.device), run.seed)
        trainer.sheet = partial(slice_sheet, trainer)
        batches = SliceBatches(seen, recipe.window, trainer.numpy_rng, recipe.patches)
        validation = SliceBatches(
            held_out, recipe.window, np.random.default_rng(1), recipe.patches.unscaled()
        )
        run_training(trainer, batches, validation, run)
