"""Ground glass is even: it strays only so far from its density."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from lesionbrush.diffusion.denoisers import Denoiser
from lesionbrush.systems.lesion_inpainting.laws.density import NEIGHBOURS
from lesionbrush.systems.lesion_inpainting.laws.law import Law
from lesionbrush.systems.lesion_inpainting.laws.limits import cap, lift
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest

if TYPE_CHECKING:
    from lesionbrush.systems.lesion_inpainting.laws.batch import LesionBatch
    from lesionbrush.systems.lesion_inpainting.laws.density import Densities

GLASS_STRAYS_HU = 80.0
"""In the middle of the 11 largest ground-glass lesions of LIDC-IDRI, after 1 mm of blur, 5 % of the voxels
are 110 HU or more above their mean (median), and a sample strays further than the estimates that are kept to
this."""


class HazeLaw(Law):
    """Keeps glass between two limits, if no spread was asked for: the network alone makes rings and holes."""

    def concerns(self, request: SynthesisRequest) -> bool:
        wish = request.attributes
        glass = wish.texture in ("ground_glass", "part_solid")
        return super().concerns(request) and glass and wish.heterogeneity_hu is None

    def hold(self, denoise: Denoiser, lesions: LesionBatch) -> Denoiser:
        densities, schedule = lesions.densities, lesions.scene.schedule
        level_hu = densities.glass_hu
        if level_hu is None or not is_even(densities):
            return denoise
        region, inner = lesions.tensor(densities.glass), lesions.tensor(find_inner(densities))
        denoise = lift(denoise, inner, lesions.unit(level_hu - GLASS_STRAYS_HU), schedule)
        return cap(denoise, region, lesions.unit(level_hu + GLASS_STRAYS_HU), schedule)


def is_even(densities: Densities) -> bool:
    """Whether glass is to be kept so."""
    wish = densities.wish
    if densities.glass_hu is None or wish.heterogeneity_hu is not None:
        return False
    return wish.texture != "part_solid" or densities.cores is not None


def find_inner(densities: Densities) -> np.ndarray:
    """(B, Z, Y, X) bool: glass that nothing around it blurs."""
    inner: np.ndarray = ndimage.minimum_filter(densities.masks, size=NEIGHBOURS) > 0.95
    return inner & (densities.glass > 0)
