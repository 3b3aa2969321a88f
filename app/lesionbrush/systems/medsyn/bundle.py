"""The networks of MedSyn in the words of a MONAI bundle: what makes whole chests. Imports no torch."""

from __future__ import annotations

from lesionbrush.core.registry import ModelCard
from lesionbrush.systems.bundling import component, image, numbers
from lesionbrush.systems.contract import NetworkWords
from lesionbrush.systems.medsyn.card import MedSynCard, UNetShape
from lesionbrush.systems.medsyn.channels import CHANNELS

_MODULE = "lesionbrush.systems.medsyn.network"
_SAYS = {"eps": "the noise", "x0": "clean", "v": "v = alpha noise - sigma image, of"}
TOKENS = 128


def network_words(card: ModelCard) -> NetworkWords:
    """Raises AssertionError for the networks that the authors of MedSyn gave out."""
    section = MedSynCard.of(card)
    assert isinstance(section.low, UNetShape)
    facts = section.model_dump(mode="json", include={"low", "high", "words", "low_side", "residual"})
    definition = component(f"{_MODULE}.StoredUNets", f"{_MODULE}.NetworkParts", facts)
    sides = [f"{section.low.fold * 2 ** (len(section.low.channels) - 1)}*n"] * 3
    expected = tuple(f"{name} as expected" for name in CHANNELS) if section.residual else ()
    tokens = TOKENS if section.words is None else section.words.longest
    inputs = {
        "image": image([f"noisy {name}" for name in CHANNELS], sides),
        "timesteps": numbers(1, "int64", [0, section.timesteps - 1]),
        "shown": image(("where there is data", *expected), sides),
        "text": {
            **numbers(tokens, "float32", [-10, 10]),
            "spatial_shape": [str(section.low.text_width)],
        },
    }
    made = image([f"{_SAYS[section.prediction]} {name}" for name in CHANNELS], sides)
    return NetworkWords(definition, {"inputs": inputs, "outputs": {"pred": made}})
