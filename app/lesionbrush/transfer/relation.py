"""How a lesion lies in its own organ: how much of it pokes out, and which way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lesionbrush.core.boxes import Box, bounding_box, dilate
from lesionbrush.core.volume import Array, Volume
from lesionbrush.transfer.fields import Extent, closed
from lesionbrush.transfer.forms import LesionForm

POKES_OUT = 0.05
"""Labels are no finer: a lesion with less of it outside lies inside."""
NOTCH_RADII, WIDEST_BALL_MM = 3.0, 60.0
"""Where a lesion was cut out of its organ, a ball of so many times its reach hardly sinks into the notch."""
CUT_OUT = 0.1
"""With less of the lesion in notches of the organ, they are the organ's own."""
_COARSE_MM = 3.0


@dataclass(frozen=True, eq=False)
class Relation:
    """outside: the share 0..1 of the lesion beyond the organ's surface; outward: (3,) of length 1, RAS; None
    for one that lies inside, or nowhere near; extent: of the organ with what the lesion has of it.
    """

    outside: float
    outward: Array | None
    extent: Extent

    @classmethod
    def of(cls, lesion: Volume, form: LesionForm, organ: Volume) -> Relation:
        """Arrays on one grid, not 0 inside. Where a lesion was cut out of the label, it lies in a notch."""
        box, inside = _own_part(lesion, form, organ)
        share_outside = 1 - np.count_nonzero(inside) / np.count_nonzero(lesion.array)
        whole = organ.array > 0
        whole[box] |= inside
        extent = Extent.of(organ.with_array(whole))
        if share_outside <= POKES_OUT or not inside.any():
            return cls(share_outside, None, extent)
        outside = (lesion.array[box] > 0) & ~inside
        index = np.argwhere(outside).mean(axis=0) - np.argwhere(inside).mean(axis=0)
        outward = lesion.affine[:3, :3] @ index
        return cls(share_outside, outward / np.linalg.norm(outward), extent)

    @property
    def pokes_out(self) -> bool:
        return self.outside > POKES_OUT


def _own_part(lesion: Volume, form: LesionForm, organ: Volume) -> tuple[Box, Array]:
    """A box around the lesion, and bool on it: what of the lesion lies within the organ's surface."""
    spacing = np.array(lesion.spacing_mm)
    own = bounding_box(lesion.array)
    radius = min(NOTCH_RADII * form.reach_mm, WIDEST_BALL_MM)
    box = dilate(own, 2 * radius, spacing, lesion.shape)
    painted, near = lesion.array[box] > 0, organ.array[box] > 0
    inside, size = painted & near, np.count_nonzero(painted)
    if np.count_nonzero(inside) >= (1 - POKES_OUT) * size:
        return box, inside
    filled = painted & (near | _closed_coarsely(near, radius, spacing))
    was_cut_out = np.count_nonzero(filled) - np.count_nonzero(inside) > CUT_OUT * size
    return box, filled if was_cut_out else inside


def _closed_coarsely(near: Array, radius_mm: float, spacing_mm: Array) -> Array:
    """Like `closed`, on voxels of some 3 mm: the balls are large."""
    step = np.maximum(1, (_COARSE_MM / spacing_mm).astype(int))
    whole = closed(near[tuple(slice(None, None, n) for n in step)], radius_mm, spacing_mm * step)
    for axis, n in enumerate(step):
        nearest = np.rint(np.arange(near.shape[axis]) / n).astype(int)
        whole = whole.take(np.minimum(nearest, whole.shape[axis] - 1), axis)
    return whole
