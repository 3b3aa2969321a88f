"""Lobes, spicules and a soft border, drawn into the mask before it is filled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lesionbrush.systems.lesion_inpainting.laws.law import Law
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest
from lesionbrush.systems.lesion_inpainting.shape import Drawn, Shape, choose_shape, draw_shape

if TYPE_CHECKING:
    from lesionbrush.systems.lesion_inpainting.laws.scene import Scene


class ShapeLaw(Law):
    """Gives lesions the lobulation, spiculation and margin that were asked for.

    Readers' scores alone hardly move the border of a small network's lesion; the shape of its mask does.
    """

    def concerns(self, request: SynthesisRequest) -> bool:
        return choose_shape(request) != Shape()

    def draw(self, drawn: Drawn, lesion: int, scene: Scene, rng: np.random.Generator) -> Drawn:
        shape = choose_shape(scene.request)
        return draw_shape(drawn.mask, scene.reachable(lesion), scene.rois.spacing_mm, shape, rng)
