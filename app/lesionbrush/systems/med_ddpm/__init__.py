"""Med-DDPM (Dorjsembe et al. 2023, arXiv:2305.18453) as Sedykh 2024 inpaints CT with it, in 3D."""

from __future__ import annotations

from lesionbrush.core.model import PLAIN
from lesionbrush.core.registry import ModelCard
from lesionbrush.systems.bundling import component, unet_words
from lesionbrush.systems.contract import NetworkWords, System, late
from lesionbrush.systems.med_ddpm.card import MedDDPMCard
from lesionbrush.systems.med_ddpm.request import MedDDPMRequest

_MODULE = "lesionbrush.systems.med_unet"
_SHOWN = ("the CT where it is known, else 0", "the mask, 1 or 0", "in the mask 1 tumour, -1 healthy, 0 open")


def _network_words(card: ModelCard) -> NetworkWords:
    section = MedDDPMCard.of(card)
    known = {"in_channels", "channels", "attention", "blocks", "norm_groups"}
    facts = section.network.model_dump(mode="json", include=known)
    definition = component(f"{_MODULE}.MedUNet", f"{_MODULE}.MedUNetConfig", facts)
    shown = _SHOWN[: section.network.in_channels - 1]
    return unet_words(definition, section.network, section.timesteps, shown)


SYSTEMS = (
    System(
        name="med_ddpm",
        title="Med-DDPM",
        request=MedDDPMRequest,
        card=MedDDPMCard,
        hooks=PLAIN,
        load=late("lesionbrush.systems.med_ddpm.model", "MedDDPM.load"),
        train=late("lesionbrush.systems.med_ddpm.training", "MedDDPMTraining"),
        bundle=_network_words,
        evaluate=late("lesionbrush.evaluation.holding", "evaluate_known"),
    ),
)
