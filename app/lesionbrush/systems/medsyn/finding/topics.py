"""What a text is about, so that what it does not speak of stays as it is. Imports no torch."""

from __future__ import annotations

import re

TOPICS = (
    r"effusion|fluid|pleura|hydrothorax",
    r"emphysem|bulla|hyperinflat|attenuation",
    r"consolidat|pneumoni|opaci|infiltrat|airspace|dense",
    r"heart|cardi",
)
_SENTENCE = re.compile(r"(?:[^.;\n]|\.(?=\d))+[.;\n]*\s*")


def complete(text: str, against: str) -> str:
    """text, and the sentences of `against` on what it does not speak of."""
    open_topics = [topic for topic in TOPICS if not re.search(topic, text, re.IGNORECASE)]
    rest = [said for said in _SENTENCE.findall(against) if _speaks_of(said, open_topics)]
    return " ".join([text.strip(), *(said.strip() for said in rest)])


def _speaks_of(said: str, open_topics: list[str]) -> bool:
    """Of these topics, or of none at all."""
    own = [topic for topic in TOPICS if re.search(topic, said, re.IGNORECASE)]
    return set(own) <= set(open_topics)
