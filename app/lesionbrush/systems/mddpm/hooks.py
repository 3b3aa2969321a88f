"""What mDDPM takes beside CT and mask, on the ROIs. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from lesionbrush.core.boxes import bounding_box
from lesionbrush.core.inputs import OWN, Input, Inputs
from lesionbrush.core.lesions import Lesions
from lesionbrush.core.model import EditHooks, Prepared
from lesionbrush.core.roi import Orientation, RoiGrid, to_roi, triangle
from lesionbrush.core.rois import RoiBatch
from lesionbrush.core.volume import Volume, mask_on_grid, require_ct

PATHOLOGY = (
    Input("pathology", "volume", "the CT of another case, whose lesion is to be followed", on=OWN),
    Input("pathology_mask", "mask", "the lesion in the CT of that other case", on="pathology"),
)
INPUTS = (Input("anatomy", "volume", "an anatomy map in HU on the grid of the CT"), *PATHOLOGY)


@dataclass(frozen=True, eq=False)
class Followed:
    """(L, Z, Y, X) on the ROIs; None for what was not sent. anatomy_hu: of the map; pathology_hu and
    pathology_mask: the other case's CT and its lesion's coverage 0..1, moved so that the centres of the two
    lesions coincide. where: by the name of a guide, how much it acts at each voxel, 0..1;
    fully where it is not named.
    """

    anatomy_hu: np.ndarray | None = None
    pathology_hu: np.ndarray | None = None
    pathology_mask: np.ndarray | None = None
    where: Mapping[str, np.ndarray] = field(default_factory=dict)


def prepare(
    lesions: Lesions,
    grids: Sequence[RoiGrid],
    rois: RoiBatch,
    seeds: Sequence[int],
    inputs: Inputs,
    request: object,
) -> Prepared:
    """`own`: what was sent, as `Followed`."""
    del seeds, request
    anatomy, ct, mask = (inputs.volume(name) for name in ("anatomy", "pathology", "pathology_mask"))
    found = Followed()
    if anatomy is not None:
        view = lesions.orientation.view(anatomy.array)
        found = replace(found, anatomy_hu=np.stack([to_roi(view, lesions.spacing_mm, g) for g in grids]))
    if ct is not None and mask is not None:
        hu, coverage = _pathology(ct, mask, rois, grids)
        found = replace(found, pathology_hu=hu, pathology_mask=coverage)
    return Prepared(found)


def _pathology(
    ct: Volume, mask: Volume, rois: RoiBatch, grids: Sequence[RoiGrid]
) -> tuple[np.ndarray, np.ndarray]:
    """(L, Z, Y, X) HU and coverage 0..1: the other lesion's centre of mass on that of the painted one."""
    other = OtherLesion.of(ct, mask)
    moved = [
        replace(grid, origin_mm=tuple(other.centre_mm - grid.spacing_mm * _centre(coverage)))
        for grid, coverage in zip(grids, rois.mask, strict=True)
    ]
    return np.stack([other.hu_on(grid) for grid in moved]), np.stack([other.cover_of(g) for g in moved])


@dataclass(frozen=True, eq=False)
class OtherLesion:
    """The lesion of another case. hu, inside: (Z, Y, X) views of its CT; centre_mm: of mass, in the view."""

    hu: np.ndarray
    inside: np.ndarray
    spacing_mm: np.ndarray
    centre_mm: np.ndarray

    @classmethod
    def of(cls, ct: Volume, mask: Volume) -> OtherLesion:
        """Raises as `require_ct` and `mask_on_grid`."""
        ct = require_ct(ct)
        lesion = mask_on_grid(mask, ct)
        turned = Orientation.of(ct.affine)
        view, there = turned.view(ct.array), turned.view(lesion.array) > 0
        spacing_mm = turned.spacing_mm(ct.spacing_mm)
        box = bounding_box(there)
        places = np.argwhere(there[box]) + [part.start for part in box]
        return cls(view, there, spacing_mm, places.mean(axis=0) * spacing_mm)

    @property
    def radius_mm(self) -> float:
        """Of the ball of its volume."""
        volume_mm3 = np.count_nonzero(self.inside) * float(np.prod(self.spacing_mm))
        return float((3 * volume_mm3 / (4 * np.pi)) ** (1 / 3))

    def hu_on(self, grid: RoiGrid) -> np.ndarray:
        """(Z, Y, X) float32."""
        return to_roi(self.hu, self.spacing_mm, grid)

    def cover_of(self, grid: RoiGrid) -> np.ndarray:
        """(Z, Y, X) float32, 0..1."""
        return to_roi(self.inside, self.spacing_mm, grid, triangle)


def _centre(coverage: np.ndarray) -> np.ndarray:
    """Centre of mass in voxels of a (Z, Y, X) coverage."""
    axes = [coverage.sum(axis=tuple(a for a in range(3) if a != axis)) for axis in range(3)]
    return np.array([float(np.arange(len(sums)) @ sums / sums.sum()) for sums in axes])


HOOKS = EditHooks(INPUTS, prepare=prepare)
