"""The network of lesion inpainting in soft tissue in the words of a MONAI bundle. Imports no torch."""

from __future__ import annotations

from lesionbrush.core.registry import ModelCard
from lesionbrush.systems.contract import NetworkWords
from lesionbrush.systems.lesion_inpainting.bundle import lesion_unet_words
from lesionbrush.systems.lesion_inpainting.soft_tissue.told import TOLD


def network_words(card: ModelCard) -> NetworkWords:
    return lesion_unet_words(card, len(TOLD), ("planned density", "where it is planned"))
