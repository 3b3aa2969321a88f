"""What a request may change: as a system says it, and as weights in the view of the CT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from lesionbrush.core.boxes import Box, bounding_box, dilate, hull
from lesionbrush.core.roi import inner_ramp, ramp
from lesionbrush.core.volume import Volume

Holds = Literal["lesion", "slices", "field", "slab"]


@dataclass(frozen=True, eq=False)
class Scope:
    """What may change, and what one ROI has to hold. Arrays are in stored order on the grid of the CT.

    mask: not 0 in the lesion. also: bool, what may change as well, fading in below its surface; None for
    nothing. holds: each lesion with its surroundings, in a cube or on slices of the CT itself; all of `field`
    (bool) and the lesions, in one cube; or whole slices, as wide as `field` or the CT. remarks: what the user
    is told of the files.
    """

    mask: Volume
    also: np.ndarray | None = None
    holds: Holds = "lesion"
    field: np.ndarray | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Region:
    """What may change, in the (Z, Y, X) view of the CT: around the mask, and in `also` if it is given.

    mask: not 0 in the lesion; reach_mm: how far what is drawn may go, margin_mm or more; also: bool or None.
    """

    mask: np.ndarray
    margin_mm: float
    reach_mm: float
    spacing_mm: np.ndarray
    also: np.ndarray | None = None

    def weight(self, box: Box) -> np.ndarray:
        """float32 on `box`: how much of a sample counts. 1 in the mask, 0 at the region's edge and beyond."""
        weight = ramp(self.mask[box] > 0, self.spacing_mm, self.margin_mm)
        if self.also is None:
            return weight
        return np.maximum(weight, inner_ramp(self.also[box], self.spacing_mm, self.margin_mm))

    def find_reach(self, box: Box) -> np.ndarray:
        """bool on `box`: where drawn shapes may change the CT."""
        return ramp(self.mask[box] > 0, self.spacing_mm, self.reach_mm) > 0

    def around(self, box: Box) -> Box:
        """The box of all that may change for the lesions in `box`."""
        grown = dilate(box, self.reach_mm, self.spacing_mm, self.mask.shape)
        return grown if self.also is None else hull([grown, bounding_box(self.also)])
