"""How dense solid lesions are that are too small to have a middle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lesionbrush.systems.lesion_inpainting.laws.cores import Purpose
from lesionbrush.systems.lesion_inpainting.laws.law import DensityLaw
from lesionbrush.systems.lesion_inpainting.laws.painted import Part
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest

if TYPE_CHECKING:
    from lesionbrush.systems.lesion_inpainting.laws.density import Densities


class SmallSolidLaw(DensityLaw):
    """Holds all of a small solid lesion to the mean of real ones of its size and surroundings.

    Much of it is rim, blurred into what is around: see `card.SmallSolid` for the fit.
    """

    def concerns(self, request: SynthesisRequest) -> bool:
        return super().concerns(request) and request.attributes.texture == "solid"

    def parts(self, densities: Densities) -> list[Part]:
        known, slice_mm = densities.density, densities.grid.slice_mm
        law, painted = known.small_solid, densities.painted
        if not densities.left_open or densities.wish.texture != "solid":
            return []
        if law is None or known.core is None or slice_mm is None:
            return []
        small = (densities.middles.sum(axis=(1, 2, 3)) == 0)[:, None, None, None]
        rim_hu = law.per_inverse_diameter / np.maximum(densities.diameters_mm, 1.0)
        blur_hu = law.per_slice_mm * slice_mm + law.per_hu_around * painted.around_hu
        typical_hu = law.base_hu + rim_hu + blur_hu
        mean_hu = densities.draws.hu((typical_hu, law.spread_hu), Purpose.SMALL_SOLID_HU)
        whole = densities.whole(mean_hu)
        return [whole._replace(weights=whole.weights * small)]
