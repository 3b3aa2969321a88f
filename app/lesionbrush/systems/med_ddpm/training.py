"""What `run.py train` does for a model of Med-DDPM."""

from __future__ import annotations

from argparse import Namespace, _ArgumentGroup
from functools import partial

import numpy as np

from lesionbrush.systems.lesion_inpainting.soft_tissue.data import SoftBatches, SoftPack
from lesionbrush.systems.lesion_inpainting.soft_tissue.pack import prepare_pack
from lesionbrush.systems.med_ddpm.data import MaskedBatches
from lesionbrush.systems.med_ddpm.recipes import RECIPES, MaskedRecipe
from lesionbrush.systems.med_ddpm.sheets import hole_sheet
from lesionbrush.systems.med_ddpm.trainer import MedDDPMTrainer
from lesionbrush.systems.running import pick_device
from lesionbrush.training.recipes import Patches, resize
from lesionbrush.training.runs import run_training
from lesionbrush.training.trainings import Run, Training, add_size_arguments


class MedDDPMTraining(Training[MaskedRecipe]):
    recipes = RECIPES

    def add_arguments(self, group: _ArgumentGroup) -> None:
        add_size_arguments(group)

    def adapt(self, recipe: MaskedRecipe, options: Namespace) -> MaskedRecipe:
        return resize(recipe, options.sides, options.channels)

    def run(self, recipe: MaskedRecipe, run: Run) -> None:
        path = prepare_pack(run)

        def batches(rng: np.random.Generator, patches: Patches, *, held_out: bool) -> MaskedBatches:
            source = SoftBatches(SoftPack(path, held_out=held_out), rng, patches, recipe.margin_mm)
            return MaskedBatches(source, recipe.scale, recipe.drop_fill)

        trainer = MedDDPMTrainer(recipe, pick_device(run.device), run.seed)
        seen = batches(trainer.numpy_rng, recipe.patches, held_out=False)
        held_out = batches(np.random.default_rng(1), recipe.patches.unscaled(), held_out=True)
        trainer.sheet = partial(hole_sheet, trainer, held_out)
        run_training(trainer, seen, held_out, run, trainer.start_from)
