"""Lesion inpainting: a diffusion model of one ROI, given the tissue around a mask."""

from __future__ import annotations

from typing import Any

from lesionbrush.core.registry import InstalledModel
from lesionbrush.systems.contract import System
from lesionbrush.systems.lesion_inpainting.bundle import network_words
from lesionbrush.systems.lesion_inpainting.card import LesionCard
from lesionbrush.systems.lesion_inpainting.hooks import HOOKS
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest


def _load(installed: InstalledModel, device: str | None) -> Any:
    from lesionbrush.systems.lesion_inpainting.model import LesionInpainting

    return LesionInpainting.load(installed, device)


def _train() -> Any:
    from lesionbrush.systems.lesion_inpainting.training import LesionTraining

    return LesionTraining()


SYSTEMS = (
    System(
        name="lesion_inpainting",
        title="Lesion inpainting",
        request=SynthesisRequest,
        card=LesionCard,
        hooks=HOOKS,
        load=_load,
        train=_train,
        bundle=network_words,
    ),
)
