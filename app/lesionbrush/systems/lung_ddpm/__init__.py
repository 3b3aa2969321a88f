"""Lung-DDPM and Lung-DDPM+ (Jiang et al. 2025, arXiv:2502.15204, arXiv:2508.09327)."""

from __future__ import annotations

from lesionbrush.core.model import PLAIN
from lesionbrush.core.registry import ModelCard
from lesionbrush.systems.bundling import component, unet_words
from lesionbrush.systems.contract import NetworkWords, System, late
from lesionbrush.systems.lung_ddpm.card import LungDDPMCard
from lesionbrush.systems.lung_ddpm.hooks import WHOLE
from lesionbrush.systems.lung_ddpm.request import LungDDPMPlusRequest, LungDDPMRequest

_MODULE = "lesionbrush.systems.med_unet"
_LAYOUT = {
    "lung_ddpm": ("lung without the nodule, 1 or -1", "nodule, 1 or -1"),
    "lung_ddpm_plus": ("nodule mask, 1 or -1",),
}
"""The channels beside the noisy image."""


def _network_words(card: ModelCard) -> NetworkWords:
    section = LungDDPMCard.of(card)
    known = {"in_channels", "channels", "attention", "blocks", "norm_groups"}
    facts = section.network.model_dump(mode="json", include=known)
    definition = component(f"{_MODULE}.MedUNet", f"{_MODULE}.MedUNetConfig", facts)
    return unet_words(definition, section.network, section.timesteps, _LAYOUT[card.system])


SYSTEMS = (
    System(
        name="lung_ddpm",
        title="Lung-DDPM",
        request=LungDDPMRequest,
        card=LungDDPMCard,
        hooks=WHOLE,
        load=late("lesionbrush.systems.lung_ddpm.whole", "LungDDPM.load"),
        train=late("lesionbrush.systems.lung_ddpm.training", "WholeTraining"),
        bundle=_network_words,
        published=late("lesionbrush.systems.lung_ddpm.published", "whole"),
    ),
    System(
        name="lung_ddpm_plus",
        title="Lung-DDPM+",
        request=LungDDPMPlusRequest,
        card=LungDDPMCard,
        hooks=PLAIN,
        load=late("lesionbrush.systems.lung_ddpm.cube", "LungDDPMPlus.load"),
        train=late("lesionbrush.systems.lung_ddpm.training", "CubeTraining"),
        bundle=_network_words,
        published=late("lesionbrush.systems.lung_ddpm.published", "cube"),
    ),
)
