"""mDDPM (Krishna et al. 2025): multi-condition guidance of an unconditional model, in 2D and in 3D."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lesionbrush.core.registry import InstalledModel, ModelCard
from lesionbrush.systems.bundling import component, unet_words
from lesionbrush.systems.contract import DiffusionUNetShape, NetworkWords, System
from lesionbrush.systems.lesion_inpainting.bundle import network_words as network_words_of_boxes
from lesionbrush.systems.mddpm.card import BoxCard, SliceCard
from lesionbrush.systems.mddpm.hooks import HOOKS
from lesionbrush.systems.mddpm.request import MDDPMRequest, WholeRequest
from lesionbrush.systems.mddpm.whole_hooks import HOOKS as WHOLE

_MODULE = "lesionbrush.systems.mddpm.network"


def _load_slices(installed: InstalledModel, device: str | None) -> Any:
    from lesionbrush.systems.mddpm.slices import MDDPM

    return MDDPM.load(installed, device)


def _load_boxes(installed: InstalledModel, device: str | None) -> Any:
    from lesionbrush.systems.mddpm.boxes import MDDPM3D

    return MDDPM3D.load(installed, device)


def _load_whole(installed: InstalledModel, device: str | None) -> Any:
    from lesionbrush.systems.mddpm.whole import MDDPMWhole

    return MDDPMWhole.load(installed, device)


def _evaluate_slices(model: Any, data: Path, cases: int) -> Mapping[str, float]:
    from lesionbrush.systems.mddpm.evaluation import evaluate_slices

    return evaluate_slices(model, data, cases)


def _evaluate_whole(model: Any, data: Path, cases: int) -> Mapping[str, float]:
    from lesionbrush.systems.mddpm.evaluation import evaluate_whole

    return evaluate_whole(model, data, cases)


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
        load=_load_slices,
        bundle=_network_words,
        evaluate=_evaluate_slices,
    ),
    System(
        name="mddpm_3d",
        title="mDDPM in 3D",
        request=MDDPMRequest,
        card=BoxCard,
        hooks=HOOKS,
        load=_load_boxes,
        bundle=network_words_of_boxes,
    ),
    System(
        name="mddpm_whole",
        title="mDDPM, whole slices",
        request=WholeRequest,
        card=SliceCard,
        hooks=WHOLE,
        load=_load_whole,
        bundle=_network_words,
        evaluate=_evaluate_whole,
    ),
)
