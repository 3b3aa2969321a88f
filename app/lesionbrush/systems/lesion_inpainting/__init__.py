"""Lesion inpainting: a diffusion model of one ROI, given the tissue around a mask."""

from __future__ import annotations

from lesionbrush.systems.contract import System, late
from lesionbrush.systems.lesion_inpainting.bundle import network_words
from lesionbrush.systems.lesion_inpainting.card import LesionCard
from lesionbrush.systems.lesion_inpainting.hooks import HOOKS
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest

SYSTEMS = (
    System(
        name="lesion_inpainting",
        title="Lesion inpainting",
        request=SynthesisRequest,
        card=LesionCard,
        hooks=HOOKS,
        load=late("lesionbrush.systems.lesion_inpainting.model", "LesionInpainting.load"),
        train=late("lesionbrush.systems.lesion_inpainting.training", "LesionTraining"),
        bundle=network_words,
    ),
)
