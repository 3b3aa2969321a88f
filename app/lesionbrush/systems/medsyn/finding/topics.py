"""What a text is about, so that what it does not speak of stays as it is. Imports no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
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
DENIED = r"\b(no|not|without|absent|absence|clear|free|negative|resolved|normal|unremarkable)\b"
SMALL_ML = {r"trace(?: of)?|tiny|minimal": 40.0, r"small|minor|mild|slight|little|shallow": 150.0}
"""Of fluid on one side, where a text calls it so: networks make none of such a text."""
_CLAUSE = re.compile(r"([.,;:\n]+|\bbut\b|\bwhile\b)", re.IGNORECASE)
_SENTENCE = re.compile(r"(?:[^.;\n]|\.(?=\d))+[.;\n]*\s*")


def complete(text: str, against: str) -> str:
    """text, and the sentences of `against` on what it does not speak of."""
    open_topics = [topic for topic in TOPICS if topic not in topics_of(text)]
    rest = [said for said in _SENTENCE.findall(against) if _speaks_of(said, open_topics)]
    return " ".join([text.strip(), *(said.strip() for said in rest)])


def read_small(text: str) -> tuple[str, float | None]:
    """text, with fluid that it calls small as large fluid, whose place networks know; and how much of it is
    meant: None where none is small, or where other fluid is not."""
    fluid = [clause for clause in assertions(text) if FLUID in clause.topics]
    ml = [_small_ml(clause.said) for clause in fluid if re.search(FLUID, clause.said, re.IGNORECASE)]
    if not ml or None in ml:
        return text, None
    enlarged = "".join(
        _enlarge(piece) if re.search(FLUID, piece, re.IGNORECASE) else piece for piece in _CLAUSE.split(text)
    )
    sides = 1 if find_side(text) or len(ml) > 1 else 2
    return enlarged, sides * sum(one for one in ml if one is not None)


def _small_ml(said: str) -> float | None:
    for words, ml in SMALL_ML.items():
        if re.search(rf"\b({words})\b", said, re.IGNORECASE):
            return ml
    return None


def _enlarge(said: str) -> str:
    return re.sub(rf"\b({'|'.join(SMALL_ML)})\b", "large", said, flags=re.IGNORECASE)


@dataclass(frozen=True)
class Assertion:
    """A clause that denies nothing. topics: of `TOPICS`, its own or those that its sentence began with; none
    where nothing known was spoken of."""

    said: str
    topics: tuple[str, ...]


def assertions(text: str) -> list[Assertion]:
    """What a text says that there is: neither "no effusion" nor "the right lung is clear"."""
    found = list[Assertion]()
    for sentence in _SENTENCE.findall(text):
        topics: tuple[str, ...] = ()
        for clause in _CLAUSE.split(sentence)[::2]:
            topics = topics_of(clause) or topics
            if clause.strip() and not re.search(DENIED, clause, re.IGNORECASE):
                found.append(Assertion(clause, topics))
    return found


def topics_of(said: str) -> tuple[str, ...]:
    return tuple(topic for topic in TOPICS if re.search(topic, said, re.IGNORECASE))


def denies_all(text: str) -> bool:
    """Whether it speaks of findings, and of each as of one that is not there."""
    return bool(topics_of(text)) and not any(clause.topics for clause in assertions(text))


def lowers(text: str) -> bool:
    """Whether it says that there is what makes lung less dense."""
    return any(EMPHYSEMA in clause.topics for clause in assertions(text))


def falls(text: str) -> bool:
    """Whether it says that there is fluid."""
    return any(FLUID in clause.topics for clause in assertions(text))


def fills(text: str) -> bool:
    """Whether it says that there is anything else than what makes lung less dense."""
    return not topics_of(text) or any(set(clause.topics) - {EMPHYSEMA} for clause in assertions(text))


def find_side(text: str, *, low: bool = False) -> Side | None:
    """The one side of what it says that there is, of what makes lung less dense if low, else of the rest;
    None for both or none."""
    wanted = [one.said for one in assertions(text) if _is_of(one.topics, low)]
    said = " ".join(wanted)
    named: list[Side] = [side for side in SIDES if re.search(rf"\b{side}\b", said, re.IGNORECASE)]
    return named[0] if len(named) == 1 and not re.search(r"bilateral|both", said, re.IGNORECASE) else None


def _is_of(topics: tuple[str, ...], low: bool) -> bool:
    return EMPHYSEMA in topics if low else bool(set(topics) - {EMPHYSEMA})


def _speaks_of(said: str, open_topics: list[str]) -> bool:
    """Of these topics, or of none at all."""
    return set(topics_of(said)) <= set(open_topics)
