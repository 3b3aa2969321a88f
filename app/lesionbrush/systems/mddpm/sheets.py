"""A picture of how the training of the unconditional model is doing: slices made of nothing but noise."""

from __future__ import annotations

from pathlib import Path

import torch

from lesionbrush.diffusion.schedules import timesteps
from lesionbrush.engines.evaluator import Evaluator
from lesionbrush.montage import LUNG, SOFT, Panel, sheet
from lesionbrush.systems.mddpm.guided import Start
from lesionbrush.systems.mddpm.trainer import SliceTrainer
from lesionbrush.systems.mddpm.unconditional import Unconditional
from lesionbrush.systems.running import first_timestep

STEPS, SEED, PATCHES_PER_SIDE = 25, 0, 4
LARGEST = 128
"""Voxels a side of the largest samples: what is trained on more takes too long for a look in between."""


@torch.inference_mode()
def slice_sheet(trainer: SliceTrainer, path: Path) -> None:
    """Write a PNG: samples of the moving average at the smallest and largest size, from the same noise."""
    model = Unconditional(Evaluator(trainer.average), trainer.schedule)
    times = timesteps(trainer.schedule, STEPS, t_start=first_timestep(trainer.schedule))
    panels = []
    for side in sorted({min(trainer.recipe.patches.sides), min(max(trainer.recipe.patches.sides), LARGEST)}):
        generator = torch.Generator().manual_seed(SEED)
        noise = torch.randn(PATCHES_PER_SIDE, 1, side, side, generator=generator).to(trainer.device)
        start = Start(noise, times, generator, lambda x_0: None)
        made = trainer.recipe.window.from_unit(model.sample(start, model.denoise)[:, 0].cpu().numpy())
        for window in (LUNG, SOFT):
            panels += [Panel(hu[::-1, ::-1], (1.0, 1.0), window, f"{side} mm, {window.name}") for hu in made]
    title = f"step {trainer.progress.step}: from noise alone"
    sheet(panels, columns=PATCHES_PER_SIDE, title=title, panel_px=192).save(path)
