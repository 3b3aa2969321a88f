"""For tests: lesion inpainting that takes whatever the project's systems take, and looks at none of it."""

from __future__ import annotations

from typing import Any

from lesionbrush.core.model import EditHooks
from lesionbrush.core.registry import InstalledModel
from lesionbrush.systems.contract import System
from lesionbrush.systems.lesion_inpainting.bundle import network_words
from lesionbrush.systems.lesion_inpainting.card import LesionCard
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest
from lesionbrush.systems.lung_ddpm.hooks import INPUTS as LUNGS
from lesionbrush.systems.mddpm.hooks import INPUTS as GUIDES

HOOKS = EditHooks((*LUNGS, *GUIDES))


def load(installed: InstalledModel, device: str | None) -> Any:
    from lesionbrush.systems.lesion_inpainting.model import LesionInpainting

    model = LesionInpainting.load(installed, device)
    model.hooks = HOOKS
    return model


SYSTEMS = (System("steered", "Steered", SynthesisRequest, LesionCard, HOOKS, load, bundle=network_words),)
