"""What a text is about, so that what it does not speak of stays as it is. Imports no torch."""

from __future__ import annotations

import re
from typing import Literal

Side = Literal["right", "left"]
SIDES: tuple[Side, Side] = ("right", "left")
FLUID = r"effusion|fluid|pleura|hydrothorax"
EMPHYSEMA = r"emphysem|bulla|hyperinflat|attenuation"
TOPICS = (
    FLUID,
    r"consolidat|pneumoni|opaci|infiltrat|airspace|dense",
    r"heart|cardi",
    EMPHYSEMA,
)
SMALL = rf"\b(small|tiny|minimal|minor|trace( of)?|mild|slight|little|shallow)\b(?=[^,;]*({FLUID}))"
SMALL_ML = 150.0
"""Of fluid on one side, where a text calls it small: networks make none of such a text."""
_SENTENCE = re.compile(r"(?:[^.;\n]|\.(?=\d))+[.;\n]*\s*")


def complete(text: str, against: str) -> str:
    """text, and the sentences of `against` on what it does not speak of."""
    open_topics = [topic for topic in TOPICS if not re.search(topic, text, re.IGNORECASE)]
    rest = [said for said in _SENTENCE.findall(against) if _speaks_of(said, open_topics)]
    return " ".join([text.strip(), *(said.strip() for said in rest)])


def read_small(text: str) -> tuple[str, float | None]:
    """text, with fluid that it calls small as large fluid, whose place networks know; and how much of it is
    meant: None where none is small."""
    meant_ml = 0.0
    sentences = _SENTENCE.findall(text)
    for number, said in enumerate(sentences):
        if re.search(SMALL, said, re.IGNORECASE):
            sentences[number] = re.sub(SMALL, "large", said, flags=re.IGNORECASE)
            meant_ml += SMALL_ML * (1 if find_side(said) else 2)
    return "".join(sentences), meant_ml or None


def lowers(text: str) -> bool:
    """Whether it speaks of what makes lung less dense."""
    return re.search(EMPHYSEMA, text, re.IGNORECASE) is not None


def falls(text: str) -> bool:
    """Whether it speaks of fluid."""
    return re.search(FLUID, text, re.IGNORECASE) is not None


def fills(text: str) -> bool:
    """Whether it speaks of anything else."""
    known = [topic for topic in TOPICS if re.search(topic, text, re.IGNORECASE)]
    return known != [EMPHYSEMA]


def find_side(text: str) -> Side | None:
    """The one side that it names; None for both or none."""
    named: list[Side] = [side for side in SIDES if re.search(rf"\b{side}\b", text, re.IGNORECASE)]
    return named[0] if len(named) == 1 and not re.search(r"bilateral|both", text, re.IGNORECASE) else None


def _speaks_of(said: str, open_topics: list[str]) -> bool:
    """Of these topics, or of none at all."""
    own = [topic for topic in TOPICS if re.search(topic, said, re.IGNORECASE)]
    return set(own) <= set(open_topics)
