"""A picture of how a run of Lung-DDPM or Lung-DDPM+ is doing: held-out blocks, real beside made anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from lesionbrush.core.roi import ramp
from lesionbrush.core.rois import RoiBatch
from lesionbrush.montage import LUNG, Panel, sheet
from lesionbrush.systems import parse_request
from lesionbrush.systems.contract import DiffusionUNetShape
from lesionbrush.systems.lung_ddpm.card import LungDDPMCard
from lesionbrush.systems.lung_ddpm.cube import LungDDPMPlus
from lesionbrush.systems.lung_ddpm.model import LayoutDiffusion
from lesionbrush.systems.lung_ddpm.trainer import LayoutBatch, LayoutTrainer
from lesionbrush.systems.lung_ddpm.whole import LungDDPM
from lesionbrush.training.drafts import draft_card
from lesionbrush.training.loop import Draws

STEPS = 10
MARGIN_VOXELS = 3.0
TRIES_PER_BLOCK = 8


def layout_sheet(trainer: LayoutTrainer, held_out: Draws[LayoutBatch], path: Path, count: int = 6) -> None:
    """Write a PNG: of blocks with a nodule the slice with most of it, real and by the moving average."""
    model = draft_model(trainer)
    held_out.rng = np.random.default_rng(2)
    panels = [panel for block in with_nodule(held_out, count) for panel in _pair(model, block)]
    sheet(panels, columns=6, title=f"step {trainer.progress.step}: real, synthetic").save(path)


def draft_model(trainer: LayoutTrainer) -> LayoutDiffusion:
    """The system around a network that has no card yet."""
    recipe, config = trainer.recipe, trainer.recipe.network
    system: type[LayoutDiffusion] = LungDDPMPlus if config.in_channels == 2 else LungDDPM
    shape = DiffusionUNetShape(
        dims=3, **asdict(config), prediction=recipe.prediction, data_spread=recipe.data_spread
    )
    section = LungDDPMCard(schedule=recipe.schedule, timesteps=recipe.timesteps, network=shape)
    name = "lung_ddpm_plus" if system is LungDDPMPlus else "lung_ddpm"
    card = draft_card(name, section, recipe.window, (128,), config.multiple)
    return system(card, trainer.average, trainer.device)


def with_nodule(held_out: Draws[LayoutBatch], count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images (Z, Y, X) and layouts (M, Z, Y, X) of blocks with a nodule: `count`, or what is soon found."""
    found = 0
    for _ in range(count * TRIES_PER_BLOCK):
        batch = held_out.draw()
        image, layout = batch.image[0, 0].numpy(), batch.layout[0].numpy()
        if (layout[-1] > 0).any():
            yield image, layout
            found += 1
        if found == count:
            return


def _pair(model: LayoutDiffusion, block: tuple[np.ndarray, np.ndarray]) -> Iterator[Panel]:
    image, layout = block
    hu, nodule = model.window.from_unit(image), layout[-1] > 0
    rois = RoiBatch(
        hu[None].astype(np.float32),
        nodule[None].astype(np.float32),
        ramp(nodule, 1.0, MARGIN_VOXELS)[None] > 0,
        np.ones((1, *hu.shape), bool),
        own=(layout > 0).any(axis=0)[None].astype(np.float32),
    )
    request = parse_request({"steps": STEPS}, model.card.system)
    with torch.inference_mode():
        made = model.sample(rois, request, [0], lambda done, total: None).hu[0, 0]
    z = int(nodule.sum(axis=(1, 2)).argmax())
    for array, caption in ((hu, "real"), (made, "synthetic")):
        yield Panel(array[z, ::-1, ::-1], (1.0, 1.0), LUNG, caption)
