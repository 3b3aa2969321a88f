"""Both lungs of a chest CT by thresholds and shapes: no training, no weights, a second or two.

The lungs hold their vessels, small airways and nodules, those at the pleura too. Windpipe and main bronchi,
large vessels of the hilum, gas in the gut and the air around the patient are not in them. Solid lung
(consolidation, effusion, a large tumour) is missed: such masks are for the user to edit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lesionbrush.anatomy.lung_steps.air import gut_gas, lung_air, outside
from lesionbrush.anatomy.lung_steps.airways import find_airways
from lesionbrush.anatomy.lung_steps.closing import close_lungs, without_tubes
from lesionbrush.anatomy.lung_steps.grid import AIR_HU, CoarseGrid, refine
from lesionbrush.anatomy.lung_steps.sides import LEFT, RIGHT, body_midline, label_sides
from lesionbrush.core.volume import Array, Volume, require_ct
from lesionbrush.errors import NoLungs

ONE_LUNG = 0.02  # a side with a smaller share of the other one's volume is no lung
CUT_CM2 = 1.0

__all__ = ["LEFT", "RIGHT", "Lungs", "find_lungs", "segment_lungs"]


@dataclass(frozen=True, eq=False)
class Lungs:
    """labels: uint8 on the grid of the CT, RIGHT or LEFT of the patient, else 0; remarks: for the user."""

    labels: Volume
    right_ml: float
    left_ml: float
    remarks: tuple[str, ...]


CT_OR_MASK = "use a chest CT in HU, or send a mask of both as lungs"
"""The advice where lungs may be sent."""


def segment_lungs(ct: Volume) -> Volume:
    """Labels of `find_lungs`: uint8 on the grid of the CT, 1 right lung, 2 left lung."""
    return find_lungs(ct, CT_OR_MASK).labels


def find_lungs(ct: Volume, advice: str = "use a chest CT in HU") -> Lungs:
    """Both lungs of a CT of any orientation and spacing, whole or cropped. advice: where there are none.

    Raises NotACT and DamagedFile as `require_ct`, and NoLungs when nothing in the volume looks like lung.
    """
    ct = require_ct(ct)
    grid = CoarseGrid.of(ct)
    air = (grid.hu < AIR_HU) & ~outside(grid)
    midline = body_midline(ct, grid)
    airways = find_airways(grid, air, midline)
    gas = gut_gas(grid, air & ~airways)
    if airways.any():
        midline = _centre_x(airways)
    lungs = lung_air(grid, air & ~airways & ~gas, airways | gas, midline)
    if not lungs.any():
        raise NoLungs(f"{_why_not(ct, air)}; {advice}")
    sides = label_sides(grid, lungs, midline)
    closed = without_tubes(grid, close_lungs(grid, sides, airways | gas), airways)
    labels = refine(ct, grid, closed, sides > 0)
    right_ml, left_ml = (
        float(np.count_nonzero(labels == n)) * ct.voxel_volume_mm3 / 1000 for n in (RIGHT, LEFT)
    )
    remarks = (*_on_airways(airways), *_on_sides(right_ml, left_ml), *_on_field(grid, closed))
    return Lungs(ct.with_array(labels), right_ml, left_ml, remarks)


def _why_not(ct: Volume, air: Array) -> str:
    size_mm = " x ".join(f"{n * mm:.0f}" for n, mm in zip(ct.shape, ct.spacing_mm, strict=True))
    found = (
        "the air in it is gas, not lung" if air.any() else f"no air below {AIR_HU:g} HU lies within a body"
    )
    return f"no lungs found in this volume of {size_mm} mm: {found}"


def _centre_x(mask: Array) -> float:
    return float(np.nonzero(mask)[0].mean())


def _on_airways(airways: Array) -> list[str]:
    return [] if airways.any() else ["no trachea found: check that no airway is in the lungs"]


def _on_sides(right_ml: float, left_ml: float) -> list[str]:
    if min(right_ml, left_ml) > ONE_LUNG * max(right_ml, left_ml):
        return []
    present, absent = ("right", "left") if right_ml > left_ml else ("left", "right")
    found_ml = max(right_ml, left_ml)
    return [f"one lung only: {found_ml:.0f} ml on the {present}, none on the {absent}: check the side"]


def _on_field(grid: CoarseGrid, labels: Array) -> list[str]:
    """Says at which sides of the volume the lungs are cut."""
    ends = (("right", "left"), ("front", "back"), ("bottom", "top"))
    cut = []
    for axis, names in enumerate(ends):
        edges_mm = np.delete(grid.spacing_mm, axis)
        for end, name in zip((0, -1), names, strict=True):
            area_cm2 = np.count_nonzero(labels.take(end, axis)) * edges_mm.prod() / 100
            cut += [name] if area_cm2 > CUT_CM2 else []
    return [f"cropped field of view: the lungs are cut at the {', '.join(cut)}"] if cut else []
