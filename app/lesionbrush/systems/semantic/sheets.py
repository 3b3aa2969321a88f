"""A picture of how a training is doing: held-out slices, their layout, and what is made of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from lesionbrush.core.hu import unit_ends
from lesionbrush.engines.evaluator import Evaluator
from lesionbrush.montage import Panel, Window, sheet
from lesionbrush.systems.running import visited_timesteps
from lesionbrush.systems.semantic.classes import BODY, UNKNOWN
from lesionbrush.systems.semantic.data import LaidSlice, SemanticBatches
from lesionbrush.systems.semantic.diffusion import SemanticDiffusion, Walk, show
from lesionbrush.systems.semantic.layouts import without_tissues
from lesionbrush.systems.semantic.recipes import SPACING_MM
from lesionbrush.systems.semantic.trainer import SemanticTrainer

STEPS, SEED, SLICES = 20, 0, 8
ABDOMEN_SHOWN, CLASSES_SHOWN = Window("abdomen", 40, 400), Window("classes", BODY / 2, BODY)


@torch.inference_mode()
def layout_sheet(trainer: SemanticTrainer, held_out: SemanticBatches, path: Path) -> None:
    """Write a PNG: the same held-out slices every time, made by the moving average from the same noise."""
    held_out.rng = np.random.default_rng(SEED)
    side = min(max(trainer.recipe.patches.sides), 128)
    slices = [held_out.sample(side) for _ in range(SLICES)]
    made = make_slices(trainer, slices)
    panels = [panel for one, hu in zip(slices, made, strict=True) for panel in _row(one, hu)]
    title = f"step {trainer.progress.step}: layout, real, made"
    sheet(panels, columns=6, title=title, panel_px=220).save(path)


def _row(one: LaidSlice, made_hu: np.ndarray) -> Iterator[Panel]:
    """Front up, right on the left. The darker a class, the earlier in the list."""
    classes = np.where(one.labels == UNKNOWN, 0, without_tissues(one.labels)).astype(np.float32)
    images = (
        ("layout", classes, CLASSES_SHOWN),
        ("real", one.hu, ABDOMEN_SHOWN),
        ("made", made_hu, ABDOMEN_SHOWN),
    )
    for word, image, window in images:
        yield Panel(image[::-1, ::-1], (SPACING_MM, SPACING_MM), window, word)


def make_slices(trainer: SemanticTrainer, slices: Sequence[LaidSlice]) -> np.ndarray:
    """(N, Y, X) HU: what the moving average makes of the layouts."""
    recipe, config = trainer.recipe, trainer.average.config
    generator = torch.Generator().manual_seed(SEED)
    clip = unit_ends(recipe.scale)
    diffusion = SemanticDiffusion(Evaluator(trainer.average), trainer.schedule, recipe.data_spread, clip)
    labels = np.stack([one.labels for one in slices])
    told = labels if config.tissues else without_tissues(labels)
    conditions = torch.from_numpy(show(told, config)).to(trainer.device)
    noise = torch.randn((len(slices), 1, *labels.shape[1:]), generator=generator).to(trainer.device)
    walk = Walk(noise, visited_timesteps(trainer.schedule, STEPS), generator)
    denoise = diffusion.denoiser(conditions)
    made = diffusion.sample("dpm_solver_pp_2m", denoise, walk)
    return recipe.scale.from_unit(made[:, 0].cpu().numpy())
