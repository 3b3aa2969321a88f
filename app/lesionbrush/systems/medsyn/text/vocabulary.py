"""Text as numbers of words: a fixed list, so that a text of which no word is known can be said to be one.

Numbers are buckets, ten to a decade and of either sign, after litres have become millilitres and centimetres
millimetres. Imports no torch.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

PADDING, WHOLE, BETWEEN, MASK, UNKNOWN = SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]")
"""[CLS] stands before every text, for all of it; [SEP] between findings and impression."""
STOP, COMMA = ".", ","
PER_DECADE, DECADES = 10, (-2, 4)
ZERO = "[0]"
UNITS = {
    **dict.fromkeys(("l", "liter", "liters", "litre", "litres"), ("ml", 1000.0)),
    **dict.fromkeys(("ml", "cc", "milliliter", "milliliters", "millilitre", "millilitres"), ("ml", 1.0)),
    **dict.fromkeys(("cm", "centimeter", "centimeters", "centimetre", "centimetres"), ("mm", 10.0)),
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres"), ("mm", 1.0)),
    **dict.fromkeys(("%", "percent"), ("%", 1.0)),
}
TIMES = ("x", "×", "by", "and", "to")
"""Between two numbers of one unit."""
_NUMBER = r"(?:(?<![\w.,)])[-\u2212])?\d+(?:[.,]\d+)*"
_PART = re.compile(rf"{_NUMBER}|[^\W\d_]+|[%×.;,\n]")


def _buckets() -> tuple[str, ...]:
    low, high = (decade * PER_DECADE for decade in DECADES)
    return (ZERO, *(f"[{sign}{k}]" for sign in "+-" for k in range(low, high + 1)))


@dataclass(frozen=True)
class Reading:
    """The words of a text that an encoder knows, and those it does not, as typed, each once."""

    known: tuple[str, ...]
    unknown: tuple[str, ...]


@dataclass(frozen=True)
class Vocabulary:
    """words: without special tokens and buckets, which every vocabulary has before them."""

    words: tuple[str, ...]

    @classmethod
    def of(cls, texts: Iterable[str], least: int = 1) -> Vocabulary:
        """The words that occur so often, in the order of the alphabet."""
        counts = Counter(token for text in texts for _, token in split(text) if not token.startswith("["))
        return cls(tuple(sorted(word for word, count in counts.items() if count >= least)))

    @cached_property
    def index(self) -> dict[str, int]:
        """The number of each token; padding is 0."""
        return {token: k for k, token in enumerate((*SPECIAL, *_buckets(), *self.words))}

    def __len__(self) -> int:
        return len(self.index)

    def numbers(self, text: str) -> list[int]:
        """One for each token, without special ones; what is not known is [UNK]."""
        unknown = self.index[UNKNOWN]
        return [self._number(token) or unknown for _, token in split(text)]

    def read(self, text: str) -> Reading:
        said = [(typed, token) for typed, token in split(text) if token not in (STOP, COMMA)]
        known = dict.fromkeys(typed for typed, token in said if self._number(token) is not None)
        unknown = dict.fromkeys(typed for typed, token in said if self._number(token) is None)
        return Reading(tuple(known), tuple(unknown))

    def _number(self, token: str) -> int | None:
        """Also of a plural whose singular is known."""
        found = self.index.get(token)
        return self.index.get(token[:-1]) if found is None and token.endswith("s") else found


def split(text: str) -> list[tuple[str, str]]:
    """Each part of a text as typed, and its token: small letters, one unit for each kind, numbers as buckets.

    A sentence may end with a stop, a semicolon or a line; the last end is left out. Brackets, colons and
    hyphens are.
    """
    typed = _PART.findall(text.lower())
    found: list[tuple[str, str]] = []
    factor = 1.0
    for part in reversed(typed):
        if part[-1].isdigit():
            found.append((part, bucket(part, factor)))
            continue
        unit, of_unit = UNITS.get(part, (part, 1.0))
        factor = factor if part in TIMES else of_unit
        found.append((part, STOP if part in ";\n" else unit))
    return _without_ends(found[::-1])


def _without_ends(parts: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """One end where there are several, none at the beginning and at the end."""
    kept: list[tuple[str, str]] = []
    for part in parts:
        if part[1] != STOP or (kept and kept[-1][1] != STOP):
            kept.append(part)
    return kept[:-1] if kept and kept[-1][1] == STOP else kept


def bucket(typed: str, factor: float = 1.0) -> str:
    """The token of a number: "1200", "1,200" and "1.2" times 1000 are of one bucket. [UNK]: a date."""
    value = read_number(typed)
    if value is None:
        return UNKNOWN
    if value == 0:
        return ZERO
    low, high = (decade * PER_DECADE for decade in DECADES)
    place = math.floor(PER_DECADE * math.log10(abs(value * factor)) + 1e-6)
    return f"[{'-' if value < 0 else '+'}{min(max(place, low), high)}]"


def read_number(typed: str) -> float | None:
    """A comma before three digits is one of thousands, any other is a decimal one. None: it is no number."""
    plain = typed.replace("\u2212", "-")
    if re.fullmatch(r"-?[1-9]\d{0,2}(,\d{3})+(\.\d+)?", plain):
        return float(plain.replace(",", ""))
    try:
        return float(plain.replace(",", "."))
    except ValueError:
        return None
