"""Nodules that a text asks for, taken out of it: they are smaller than what a network of whole chests sees.

A sentence is read in parts, between commas and joining words. What is taken out is the word with the words
around it that say where a nodule is or what it is like, and the parts behind it that say nothing else.
Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lesionbrush.anatomy.chest.naming import LOBES
from lesionbrush.reports.findings import Texture
from lesionbrush.systems.medsyn.text.vocabulary import UNITS, read_number

NoduleSide = Literal["right", "left"]
SEVERAL, MOST = 3, 10
COUNTS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
COUNTS |= dict.fromkeys(("several", "multiple", "many", "some", "few"), SEVERAL)
TEXTURES: dict[Texture, str] = {
    "part-solid": r"(?:part|semi|sub|partly|partially)[\s-]*solid|\bmixed\b",
    "ground-glass": r"ground[\s-]*glass|\bgg[on]s?\b|non[\s-]*solid",
    "solid": r"\bsolid\b",
}
"""The first that is found counts: "part-solid" holds "solid"."""
SHORT_LOBES = {"rul": "right upper", "rml": "right middle", "rll": "right lower", "lul": "left upper"}
SHORT_LOBES |= {"lll": "left lower", "lingula": "left upper"}
_DETAIL = """
a an the one there this that in on of at its is are it and with which measuring measures about size sized
approximately diameter long wide mean hu ml mm cm x by solid part partly partially semi sub non mixed
subsolid semisolid ground glass ggo ggos ggn ggns pure right left lung lungs lobe upper middle lower apex
base lingula rul rml rll lul lll located lying seen noted present round small large tiny big side both
bilateral each pulmonary calcified spiculated smooth outside as outlined centimetre centimetres
centimeter centimeters millimetre millimetres millimeter millimeters
"""
DETAIL = frozenset((*_DETAIL.split(), *COUNTS))
"""What says no more than where a nodule is or what it is like."""
_NODULE = re.compile(r"\b(?:micro)?(nodules?|ggns?)\b", re.IGNORECASE)
_SENTENCE = re.compile(r"(?:[^.;\n]|\.(?=\d))+[.;\n]*\s*")
_JOINT = re.compile(
    r"(\s*,\s*(?:(?:and|or|but|with|nor|without)\s+)?|\s+(?:and|or|nor|with|without|but)\s+)", re.I
)
_NOT = re.compile(r"\b(?:no|not|without|absent|absence|free|negative|never|lack|nor)\b", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]+|[-\u2212]?\d+(?:[.,]\d+)*")
_SIZE = re.compile(
    r"(\d[\d.,]*)\s*(?:(?:x|×|by)\s*(\d[\d.,]*)\s*)?(?:(?:x|×|by)\s*\d[\d.,]*\s*)?-?\s*([a-z]+)"
)
_COUNT = re.compile(r"\b(\d+)\s+(?!mm|cm|x\b|by\b)(?:[a-z-]+\s+)*?nodules")
_LOBE = re.compile(r"\b(upper|middle|lower)\s+lobe")


@dataclass(frozen=True)
class NoduleWish:
    """One nodule; None where the text leaves it open.

    diameter_mm: the mean of two axes where two are said. lobe: its name in LOBES; side: that of the lobe,
    where there is one.
    """

    diameter_mm: float | None = None
    texture: Texture | None = None
    lobe: str | None = None
    side: NoduleSide | None = None


@dataclass
class _Clause:
    """joint: what stands before it. taken: what is said of a nodule; left: the rest."""

    joint: str
    left: str
    denied: bool
    taken: str = ""


def take_nodules(text: str) -> tuple[str, tuple[NoduleWish, ...]]:
    """The text without what it says of nodules that are to be there, and these, in its order.

    "No nodule" is no wish, and stays. "Two nodules" are two wishes, "bilateral nodules" one on either side,
    and "nodules" are two.
    """
    if not _NODULE.search(text):
        return text, ()
    rest: list[str] = []
    wishes: list[NoduleWish] = []
    for sentence in _SENTENCE.findall(text):
        parts = _parts(sentence)
        said = _take(parts)
        rest.append(_rest(parts, sentence) if said else sentence)
        wishes += [wish for one in said for wish in _wishes(one.lower())]
    return "".join(rest).strip(), tuple(wishes)


def _parts(sentence: str) -> list[_Clause]:
    pieces = ["", *_JOINT.split(sentence.rstrip(" .;\n"))]
    parts: list[_Clause] = []
    for joint, text in zip(pieces[::2], pieces[1::2], strict=True):
        parts.append(_Clause(joint, text, _is_denied(joint, text, parts)))
    return parts


def _is_denied(joint: str, text: str, before: Sequence[_Clause]) -> bool:
    """By itself; or as the next in a list that is: "no mass or nodule", but not "no mass, solid nodule"."""
    if _NOT.search(f"{joint} {text}"):
        return True
    if not before or not before[-1].denied or re.search("but|with", joint, re.IGNORECASE):
        return False
    bare = not set(_words(text)) & DETAIL and not re.search(r"\d", text)
    return bare or "or" in joint.lower().split()


def _take(parts: Sequence[_Clause]) -> list[str]:
    """What is said of each nodule; the parts are left without it."""
    said: list[list[_Clause]] = []
    open_run = False
    for part in parts:
        if _NODULE.search(part.left) and not part.denied:
            part.left, part.taken = _cut(part.left)
            said.append([part])
            open_run = not part.left
        elif said and open_run and not part.denied and _is_detail(part.left):
            part.left, part.taken = "", part.left
            said[-1].append(part)
        else:
            open_run = False
    if said and said[0][0] is not parts[0]:
        _take_opening(parts, said[0])
    return [" ".join(one.taken for one in run) for run in said]


def _take_opening(parts: Sequence[_Clause], run: list[_Clause]) -> None:
    """ "In the right upper lobe, a nodule": what a sentence begins with belongs to the first nodule."""
    before = parts[: parts.index(run[0])]
    if all(_is_detail(part.left) and not part.denied for part in before):
        for part in before:
            part.left, part.taken = "", part.left
        run[:0] = before


def _cut(text: str) -> tuple[str, str]:
    """What is left, and the word with its details around it."""
    found = _NODULE.search(text)
    assert found is not None
    start, end = found.span()
    for word in reversed(list(_WORD.finditer(text, 0, start))):
        if not _is_detail(word[0]):
            break
        start = word.start()
    for word in _WORD.finditer(text, end):
        if not _is_detail(word[0]):
            break
        end = word.end()
    left = f"{text[:start].rstrip()} {text[end:].lstrip(' :()')}".strip()
    return (left if _words(left) else ""), text[start:end]


def _rest(parts: Sequence[_Clause], sentence: str) -> str:
    """Of a sentence, with its end; empty when nothing is left."""
    said = ""
    for part in (part for part in parts if part.left):
        joint = part.joint if said or _NOT.search(part.joint) else ""
        said += joint + part.left
    end = sentence[len(sentence.rstrip(" .;\n")) :]
    return said.strip() + end if said else ""


def _wishes(said: str) -> Iterator[NoduleWish]:
    """said: of one nodule, or of several that are alike, in small letters."""
    texture = next((name for name, ways in TEXTURES.items() if re.search(ways, said)), None)
    lobe, sides = _place(said)
    wish = NoduleWish(_diameter_mm(said), texture, lobe, sides[0] if len(sides) == 1 else None)
    count = _count(said)
    if len(sides) == 2 and lobe is None:
        yield from (replace(wish, side=sides[k % 2]) for k in range(max(2, count)))
    else:
        yield from [wish] * count


def _count(said: str) -> int:
    if number := _COUNT.search(said):
        return min(max(1, int(number[1])), MOST)
    plural = 2 if re.search(r"(nodule|ggn)s\b", said) else 1
    return next((COUNTS[word] for word in _words(said) if word in COUNTS), plural)


def _place(said: str) -> tuple[str | None, tuple[NoduleSide, ...]]:
    """The lobe by its name in LOBES, and the sides."""
    for short, long in SHORT_LOBES.items():
        said = re.sub(rf"\b{short}\b", f"{long} lobe", said)
    sides: tuple[NoduleSide, ...] = tuple(
        side for side in ("right", "left") if re.search(rf"\b{side}\b", said)
    )
    if re.search(r"\b(bilateral|both|each)\b", said):
        sides = ("right", "left")
    which = _LOBE.search(said)
    if which is not None and not sides and which[1] == "middle":
        sides = ("right",)
    name = f"{sides[0]} lung {which[1]} lobe" if which is not None and len(sides) == 1 else None
    return (name if name in LOBES.values() else None), sides


def _diameter_mm(said: str) -> float | None:
    """The mean of the first two axes that are said."""
    axes: list[float] = []
    for *numbers, typed in _SIZE.findall(said):
        unit, factor = UNITS.get(typed, ("", 0.0))
        values = [read_number(number.rstrip(".,")) for number in numbers if number]
        axes += [value * factor for value in values if value and unit == "mm"]
    return round(sum(axes[:2]) / len(axes[:2]), 2) if axes else None


def _is_detail(text: str) -> bool:
    return all(word in DETAIL or word[-1].isdigit() for word in _words(text))


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]
