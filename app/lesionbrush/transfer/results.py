"""What becomes of a lesion that is carried: its mask and what was done, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lesionbrush.core.volume import Volume

Why = Literal["no_organ", "not_there", "exophytic", "too_small", "no_room", "taken", "apart", "surface"]


@dataclass(frozen=True)
class Move:
    """What was done. scale: of lengths; organ_scale: between the organs' lengths, None where the lesion's own
    is not known; turn_deg: about some axis; bent_mm: how far a point may have moved besides; shift_mm: along
    RAS from the corresponding place, None where there is none; centre_mm: RAS. outside_before, outside: the
    share beyond the organ's surface. depth_mm: of the voxel nearest to it, up to the margin asked for.
    """

    scale: float
    organ_scale: float | None
    turn_deg: float
    mirrored: bool
    bent_mm: float
    shift_mm: tuple[float, float, float] | None
    centre_mm: tuple[float, float, float]
    volume_before_ml: float
    volume_ml: float
    outside_before: float
    outside: float
    depth_mm: float


@dataclass(frozen=True, eq=False)
class Carried:
    """mask: uint8, 1 in the lesion, on the grid of the organ it was carried into."""

    mask: Volume
    move: Move


@dataclass(frozen=True)
class Refused:
    """why: a name that a program can act on; reason: a sentence with the values, and what to do."""

    why: Why
    reason: str
