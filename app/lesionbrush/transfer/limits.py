"""How far a lesion may be changed and moved on its way, and what it keeps away from."""

from __future__ import annotations

from dataclasses import dataclass

from lesionbrush.errors import InvalidRequest

MOST_DEFORM = 0.25
"""Beyond it the waves of a deformation could fold the lesion over itself."""


@dataclass(frozen=True)
class CarryLimits:
    """Lengths in mm, shares from 0 to 1.

    margin_mm: of organ around every voxel of a lesion inside it; gap_mm: to other lesions.
    exophytic: the share outside its organ that a lesion may have, from and to; it keeps its own.
    scale: what the factor between the organs' lengths is held within; (1, 1) keeps the size.
    rotation_deg: of the turn about any axis; mirror: left and right may be swapped, and paired organs too.
    deform: how far its surface may move, as a share of its radius.
    shift_mm: how far from the corresponding place in the other organ its middle may lie.
    tries: how often another turn and deformation is drawn before it is given up.

    Raises InvalidRequest for a value that makes no sense.
    """

    margin_mm: float = 4.0
    gap_mm: float = 3.0
    exophytic: tuple[float, float] = (0.0, 0.5)
    scale: tuple[float, float] = (0.5, 2.0)
    rotation_deg: float = 30.0
    mirror: bool = True
    deform: float = 0.1
    shift_mm: float = 40.0
    tries: int = 12

    def __post_init__(self) -> None:
        _require_between("margin_mm", self.margin_mm, 0, 100)
        _require_between("gap_mm", self.gap_mm, 0, 100)
        _require_range("exophytic", self.exophytic, 0, 1)
        _require_range("scale", self.scale, 0.1, 10)
        _require_between("rotation_deg", self.rotation_deg, 0, 180)
        _require_between("deform", self.deform, 0, MOST_DEFORM)
        _require_between("shift_mm", self.shift_mm, 0, 1000)
        _require_between("tries", self.tries, 1, 1000)


def _require_between(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # also where it is NaN
        raise InvalidRequest(f"{name} {value:g}: give a number from {low:g} to {high:g}")


def _require_range(name: str, value: tuple[float, float], low: float, high: float) -> None:
    for end in value:
        _require_between(name, end, low, high)
    if value[0] > value[1]:
        raise InvalidRequest(f"{name} {value[0]:g} to {value[1]:g}: the first number is the smaller one")
