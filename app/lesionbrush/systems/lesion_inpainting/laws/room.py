"""Room for the calcium that is drawn later."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lesionbrush.diffusion.denoisers import Denoiser
from lesionbrush.systems.lesion_inpainting.laws.calcium import is_calcified, leave_room
from lesionbrush.systems.lesion_inpainting.laws.law import Law
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest

if TYPE_CHECKING:
    from lesionbrush.systems.lesion_inpainting.laws.batch import LesionBatch


class RoomLaw(Law):
    """Makes lesions darker whose mean HU would be met before there is any calcium in them."""

    def concerns(self, request: SynthesisRequest) -> bool:
        return is_calcified(request.attributes) and request.attributes.mean_hu is not None

    def hold(self, denoise: Denoiser, lesions: LesionBatch) -> Denoiser:
        mean_hu, calcium = lesions.scene.request.attributes.mean_hu, lesions.scene.calcium
        if calcium is None or mean_hu is None:
            return denoise
        most_hu = np.full(len(lesions.items), leave_room(mean_hu, calcium), np.float32)
        return lesions.hold_part(denoise, lesions.bare.painted.hold(most_hu)._replace(at_most=True))
