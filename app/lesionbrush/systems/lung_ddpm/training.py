"""What `run.py train` does for a model of Lung-DDPM or Lung-DDPM+."""

from __future__ import annotations

from argparse import Namespace, _ArgumentGroup
from dataclasses import replace
from functools import partial

import numpy as np
from torch import Tensor

from lesionbrush.systems.lesion_inpainting.data import side_of_split
from lesionbrush.systems.lesion_inpainting.pack import prepare_pack
from lesionbrush.systems.lung_ddpm.cubes import NoduleBatches
from lesionbrush.systems.lung_ddpm.pack import write_lungs
from lesionbrush.systems.lung_ddpm.recipes import CUBE_RECIPES, WHOLE_RECIPES
from lesionbrush.systems.lung_ddpm.sheets import layout_sheet
from lesionbrush.systems.lung_ddpm.trainer import LayoutBatch, LayoutTrainer
from lesionbrush.systems.lung_ddpm.volumes import LungBatches, read_lungs
from lesionbrush.systems.med_unet import MedUNetConfig
from lesionbrush.systems.running import pick_device
from lesionbrush.training.loop import Draws
from lesionbrush.training.recipes import Recipe, resize
from lesionbrush.training.runs import make_once, run_training
from lesionbrush.training.trainings import Run, Training, add_size_arguments

LayoutRecipe = Recipe[MedUNetConfig]


class CubeTraining(Training[LayoutRecipe]):
    """Of Lung-DDPM+: cubes around nodules."""

    recipes = CUBE_RECIPES

    def add_arguments(self, group: _ArgumentGroup) -> None:
        add_size_arguments(group)

    def adapt(self, recipe: LayoutRecipe, options: Namespace) -> LayoutRecipe:
        return resize(recipe, options.sides, options.channels)

    def batches(
        self, recipe: LayoutRecipe, run: Run, generator: np.random.Generator, *, validation: bool
    ) -> Draws[LayoutBatch]:
        """Of one side of the split."""
        nodules = side_of_split(prepare_pack(run), validation=validation)
        return NoduleBatches(nodules, recipe.window, generator, recipe.patches)

    def run(self, recipe: LayoutRecipe, run: Run) -> None:
        small = replace(recipe, patches=recipe.patches.unscaled())
        held_out = self.batches(small, run, np.random.default_rng(1), validation=True)
        trainer = LayoutTrainer(recipe, pick_device(run.device), run.seed)
        trainer.sheet = partial(layout_sheet, trainer, held_out)
        seen = self.batches(recipe, run, trainer.numpy_rng, validation=False)

        def start(weights: dict[str, Tensor]) -> None:
            print(f"{trainer.start_from_similar(weights):.0%} of the weights are those of {run.start_from}")

        run_training(trainer, seen, held_out, run, start)


class WholeTraining(CubeTraining):
    """Of Lung-DDPM: blocks of whole lungs."""

    recipes = WHOLE_RECIPES

    def batches(
        self, recipe: LayoutRecipe, run: Run, generator: np.random.Generator, *, validation: bool
    ) -> Draws[LayoutBatch]:
        nodules = side_of_split(prepare_pack(run), validation=validation)
        lungs = make_once(run.out / "lungs.npz", partial(write_lungs, run.data))
        chests = read_lungs(lungs, validation=validation)
        return LungBatches(nodules, chests, recipe.window, generator, recipe.patches)
