"""Lung-DDPM and Lung-DDPM+ (Jiang et al. 2025, arXiv:2502.15204, arXiv:2508.09327)."""

from __future__ import annotations

from typing import Any

from lesionbrush.core.model import PLAIN
from lesionbrush.core.registry import InstalledModel, ModelCard
from lesionbrush.systems.bundling import component, unet_words
from lesionbrush.systems.contract import NetworkWords, PublishedWeights, System
from lesionbrush.systems.lung_ddpm.card import LungDDPMCard
from lesionbrush.systems.lung_ddpm.hooks import WHOLE
from lesionbrush.systems.lung_ddpm.request import LungDDPMPlusRequest, LungDDPMRequest

_MODULE = "lesionbrush.systems.lung_ddpm.network"
_LAYOUT = {
    "lung_ddpm": ("lung without the nodule, 1 or -1", "nodule, 1 or -1"),
    "lung_ddpm_plus": ("nodule mask, 1 or -1",),
}
"""The channels beside the noisy image."""


def _load_whole(installed: InstalledModel, device: str | None) -> Any:
    from lesionbrush.systems.lung_ddpm.whole import LungDDPM

    return LungDDPM.load(installed, device)


def _load_cube(installed: InstalledModel, device: str | None) -> Any:
    from lesionbrush.systems.lung_ddpm.cube import LungDDPMPlus

    return LungDDPMPlus.load(installed, device)


def _published_whole() -> PublishedWeights:
    from lesionbrush.systems.lung_ddpm.published import whole

    return whole()


def _published_cube() -> PublishedWeights:
    from lesionbrush.systems.lung_ddpm.published import cube

    return cube()


def _network_words(card: ModelCard) -> NetworkWords:
    section = LungDDPMCard.of(card)
    known = {"in_channels", "channels", "attention", "blocks", "norm_groups"}
    facts = section.network.model_dump(mode="json", include=known)
    definition = component(f"{_MODULE}.LungDDPMUNet", f"{_MODULE}.LungDDPMConfig", facts)
    return unet_words(definition, section.network, section.timesteps, _LAYOUT[card.system])


SYSTEMS = (
    System(
        name="lung_ddpm",
        title="Lung-DDPM",
        request=LungDDPMRequest,
        card=LungDDPMCard,
        hooks=WHOLE,
        load=_load_whole,
        bundle=_network_words,
        published=_published_whole,
    ),
    System(
        name="lung_ddpm_plus",
        title="Lung-DDPM+",
        request=LungDDPMPlusRequest,
        card=LungDDPMCard,
        hooks=PLAIN,
        load=_load_cube,
        bundle=_network_words,
        published=_published_cube,
    ),
)
