"""The mean and spread of HU that were asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lesionbrush.diffusion.denoisers import Denoiser
from lesionbrush.diffusion.guidance import Moments, match_moments
from lesionbrush.systems.lesion_inpainting.laws.law import Law
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest

if TYPE_CHECKING:
    from lesionbrush.systems.lesion_inpainting.laws.batch import LesionBatch


class MomentsLaw(Law):
    """Meets them; to the network they are only hints."""

    def concerns(self, request: SynthesisRequest) -> bool:
        wish = request.attributes
        asked = wish.mean_hu is not None or wish.heterogeneity_hu is not None
        return super().concerns(request) and asked

    def hold(self, denoise: Denoiser, lesions: LesionBatch) -> Denoiser:
        wish, window, painted = lesions.scene.wish, lesions.scene.window, lesions.bare.painted
        mean, spread = None, None
        if wish.mean_hu is not None:
            mean = lesions.unit(wish.mean_hu - painted.kept_hu)
        if wish.heterogeneity_hu is not None:
            spread = 2 * wish.heterogeneity_hu / (window.hi_hu - window.lo_hu)
        region, counted = lesions.tensor(painted.mask), lesions.tensor(painted.counted)
        below = lesions.background(wish.texture == "ground_glass")
        return match_moments(denoise, Moments(region, counted, mean, spread, below), lesions.scene.schedule)
