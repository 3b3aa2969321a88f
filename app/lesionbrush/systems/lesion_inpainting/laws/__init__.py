"""What the network of lesion inpainting does not do by itself, one law a file: `LAWS` lists them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from lesionbrush.errors import InvalidRequest
from lesionbrush.systems.lesion_inpainting.laws.calcium import CalciumLaw
from lesionbrush.systems.lesion_inpainting.laws.core import CoreLaw
from lesionbrush.systems.lesion_inpainting.laws.glass import GlassLaw
from lesionbrush.systems.lesion_inpainting.laws.haze import HazeLaw
from lesionbrush.systems.lesion_inpainting.laws.law import Law
from lesionbrush.systems.lesion_inpainting.laws.moments import MomentsLaw
from lesionbrush.systems.lesion_inpainting.laws.outline import OutlineLaw
from lesionbrush.systems.lesion_inpainting.laws.rim import RimLaw
from lesionbrush.systems.lesion_inpainting.laws.room import RoomLaw
from lesionbrush.systems.lesion_inpainting.laws.shape import ShapeLaw
from lesionbrush.systems.lesion_inpainting.laws.small_solid import SmallSolidLaw
from lesionbrush.systems.lesion_inpainting.laws.uncalcified import UncalcifiedLaw
from lesionbrush.systems.lesion_inpainting.laws.vessels import VesselsLaw

LAWS: Mapping[str, Law] = {
    "rim": RimLaw(),
    "shape": ShapeLaw(),
    "uncalcified": UncalcifiedLaw(),
    "glass": GlassLaw(),
    "core": CoreLaw(),
    "small_solid": SmallSolidLaw(),
    "room": RoomLaw(),
    "moments": MomentsLaw(),
    "haze": HazeLaw(),
    "outline": OutlineLaw(),
    "vessels": VesselsLaw(),
    "calcium": CalciumLaw(),
}
"""In the order in which they act: what a later one holds of an estimate is held for certain."""


def choose_laws(names: Collection[str]) -> dict[str, Law]:
    """Those of these names, in the order of `LAWS`. InvalidRequest for a name that no law has."""
    if unknown := sorted(set(names) - set(LAWS)):
        raise InvalidRequest(f"laws {', '.join(unknown)}: known are {', '.join(LAWS)}")
    return {name: law for name, law in LAWS.items() if name in names}
