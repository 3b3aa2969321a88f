"""How dense the middle of a solid lesion is, and the solid core of a part-solid one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lesionbrush.systems.lesion_inpainting.laws.density import measure_cover
from lesionbrush.systems.lesion_inpainting.laws.law import DensityLaw
from lesionbrush.systems.lesion_inpainting.laws.painted import Part
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest

if TYPE_CHECKING:
    from lesionbrush.systems.lesion_inpainting.laws.density import Densities

INNER_POWER = 4
"""A core is measured by this power of its coverage: well inside, or its middle would make up for its rim."""


class CoreLaw(DensityLaw):
    """Makes the middle soft tissue.

    A network trained on a squared error for few steps makes large solid lesions too dark in the soft-tissue
    window, and makes no core in glass.
    """

    def concerns(self, request: SynthesisRequest) -> bool:
        wish = request.attributes
        return super().concerns(request) and wish.texture in ("solid", "part_solid")

    def parts(self, densities: Densities) -> list[Part]:
        solid_hu = densities.core_hu
        if not densities.left_open or solid_hu is None:
            return []
        if densities.wish.texture == "solid":
            return [Part(densities.masks, densities.middles, solid_hu)]
        return _part_solid(densities)


def _part_solid(densities: Densities) -> list[Part]:
    """The cores, and no more than core and glass in the whole: small ones hardly show two."""
    cores, glass_hu, solid_hu = densities.cores, densities.glass_hu, densities.core_hu
    if cores is None or glass_hu is None or solid_hu is None:
        return []
    inner, shares = cores**INNER_POWER, densities.core_shares
    dense_hu = glass_hu + (solid_hu - glass_hu) * measure_cover(cores, inner)
    return [
        Part(cores, inner, dense_hu, even=True, most_hu=solid_hu),
        densities.whole(glass_hu + shares * (solid_hu - glass_hu))._replace(at_most=True),
    ]
