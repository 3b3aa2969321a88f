"""What organs are called, in any layout: names decide, and some say the same in other words.

`right kidney` (AMOS), `kidney_right` (TotalSegmentator) and `Right Kidney` (3D Slicer) are one name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Side = Literal["left", "right"]
_SIDES: dict[str, Side] = {
    "left": "left",
    "l": "left",
    "lt": "left",
    "right": "right",
    "r": "right",
    "rt": "right",
}
_SAME = {"gall bladder": "gallbladder", "oesophagus": "esophagus", "postcava": "inferior vena cava"}
_PLURALS = {
    "kidneys": "kidney",
    "lungs": "lung",
    "adrenals": "adrenal",
    "glands": "gland",
    "muscles": "muscle",
}


@dataclass(frozen=True)
class OrganName:
    """organ: its words in order of the alphabet, without the side; side: None where none is said."""

    organ: tuple[str, ...]
    side: Side | None

    @classmethod
    def of(cls, text: str) -> OrganName:
        words = re.findall(r"[^\W_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).lower())
        if set(words) <= set(_SIDES):  # a side of nothing is a name as any other
            return cls(tuple(sorted(words)), None)
        side = next((_SIDES[word] for word in words if word in _SIDES), None)
        rest = " ".join(_PLURALS.get(word, word) for word in words if word not in _SIDES)
        for other, known in _SAME.items():
            rest = rest.replace(other, known)
        return cls(tuple(sorted(rest.split())), side)

    def is_opposite(self, other: OrganName) -> bool:
        """The same organ of the other side."""
        return self.organ == other.organ and {self.side, other.side} == {"left", "right"}


def match_names(wanted: str, names: Iterable[str], *, other_side: bool = True) -> list[str]:
    """Those of `names` that stand for the same organ: of the same side first, then those of the other side.

    A name without a side stands for both. Several names of one rank keep their order.
    """
    own = OrganName.of(wanted)
    same = [name for name in dict.fromkeys(names) if OrganName.of(name).organ == own.organ]
    if not other_side:
        same = [name for name in same if not OrganName.of(name).is_opposite(own)]
    return sorted(same, key=lambda name: OrganName.of(name).is_opposite(own))
