"""What `run.py train` does for a model of lesion inpainting in soft tissue."""

from __future__ import annotations

import numpy as np

from lesionbrush.systems.lesion_inpainting.network import LesionUNetConfig
from lesionbrush.systems.lesion_inpainting.soft_tissue.data import SoftBatches, SoftPack
from lesionbrush.systems.lesion_inpainting.soft_tissue.pack import prepare_pack
from lesionbrush.systems.lesion_inpainting.soft_tissue.recipes import RECIPES
from lesionbrush.systems.lesion_inpainting.soft_tissue.trainer import SoftTissueTrainer
from lesionbrush.systems.running import pick_device
from lesionbrush.training.recipes import Recipe
from lesionbrush.training.runs import run_training
from lesionbrush.training.trainings import Run, Training


class SoftTissueTraining(Training[Recipe[LesionUNetConfig]]):
    recipes = RECIPES

    def run(self, recipe: Recipe[LesionUNetConfig], run: Run) -> None:
        pack = prepare_pack(run)
        seen, held_out = (SoftPack(pack, held_out=flag) for flag in (False, True))
        trainer = SoftTissueTrainer(recipe, pick_device(run.device), run.seed)
        batches = SoftBatches(seen, trainer.numpy_rng, recipe.patches)
        validation = SoftBatches(held_out, np.random.default_rng(1), recipe.patches.unscaled())
        run_training(trainer, batches, validation, run, trainer.start_from)
