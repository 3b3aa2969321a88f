"""What a layout may hold, by name: the 15 organs of AMOS, the body around them, and as an option its tissues.

Names decide, never numbers. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Literal, get_args

from lesionbrush.errors import InvalidRequest
from lesionbrush.transfer.names import OrganName

Painted = Literal[
    "spleen",
    "right kidney",
    "left kidney",
    "gallbladder",
    "esophagus",
    "liver",
    "stomach",
    "aorta",
    "inferior vena cava",
    "pancreas",
    "right adrenal gland",
    "left adrenal gland",
    "duodenum",
    "bladder",
    "prostate or uterus",
    "body",
]
"""What a mask may be called."""
ORGANS = get_args(Painted)[:-1]
"""In the order of AMOS, whose codes are their numbers here."""
TISSUES = ("fat", "muscle", "bone", "air")
CLASSES = ("outside", *ORGANS, "body", *TISSUES)
OUTSIDE, BODY = 0, len(ORGANS) + 1
FAT, MUSCLE, BONE, AIR = range(BODY + 1, BODY + 5)
UNKNOWN = 255
"""Where nobody says what is there: the network is told nothing, as when the whole layout is dropped."""
Numbers = tuple[int, ...]
_OTHER_WORDS = {
    "prostate or uterus": ("prostate", "uterus", "prostate/uterus", "prostate uterus"),
    "bladder": ("urinary bladder",),
    "aorta": ("arota", "abdominal aorta"),
    "inferior vena cava": ("ivc", "vena cava", "postcava"),
    "gallbladder": ("gall",),
    "esophagus": ("eso",),
    "stomach": ("sto",),
    "pancreas": ("pan",),
    "spleen": ("spl",),
    "liver": ("liv",),
    "right kidney": ("rkid",),
    "left kidney": ("lkid",),
    "right adrenal gland": ("rad", "right adrenal"),
    "left adrenal gland": ("lad", "left adrenal"),
    "duodenum": ("duo",),
    "outside": ("background", "exterior"),
}
"""AMOS's own spelling, short names of BTCV, TotalSegmentator's; sides and separators are read anyway."""
_KINDS = (
    (r"vertebrae?|ribs?|hip|sacrum|femur|humerus|scapula|clavicula|sternum|skull|bones?|costal", BONE),
    (r"muscles?|autochthon|gluteus|iliopsoas|psoas", MUSCLE),
    (r"fat|adipose", FAT),
    (r"lungs?|lobe|trachea|bronch\w*|air|gas", AIR),
    (r"body|skin|trunk|thorax|abdomen|tissue|colon|bowel|intestine|heart|spinal|vein|arter\w+|iliac", BODY),
)
"""Structures that are no organ of ours, but known to be tissue of a kind, or nothing but body."""


def class_name(number: int) -> str:
    return "unknown" if number == UNKNOWN else CLASSES[number]


def find_classes(name: str, table: Mapping[str, str] | None = None) -> Numbers:
    """The class of a structure; right and left of one that has sides and names none; () for none.

    table: what the user says that names stand for, which counts first.
    """
    said = (table or {}).get(name.strip().lower())
    wanted = OrganName.of(name if said is None else said)
    if wanted in _known():
        return _known()[wanted]
    words = re.sub(r"[\W_]+", " ", name if said is None else said).lower()
    kinds = [number for kind, number in _KINDS if re.search(rf"(?<![a-z])({kind})(?![a-z])", words)]
    return tuple(kinds[:1])


@cache
def _known() -> dict[OrganName, Numbers]:
    found: dict[OrganName, Numbers] = {}
    for number, name in enumerate(CLASSES):
        for word in (name, *_OTHER_WORDS.get(name, ())):
            found[OrganName.of(word)] = (number,)
    for organ in ("kidney", "adrenal gland", "adrenal"):
        sides = tuple(found[OrganName.of(f"{side} {organ}")][0] for side in ("right", "left"))
        found[OrganName.of(organ)] = sides
    return found


def read_table(text: str) -> dict[str, str]:
    """`my name = liver; other = body` as a table. InvalidRequest for what is no class."""
    table = {}
    for entry in filter(None, (part.strip() for part in re.split(r"[;\n]", text))):
        name, _, meant = (part.strip().lower() for part in entry.partition("="))
        if not name or not find_classes(meant):
            raise InvalidRequest(
                f"classes: {entry!r} is no 'name = class' with a class of {', '.join(CLASSES)}; separate "
                "entries by semicolons"
            )
        table[name] = meant
    return table
