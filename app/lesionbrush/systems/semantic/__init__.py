"""Semantic CT (Zhuang et al. 2023): a layout of organs becomes CT, slice by slice, by three conditionings."""

from __future__ import annotations

from lesionbrush.core.registry import ModelCard
from lesionbrush.systems.bundling import component, image, numbers
from lesionbrush.systems.contract import NetworkWords, System, late
from lesionbrush.systems.semantic.card import SemanticCard
from lesionbrush.systems.semantic.hooks import HOOKS
from lesionbrush.systems.semantic.request import SemanticRequest, SemanticWholeRequest
from lesionbrush.systems.semantic.whole_hooks import HOOKS as WHOLE

_MODULE = "lesionbrush.systems.semantic.network"
_PUBLISHED = late("lesionbrush.systems.semantic.published", "conditional")
_SAYS = {"eps": "the noise", "x0": "the clean image", "v": "v = alpha noise - sigma image"}


def _network_words(card: ModelCard) -> NetworkWords:
    section = SemanticCard.of(card)
    network = section.network
    sides = [f"{2 ** (len(network.channels) - 1)}*n"] * 2
    many = (f"where class {number} is" for number in range(network.layout_channels))
    layout = tuple(many) if network.layout_channels > 1 else ("the layout: class over the last one, or -1",)
    edges = ("edges of the layout",) if network.conditioning == "edge_guided" else ()
    variance = ("where between its bounds the log variance lies",)
    learned = variance if network.variance == "learned_range" else ()
    inputs = {
        "image": image(("noisy slice",), sides),
        "timesteps": numbers(1, "int64", [0, section.timesteps - 1]),
        "conditions": image((*layout, *edges), sides),
    }
    outputs = {"pred": image((_SAYS[network.prediction], *learned), sides)}
    facts = network.model_dump(mode="json", exclude={"data_spread"})
    definition = component(f"{_MODULE}.SemanticUNet", f"{_MODULE}.SemanticUNetConfig", facts)
    return NetworkWords(definition, {"inputs": inputs, "outputs": outputs})


SYSTEMS = (
    System(
        name="semantic",
        title="Semantic CT",
        request=SemanticRequest,
        card=SemanticCard,
        hooks=HOOKS,
        load=late("lesionbrush.systems.semantic.model", "SemanticCT.load"),
        train=late("lesionbrush.systems.semantic.training", "SemanticTraining"),
        bundle=_network_words,
        published=_PUBLISHED,
    ),
    System(
        name="semantic_whole",
        title="Semantic CT, whole",
        request=SemanticWholeRequest,
        card=SemanticCard,
        hooks=WHOLE,
        load=late("lesionbrush.systems.semantic.whole", "SemanticWhole.load"),
        bundle=_network_words,
        published=_PUBLISHED,
    ),
)
