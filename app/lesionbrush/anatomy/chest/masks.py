"""Lungs, lobes, airways and vessels of one chest CT, each as a label volume with names on its grid.

Three volumes, not one: a vessel lies in a lobe as well, and what is trained with them takes them as channels.
`as_one` lays airways and vessels over the lobes, for a program that shows one segmentation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lesionbrush.anatomy.chest.airways import grow_airways
from lesionbrush.anatomy.chest.lobes import find_carina_mm, find_lobes
from lesionbrush.anatomy.chest.naming import LOBES
from lesionbrush.anatomy.chest.vessels import find_vessels
from lesionbrush.anatomy.lung_steps.air import outside
from lesionbrush.anatomy.lung_steps.airways import find_airways
from lesionbrush.anatomy.lung_steps.grid import AIR_HU, CoarseGrid
from lesionbrush.anatomy.lung_steps.sides import LEFT, RIGHT, body_midline, label_sides
from lesionbrush.anatomy.lungs import CT_OR_MASK, find_lungs
from lesionbrush.core.inputs import Layout
from lesionbrush.core.volume import Array, Volume, require_ct
from lesionbrush.errors import EmptyMask, InvalidRequest

EDGE_MM = 1.0
AIRWAYS, VESSELS = 8, 9
AIRWAYS_NAME, VESSELS_NAME = "airways", "lung vessels"


@dataclass(frozen=True, eq=False)
class ChestMasks:
    """lungs: 1 right, 2 left; lobes: by LOBES; airways, vessels: 1. All uint8 on the grid of the CT.

    main_airways: 1 in windpipe and main bronchi with their walls, as the lungs were found by them.

    remarks: what is not found, or drawn by position; for the user.
    """

    lungs: Volume
    main_airways: Volume
    lobes: Layout
    airways: Layout
    vessels: Layout
    remarks: tuple[str, ...]

    def as_one(self) -> Layout:
        """Vessels over airways over lobes."""
        labels = self.lobes.labels.array.copy()
        labels[self.airways.labels.array > 0] = AIRWAYS
        labels[self.vessels.labels.array > 0] = VESSELS
        names = {**self.lobes.names, AIRWAYS: AIRWAYS_NAME, VESSELS: VESSELS_NAME}
        present = set(np.unique(labels))
        return Layout(
            self.lungs.with_array(labels), {label: name for label, name in names.items() if label in present}
        )


def find_chest_masks(ct: Volume, lungs: Volume | None = None) -> ChestMasks:
    """Of a CT of any orientation and spacing, whole or cropped. lungs: 1 right, 2 left, or one label.

    Raises NotACT, DamagedFile and NoLungs as `find_lungs`, and as `take_lungs`.
    """
    ct = require_ct(ct)
    found = find_lungs(ct, CT_OR_MASK) if lungs is None else None
    labels = found.labels if found is not None else take_lungs(ct, lungs)
    remarks = list(found.remarks if found is not None else ())
    coarse = CoarseGrid.of(ct)
    main = find_airways(coarse, (coarse.hu < AIR_HU) & ~outside(coarse), body_midline(ct, coarse))
    grid = CoarseGrid.of(ct, EDGE_MM)
    inside = grid.thin(labels.array)
    if main.any() and find_carina_mm(coarse, main) is None and inside[:, :, -1].any():
        main = np.zeros_like(main)
        remarks.append("no carina in the volume, whose top cuts the lungs: no tube is taken for the windpipe")
    stored_main = coarse.spread(main.astype(np.uint8), ct.shape)
    main = grid.thin(stored_main) > 0
    lobes = find_lobes(grid, inside, main)
    airways = grow_airways(grid, main, inside)
    vessels = np.zeros(inside.shape, bool)
    for side in (RIGHT, LEFT):
        vessels |= find_vessels(grid, inside == side, airways)
    remarks += lobes.remarks
    if not airways.any() and not any("trachea" in remark or "windpipe" in remark for remark in remarks):
        remarks.append("no trachea found in the volume, so no airways")
    names = {label: name for label, name in LOBES.items() if (lobes.labels == label).any()}

    def layout(mask: Array, table: dict[int, str]) -> Layout:
        return Layout(ct.with_array(grid.spread(mask.astype(np.uint8), ct.shape)), table)

    return ChestMasks(
        lungs=labels,
        main_airways=ct.with_array(stored_main),
        lobes=layout(lobes.labels, names),
        airways=layout(airways, {1: AIRWAYS_NAME}),
        vessels=layout(vessels, {1: VESSELS_NAME}),
        remarks=tuple(remarks),
    )


def take_lungs(ct: Volume, mask: Volume | None) -> Volume:
    """Labels of both lungs from a mask that was given: 1 right and 2 left, or one label, which is parted.

    Raises GeometryMismatch, EmptyMask, InvalidRequest (other labels).
    """
    assert mask is not None
    ct.require_same_grid(mask, "mask of the lungs")
    present = [float(value) for value in np.unique(mask.array) if value != 0]
    if not present:
        raise EmptyMask("the mask of the lungs is empty: leave it out, or give one with 1 right and 2 left")
    if present in ([1], [2], [1, 2]) and len(present) == 2:
        return ct.with_array(mask.array.astype(np.uint8))
    if len(present) > 1:
        said = ", ".join(f"{value:g}" for value in present[:8])
        raise InvalidRequest(
            f"the mask of the lungs holds {said}: 1 is the right lung, 2 the left, or one label both"
        )
    grid = CoarseGrid.of(ct, EDGE_MM)
    inside = grid.thin(mask.array) > 0
    sides = label_sides(grid, inside, body_midline(ct, grid))
    return ct.with_array(grid.spread(sides, ct.shape) * (mask.array > 0))
