"""What `run.py train` does for a model of semantic CT."""

from __future__ import annotations

from argparse import Namespace, _ArgumentGroup
from dataclasses import replace
from functools import partial

import numpy as np

from lesionbrush.systems.running import pick_device
from lesionbrush.systems.semantic.data import SemanticBatches
from lesionbrush.systems.semantic.network import CONDITIONINGS
from lesionbrush.systems.semantic.pack import load_classed, prepare_classed
from lesionbrush.systems.semantic.recipes import RECIPES, SemanticRecipe
from lesionbrush.systems.semantic.sheets import layout_sheet
from lesionbrush.systems.semantic.trainer import SemanticTrainer
from lesionbrush.training.recipes import resize
from lesionbrush.training.runs import run_training
from lesionbrush.training.trainings import Run, Training, add_size_arguments


class SemanticTraining(Training[SemanticRecipe]):
    recipes = RECIPES

    def add_arguments(self, group: _ArgumentGroup) -> None:
        add_size_arguments(group)
        group.add_argument("--conditioning", choices=CONDITIONINGS, help="how the network sees the layout")

    def adapt(self, recipe: SemanticRecipe, options: Namespace) -> SemanticRecipe:
        """Another conditioning is another run: its name is in the recipe's, so none goes on as another."""
        if options.channels:
            recipe = replace(recipe, network=replace(recipe.network, guide_channels=()))
        recipe = resize(recipe, options.sides, options.channels)
        wanted = options.conditioning or recipe.network.conditioning
        if wanted == recipe.network.conditioning:
            return recipe
        network = replace(recipe.network, conditioning=wanted)
        return replace(recipe, name=f"{recipe.name} --conditioning {wanted}", network=network)

    def run(self, recipe: SemanticRecipe, run: Run) -> None:
        path = prepare_classed(run)
        trainer = SemanticTrainer(recipe, pick_device(run.device), run.seed)
        seen, held_out = (load_classed(path, validation=flag) for flag in (False, True))
        batches = SemanticBatches(seen, recipe, trainer.numpy_rng, recipe.patches)
        validation = SemanticBatches(held_out, recipe, np.random.default_rng(1), recipe.patches.unscaled())
        trainer.sheet = partial(layout_sheet, trainer, validation)
        run_training(trainer, batches, validation, run)
