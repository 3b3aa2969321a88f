"""Without calcium, nothing of a lesion is far above soft tissue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lesionbrush.diffusion.denoisers import Denoiser
from lesionbrush.systems.lesion_inpainting.laws.calcium import is_calcified
from lesionbrush.systems.lesion_inpainting.laws.law import Law
from lesionbrush.systems.lesion_inpainting.laws.limits import cap
from lesionbrush.systems.lesion_inpainting.request import Attributes, SynthesisRequest

if TYPE_CHECKING:
    from lesionbrush.systems.lesion_inpainting.laws.batch import LesionBatch

SOFT_SPREADS = 3.0
"""Tissue without calcium is no denser than so many standard deviations above the middle of solid lesions."""


class UncalcifiedLaw(Law):
    """Caps lesions that are to have no calcium, or none before it is drawn, if no HU were asked for.

    A network that saw calcified lesions makes voxels as dense as bone where none was asked for.
    """

    def concerns(self, request: SynthesisRequest) -> bool:
        wish = request.attributes
        return is_calcified(wish) or (super().concerns(request) and _is_soft(wish))

    def hold(self, denoise: Denoiser, lesions: LesionBatch) -> Denoiser:
        scene, core = lesions.scene, lesions.scene.card.core_hu
        if core is None or not _is_soft(scene.wish):
            return denoise
        most_hu = np.full(len(lesions.items), core[0] + SOFT_SPREADS * core[1], np.float32)
        region = lesions.tensor(lesions.bare.painted.mask)
        return cap(denoise, region, lesions.unit(most_hu), scene.schedule)


def _is_soft(wish: Attributes) -> bool:
    return wish.calcification == "none" and wish.mean_hu is None and wish.heterogeneity_hu is None
