"""What a segment is by its SNOMED CT code, whatever it is called.

3D Slicer keeps the code in a tag of the segment: `context~category~type~modifier~...`, each of the last three
as `scheme^code^meaning`. Its module sends it behind the name: `Segment_1 [SCT 64033007 24028007]`.
"""

from __future__ import annotations

import re

from lesionbrush.errors import InvalidRequest

ORGANS_BY_CODE = {
    "10200004": "liver",
    "64033007": "kidney",
    "78961009": "spleen",
    "15776009": "pancreas",
    "69695003": "stomach",
    "28231008": "gallbladder",
    "15825003": "aorta",
    "64131007": "inferior vena cava",
    "32849002": "esophagus",
    "23451007": "adrenal gland",
    "38848004": "duodenum",
    "89837001": "bladder",
    "41216001": "prostate",
    "35039007": "uterus",
}
SIDES_BY_CODE = {"24028007": "right", "7771000": "left"}
_SCHEME = "SCT"
_ENTRY = re.compile(r"(?:^|\|)\s*TerminologyEntry:([^|]*)")
_BEHIND = re.compile(r"(.*?)\s*\[SCT (\d+)(?: (\d+))?\]", re.DOTALL)


def name_of_segment(name: str, tags: str) -> str:
    """By its tags, `Segment0_Tags` of a file, where these have the code of an organ; else its name.

    InvalidRequest where name and code are two organs.
    """
    entry = _ENTRY.search(tags)
    parts = [part.split("^") for part in entry[1].split("~")] if entry else []
    codes = [part[1] for part in parts[2:4] if len(part) == 3 and part[0] == _SCHEME]
    return _name_by_code(name, codes)


def name_without_code(name: str) -> str:
    """Of a name with the code behind it. InvalidRequest as `name_of_segment`."""
    found = _BEHIND.fullmatch(name)
    return name if found is None else _name_by_code(found[1], [code for code in found.groups()[1:] if code])


def _name_by_code(name: str, codes: list[str]) -> str:
    """The side is that of the modifier, else the one in the name."""
    organ = ORGANS_BY_CODE.get(codes[0]) if codes else None
    if organ is None:
        return name
    words = re.findall(r"[a-z]+", name.lower())
    sides = [SIDES_BY_CODE[code] for code in codes[1:] if code in SIDES_BY_CODE]
    said = [word for word in words if word in SIDES_BY_CODE.values()]
    own = " ".join(word for word in words if word not in said)
    if own != organ and own in ORGANS_BY_CODE.values():
        raise InvalidRequest(
            f"the segment {name!r} has the code of {organ} (SCT {codes[0]}): correct its name or "
            "its terminology, for nobody knows which is right"
        )
    if sides and said and sides[0] not in said:
        raise InvalidRequest(
            f"the segment {name!r} has the code of the {sides[0]} {organ}: correct its name or "
            "its terminology"
        )
    return " ".join([*(sides or said)[:1], organ])
