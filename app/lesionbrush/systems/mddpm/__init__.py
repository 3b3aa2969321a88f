"""mDDPM (Krishna et al. 2025): multi-condition guidance of an unconditional model, in 2D and in 3D."""

from __future__ import annotations

from lesionbrush.core.registry import ModelCard
from lesionbrush.systems.bundling import component, unet_words
from lesionbrush.systems.contract import DiffusionUNetShape, NetworkWords, System, late
from lesionbrush.systems.lesion_inpainting.bundle import network_words as network_words_of_boxes
from lesionbrush.systems.mddpm.card import BoxCard, SliceCard
from lesionbrush.systems.mddpm.hooks import HOOKS
from lesionbrush.systems.mddpm.request import MDDPMRequest, WholeRequest
from lesionbrush.systems.mddpm.whole_hooks import HOOKS as WHOLE

_MODULE = "lesionbrush.systems.mddpm.network"


def _network_words(card: ModelCard) -> NetworkWords:
    section = SliceCard.of(card)
    known = set(DiffusionUNetShape.model_fields) - {"data_spread"}
    facts = section.network.model_dump(mode="json", include=known)
    definition = component(f"{_MODULE}.DDPMUNet", f"{_MODULE}.DDPMUNetConfig", facts)
    return unet_words(definition, section.network, section.timesteps)


SYSTEMS = (
    System(
        name="mddpm",
        title="mDDPM",
        request=MDDPMRequest,
        card=SliceCard,
        hooks=HOOKS,
        load=late("lesionbrush.systems.mddpm.slices", "MDDPM.load"),
        train=late("lesionbrush.systems.mddpm.training", "SliceTraining"),
        bundle=_network_words,
        evaluate=late("lesionbrush.systems.mddpm.evaluation", "evaluate_slices"),
    ),
    System(
        name="mddpm_3d",
        title="mDDPM in 3D",
        request=MDDPMRequest,
        card=BoxCard,
        hooks=HOOKS,
        load=late("lesionbrush.systems.mddpm.boxes", "MDDPM3D.load"),
        bundle=network_words_of_boxes,
    ),
    System(
        name="mddpm_whole",
        title="mDDPM, whole slices",
        request=WholeRequest,
        card=SliceCard,
        hooks=WHOLE,
        load=late("lesionbrush.systems.mddpm.whole", "MDDPMWhole.load"),
        bundle=_network_words,
        evaluate=late("lesionbrush.systems.mddpm.evaluation", "evaluate_whole"),
    ),
)
