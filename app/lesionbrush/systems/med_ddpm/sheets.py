"""A picture of how a training is doing: held-out cubes, as they are and with their hole filled anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from lesionbrush.core.hu import HUWindow, ends_hu
from lesionbrush.core.rois import RoiBatch
from lesionbrush.montage import SOFT, Panel, sheet
from lesionbrush.systems.contract import DiffusionUNetShape
from lesionbrush.systems.lesion_inpainting.soft_tissue.pack import SPACING_MM
from lesionbrush.systems.med_ddpm.card import MedDDPMCard
from lesionbrush.systems.med_ddpm.conditions import CONTENT
from lesionbrush.systems.med_ddpm.data import MaskedBatch, MaskedBatches
from lesionbrush.systems.med_ddpm.model import MedDDPM
from lesionbrush.systems.med_ddpm.request import MedDDPMRequest
from lesionbrush.systems.med_ddpm.trainer import MedDDPMTrainer
from lesionbrush.training.drafts import draft_card

CUBES, SEED = 9, 2


def hole_sheet(trainer: MedDDPMTrainer, held_out: MaskedBatches, path: Path) -> None:
    """Write a PNG: the same cubes every time, in the slice with most of the mask."""
    model = draft_model(trainer)
    held_out.rng = np.random.default_rng(SEED)
    panels = [panel for _ in range(CUBES) for panel in _pair(model, held_out.draw())]
    sheet(panels, columns=6, title=f"step {trainer.progress.step}: real, made").save(path)


def draft_model(trainer: MedDDPMTrainer) -> MedDDPM:
    """The system around a network that has no card yet."""
    recipe, config = trainer.recipe, trainer.recipe.network
    shape = DiffusionUNetShape(
        dims=3, **asdict(config), prediction=recipe.prediction, data_spread=recipe.data_spread
    )
    section = MedDDPMCard(
        schedule=recipe.schedule, timesteps=recipe.timesteps, network=shape, scale=recipe.scale
    )
    sides = recipe.patches.sides
    card = draft_card("med_ddpm", section, HUWindow(*ends_hu(recipe.scale)), sides, config.multiple)
    return MedDDPM(card, trainer.average, trainer.device)


def _pair(model: MedDDPM, batch: MaskedBatch) -> Iterator[Panel]:
    """Of the first cube of a batch; front up, right on the left."""
    image, visible, mask = (part[0, 0].numpy() for part in (batch.image, batch.visible, batch.mask))
    hu = np.asarray(model.section.scale.from_unit(image), np.float32)
    inside, editable = np.ones((1, *hu.shape), bool), visible[None] == 0
    rois = RoiBatch(hu[None], mask[None], editable, inside, spacing_mm=SPACING_MM)
    content = next(word for word, number in CONTENT.items() if number == float(batch.content[0]))
    word = content if model.section.is_told else None
    made = model.sample(rois, MedDDPMRequest(fill=word), [0], lambda done, total: None).hu[0, 0]
    z = int(mask.sum(axis=(1, 2)).argmax())
    for array, caption, outline in ((hu, "real", mask), (made, word or "open", None)):
        border = None if outline is None else outline[z, ::-1, ::-1] > 0
        yield Panel(array[z, ::-1, ::-1], (SPACING_MM, SPACING_MM), SOFT, caption, border)
