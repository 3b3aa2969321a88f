"""Where a lesion ends in a CT, beside its painted outline: the mask is moved before it is filled."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lesionbrush.systems.lesion_inpainting.laws.law import Law
from lesionbrush.systems.lesion_inpainting.shape import ball_radius_mm, move_outline

if TYPE_CHECKING:
    from lesionbrush.systems.lesion_inpainting.laws.scene import Scene

SMALL_RADIUS_MM = 5.0
"""From twice that on, a lesion is large."""


class Rim(NamedTuple):
    """How far an outline is moved.

    of_blur: per mm that slices are thicker than 0.5 mm; if_sharp_mm: in slices of 1 mm, less up to 2 mm.
    """

    slice_mm: float
    of_blur: float
    if_sharp_mm: float

    def outwards_mm(self, radius_mm: float) -> float:
        """Of a lesion of this size."""
        small = np.clip(2 - radius_mm / SMALL_RADIUS_MM, 0, 1)
        thicker_mm, thinner_mm = max(self.slice_mm - 0.5, 0), np.clip(2 - self.slice_mm, 0, 1)
        return float(self.of_blur * thicker_mm * small + self.if_sharp_mm * thinner_mm * (1 - small))


class RimLaw(Law):
    """Makes lesions as large as they were painted.

    The painted outline lies in the blurred rim, which is much of a small lesion, in thick slices above all: a
    network fills it too well. The rims of larger ones in thin slices are sharper than it makes them.
    """

    def move(self, masks: np.ndarray, scene: Scene) -> np.ndarray:
        rois, card = scene.rois, scene.card
        if scene.request.attributes.lesion == "none" or rois.slice_mm is None:
            return masks
        rim = Rim(rois.slice_mm, card.outline_of_blur, card.outline_if_sharp_mm)
        radii_mm = [ball_radius_mm(known, rois.spacing_mm) for known in masks * rois.inside]
        pairs = zip(masks, radii_mm, strict=True)
        return np.stack([move_outline(mask, rois.spacing_mm, rim.outwards_mm(mm)) for mask, mm in pairs])
