"""How dense ground glass is, alone or around a core."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lesionbrush.systems.lesion_inpainting.laws.density import measure_cover
from lesionbrush.systems.lesion_inpainting.laws.law import DensityLaw
from lesionbrush.systems.lesion_inpainting.laws.painted import Part
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest

if TYPE_CHECKING:
    from lesionbrush.systems.lesion_inpainting.laws.density import Densities


class GlassLaw(DensityLaw):
    """Holds ground glass to the density of real glass, drawn, above the lung that it is in.

    A network trained on a squared error for few steps makes of every texture something in between.
    """

    def concerns(self, request: SynthesisRequest) -> bool:
        wish = request.attributes
        return super().concerns(request) and wish.texture in ("ground_glass", "part_solid")

    def parts(self, densities: Densities) -> list[Part]:
        glass_hu, cores, solid_hu = densities.glass_hu, densities.cores, densities.core_hu
        if not densities.left_open or glass_hu is None:
            return []
        if cores is None or solid_hu is None:
            return [densities.whole(glass_hu)]
        around = np.clip(densities.masks - cores, 0, 1)
        return [Part(around, around, glass_hu + (solid_hu - glass_hu) * measure_cover(cores, around))]
