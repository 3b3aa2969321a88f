"""A picture of how a training is doing: held-out slices, as they are, with their hole, and filled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from lesionbrush.core.hu import HUScale, unit_ends
from lesionbrush.diffusion.samplers import dpm_solver_pp_2m
from lesionbrush.engines.evaluator import Evaluator
from lesionbrush.montage import Panel, Window, sheet
from lesionbrush.systems.palette.data import SPACING_MM, HoledSlice, PaletteBatches
from lesionbrush.systems.palette.filler import HoleFiller, Holes
from lesionbrush.systems.palette.fills import FILLS
from lesionbrush.systems.palette.scale import LUNG
from lesionbrush.systems.palette.trainer import PaletteTrainer
from lesionbrush.systems.running import visited_timesteps

STEPS, SEED, SLICES = 20, 0, 8
SOFT_TISSUE_SHOWN, LUNG_SHOWN = Window("soft tissue", 50, 400), Window("lung", -600, 1500)
HOLE_HU = -2000.0


@torch.inference_mode()
def hole_sheet(trainer: PaletteTrainer, held_out: PaletteBatches, path: Path) -> None:
    """Write a PNG: the same held-out slices every time, filled by the moving average from the same noise."""
    held_out.rng = np.random.default_rng(SEED)
    side = min(max(trainer.recipe.patches.sides), 128)
    slices = [held_out.sample(side) for _ in range(SLICES)]
    made = fill_slices(trainer, slices)
    window = LUNG_SHOWN if trainer.recipe.scale == LUNG else SOFT_TISSUE_SHOWN
    panels = [panel for one, hu in zip(slices, made, strict=True) for panel in _row(one, hu, window)]
    title = f"step {trainer.progress.step}: real, hole, filled"
    sheet(panels, columns=6, title=title, panel_px=220).save(path)


def _row(one: HoledSlice, made_hu: np.ndarray, window: Window) -> Iterator[Panel]:
    """As it is with the outline of the hole, with the hole, and filled; front up, right on the left."""
    name = FILLS[one.fill - 1] if one.fill else "open"
    images = (("real", one.hu), ("hole", np.where(one.hole, HOLE_HU, one.hu)), (name, made_hu))
    for word, hu in images:
        outline = one.hole[::-1, ::-1] if word == "real" else None
        yield Panel(hu[::-1, ::-1], (SPACING_MM, SPACING_MM), window, word, outline)


def fill_slices(trainer: PaletteTrainer, slices: Sequence[HoledSlice]) -> np.ndarray:
    """(N, Y, X) HU: what the moving average makes in the holes, told what they are."""
    recipe, scale = trainer.recipe, trainer.recipe.scale
    generator = torch.Generator().manual_seed(SEED)
    filler = HoleFiller(
        Evaluator(trainer.average),
        trainer.schedule,
        recipe.prediction,
        recipe.data_spread,
        unit_ends(scale),
    )
    holes = holes_of(slices, scale, generator, trainer.device)
    x = holes.put(torch.randn(holes.image.shape, generator=generator).to(trainer.device))
    times = visited_timesteps(trainer.schedule, STEPS)
    hooks = [holes.keep_clean()]
    made = dpm_solver_pp_2m(filler.denoiser(holes), x, trainer.schedule, times, after_step=hooks)
    return scale.from_unit(made[:, 0].cpu().numpy())


def holes_of(
    slices: Sequence[HoledSlice], scale: HUScale, generator: torch.Generator, device: torch.device
) -> Holes:
    """Of slices of the training's data."""
    image = torch.from_numpy(scale.to_unit(np.stack([one.hu for one in slices]).astype(np.float32)))[:, None]
    inside = torch.from_numpy(np.stack([one.hole for one in slices]).copy())[:, None]
    veil = torch.randn(image.shape, generator=generator)
    fill = torch.tensor([one.fill for one in slices])
    return Holes.of(*(part.to(device) for part in (image, inside, veil, fill)))
