"""What was drawn into the mask is held in the image as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lesionbrush.diffusion.denoisers import Denoiser
from lesionbrush.diffusion.guidance import Outline, match_outline
from lesionbrush.systems.lesion_inpainting.laws.law import Law
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest
from lesionbrush.systems.lesion_inpainting.shape import Shape, choose_shape, find_deepest

if TYPE_CHECKING:
    from lesionbrush.systems.lesion_inpainting.laws.batch import LesionBatch


class OutlineLaw(Law):
    """Keeps spicules as dense as the lesion, creases as dark as lung: the network would smooth them away.

    What was drawn into a part-solid lesion is of its glass.
    """

    def concerns(self, request: SynthesisRequest) -> bool:
        return choose_shape(request) != Shape()

    def hold(self, denoise: Denoiser, lesions: LesionBatch) -> Denoiser:
        drawn, painted, densities = lesions.drawn, lesions.outlines, lesions.densities
        if np.array_equal(drawn.mask, painted):
            return denoise
        whole, carved = drawn.mask * painted, (painted - drawn.mask).clip(min=0)
        glass = densities.glass > 0 if densities.cores is not None else True
        wish = Outline(
            lesions.tensor(find_deepest(whole * glass)),
            lesions.tensor(drawn.mask),
            lesions.tensor(drawn.dense),
            lesions.tensor(carved * glass),
            lesions.background(),
        )
        return match_outline(denoise, wish, lesions.scene.schedule)
