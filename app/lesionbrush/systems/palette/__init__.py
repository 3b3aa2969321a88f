"""Palette (Saharia et al. 2022) as Sedykh 2024 inpaints CT with it: slices filled under a mask or a box."""

from __future__ import annotations

from lesionbrush.core.registry import ModelCard
from lesionbrush.systems.bundling import component, image, numbers
from lesionbrush.systems.contract import NetworkWords, System, late
from lesionbrush.systems.palette.card import PaletteCard
from lesionbrush.systems.palette.hooks import HOOKS
from lesionbrush.systems.palette.request import PaletteRequest

_MODULE = "lesionbrush.systems.palette.network"
_SAYS = {"eps": "the noise in the hole", "x0": "the clean image", "v": "v, of the hole"}


def _network_words(card: ModelCard) -> NetworkWords:
    network = PaletteCard.of(card).network
    facts = network.model_dump(mode="json", exclude={"prediction", "data_spread"})
    sides = [f"{2 ** (len(network.channels) - 1)}*n"] * 2
    told = ("the slice with noise in its hole", *(("the hole",) if network.shows_hole else ()))
    inputs = {
        "image": image(("the slice, noisy in its hole",), sides),
        "gamma": numbers(1, "float32", [0, 1]),
        "conditions": image(told, sides),
        "fill": numbers(1, "int64", [0, network.classes]),
    }
    outputs = {"pred": image((_SAYS[network.prediction],), sides)}
    definition = component(f"{_MODULE}.PaletteUNet", f"{_MODULE}.PaletteUNetConfig", facts)
    return NetworkWords(definition, {"inputs": inputs, "outputs": outputs})


SYSTEMS = (
    System(
        name="palette",
        title="Palette",
        request=PaletteRequest,
        card=PaletteCard,
        hooks=HOOKS,
        load=late("lesionbrush.systems.palette.model", "Palette.load"),
        train=late("lesionbrush.systems.palette.training", "PaletteTraining"),
        bundle=_network_words,
        evaluate=late("lesionbrush.systems.palette.evaluation", "evaluate_fills"),
    ),
)
