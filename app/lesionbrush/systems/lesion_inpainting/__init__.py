"""Lesion inpainting: a diffusion model of one ROI, given the tissue around a mask."""

from __future__ import annotations

from lesionbrush.systems.contract import System, late
from lesionbrush.systems.lesion_inpainting.bundle import network_words
from lesionbrush.systems.lesion_inpainting.card import LesionCard
from lesionbrush.systems.lesion_inpainting.hooks import HOOKS
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest
from lesionbrush.systems.lesion_inpainting.soft_tissue.bundle import network_words as soft_tissue_words
from lesionbrush.systems.lesion_inpainting.soft_tissue.card import SoftTissueCard
from lesionbrush.systems.lesion_inpainting.soft_tissue.hooks import HOOKS as SOFT_TISSUE_HOOKS
from lesionbrush.systems.lesion_inpainting.soft_tissue.request import SoftTissueRequest

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
    System(
        name="soft_tissue_inpainting",
        title="Lesion inpainting in soft tissue",
        request=SoftTissueRequest,
        card=SoftTissueCard,
        hooks=SOFT_TISSUE_HOOKS,
        load=late("lesionbrush.systems.lesion_inpainting.soft_tissue.model", "SoftTissueInpainting.load"),
        train=late("lesionbrush.systems.lesion_inpainting.soft_tissue.training", "SoftTissueTraining"),
        bundle=soft_tissue_words,
        evaluate=late("lesionbrush.systems.lesion_inpainting.evaluation.soft_tissue", "evaluate_soft_tissue"),
    ),
)
