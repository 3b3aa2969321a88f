"""A picture of how a training run is doing: held-out nodules, real beside made anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lesionbrush.core.boxes import centre
from lesionbrush.core.registry import ModelCard
from lesionbrush.core.roi import ramp
from lesionbrush.core.rois import RoiBatch
from lesionbrush.montage import LUNG, Panel, sheet
from lesionbrush.systems.lesion_inpainting.attributes import ATTRIBUTES
from lesionbrush.systems.lesion_inpainting.card import LesionCard, NetworkShape
from lesionbrush.systems.lesion_inpainting.data import Pack
from lesionbrush.systems.lesion_inpainting.model import LesionInpainting
from lesionbrush.systems.lesion_inpainting.request import Attributes, SynthesisRequest
from lesionbrush.systems.lesion_inpainting.trainer import Trainer
from lesionbrush.training.drafts import draft_card

SIDE = 48
STEPS = 10


def sample_sheet(trainer: Trainer, pack: Pack, path: Path, count: int = 12) -> None:
    """Write a PNG: for nodules of all sizes the real one, and the moving average's from the mask alone."""
    model = LesionInpainting(card_of(trainer), trainer.average, trainer.device)
    by_size = pack.nodules[np.argsort(-pack.extents)]
    chosen = by_size[np.linspace(0, len(by_size) - 1, min(count, len(by_size))).astype(int)]
    panels = [panel for k in chosen for panel in _pair(model, pack, int(k))]
    sheet(panels, columns=6, title=f"step {trainer.progress.step}: real, synthetic").save(path)


def card_of(trainer: Trainer) -> ModelCard:
    """What the system must know to sample from a network that has no card yet."""
    recipe = trainer.recipe
    shape = {name: getattr(recipe.network, name) for name in NetworkShape.model_fields}
    section = LesionCard(
        schedule=recipe.schedule,
        timesteps=recipe.timesteps,
        network=NetworkShape(**shape),
        attributes=ATTRIBUTES,
    )
    return draft_card("lesion_inpainting", section, recipe.window, (32, 48, 64), recipe.network.multiple)


def _pair(model: LesionInpainting, pack: Pack, k: int) -> Iterator[Panel]:
    image, mask = (centre(array, SIDE, fill) for array, fill in zip(pack.nodule(k), (-1000, 0), strict=True))
    known = centre(np.ones(pack.nodule(k)[0].shape, bool), SIDE, False)
    margin_mm = SynthesisRequest().margin_mm
    editable = ramp(mask > 127, 1.0, margin_mm) > 0
    rois = RoiBatch(
        image[None].astype(np.float32), (mask / np.float32(255))[None], editable[None], known[None]
    )
    request = SynthesisRequest(steps=STEPS, attributes=Attributes())
    made = model.sample(rois, request, [0], lambda done, total: None).hu[0, 0]
    z = int(mask.sum(axis=(1, 2), dtype=int).argmax())
    for hu, caption in ((image, "real"), (made, "synthetic")):
        yield Panel(np.where(known[z], hu[z], -1000)[::-1, ::-1], (1.0, 1.0), LUNG, caption)
