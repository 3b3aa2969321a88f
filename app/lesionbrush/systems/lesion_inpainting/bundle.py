"""The network of lesion inpainting in the words of a MONAI bundle. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

from lesionbrush.core.registry import ModelCard
from lesionbrush.systems.bundling import component, image, numbers
from lesionbrush.systems.contract import NetworkWords
from lesionbrush.systems.lesion_inpainting.card import NetworkShape

_MODULE = "lesionbrush.systems.lesion_inpainting.network"


def network_words(card: ModelCard) -> NetworkWords:
    """Of any card whose section has a `NetworkShape` and attributes."""
    return lesion_unet_words(card, len(card.section["attributes"]))


def lesion_unet_words(card: ModelCard, attributes: int, more: Sequence[str] = ()) -> NetworkWords:
    """more: what the network sees beside the context, its visibility and the mask."""
    shape = NetworkShape.model_validate(card.section["network"])
    facts = {"attributes": attributes, **shape.model_dump(mode="json")}
    seen = ("visible context", "visibility", "lesion mask", *more)
    if more:
        facts["conditions"] = len(seen)
    sides = [f"{2 ** len(shape.channels)}*n"] * 3
    inputs = {
        "image": image(("noisy image",), sides),
        "alpha": numbers(1, "float32", [0, 1]),
        "sigma": numbers(1, "float32", [0, 1]),
        "conditions": image(seen, sides),
        "attributes": numbers(2 * attributes, "float32", []),
    }
    forward = {"inputs": inputs, "outputs": {"pred": image(("clean image",), sides)}}
    return NetworkWords(component(f"{_MODULE}.LesionUNet", f"{_MODULE}.LesionUNetConfig", facts), forward)
