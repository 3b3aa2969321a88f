"""What a law is: one thing that the network of lesion inpainting does not do by itself.

It names what it does in some of the stages that a request goes through, in this order: what the network is
to make (`settle`), the masks that it is to fill (`move`, `draw`), each of its estimates (`hold`), and the
samples (`finish`). A law that is switched off does nothing in any, and everything else stays as it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from lesionbrush.diffusion.denoisers import Denoiser
from lesionbrush.systems.lesion_inpainting.request import Attributes, SynthesisRequest
from lesionbrush.systems.lesion_inpainting.shape import Drawn

if TYPE_CHECKING:
    from lesionbrush.systems.lesion_inpainting.laws.batch import LesionBatch
    from lesionbrush.systems.lesion_inpainting.laws.density import Densities
    from lesionbrush.systems.lesion_inpainting.laws.painted import Part
    from lesionbrush.systems.lesion_inpainting.laws.scene import Scene


class Law:
    """Does nothing in any stage; each law names its own."""

    def concerns(self, request: SynthesisRequest) -> bool:
        """Whether it may change anything of such a lesion."""
        return request.attributes.lesion != "none"

    def settle(self, wish: Attributes, scene: Scene) -> Attributes:
        """What the network is to make of what was asked."""
        del scene
        return wish

    def move(self, masks: np.ndarray, scene: Scene) -> np.ndarray:
        """masks: (L, Z, Y, X) coverage, 0..1, of all lesions of the ROIs; the same, with other outlines."""
        del scene
        return masks

    def draw(self, drawn: Drawn, lesion: int, scene: Scene, rng: np.random.Generator) -> Drawn:
        """What is to be filled of a lesion for one seed, with more drawn into it."""
        del lesion, scene, rng
        return drawn

    def hold(self, denoise: Denoiser, lesions: LesionBatch) -> Denoiser:
        """The same denoiser, whose estimates (B, 1, Z, Y, X), in -1..1, keep to the law."""
        del lesions
        return denoise

    def finish(self, hu: np.ndarray, lesions: LesionBatch) -> np.ndarray:
        """hu: (B, Z, Y, X) samples; the same, with what is drawn into them."""
        del lesions
        return hu


class DensityLaw(Law, ABC):
    """Holds parts of lesions to a density."""

    @abstractmethod
    def parts(self, densities: Densities) -> list[Part]:
        """In the order in which to hold them; none where density was asked for, or texture left open."""

    def hold(self, denoise: Denoiser, lesions: LesionBatch) -> Denoiser:
        for part in self.parts(lesions.densities):
            denoise = lesions.hold_part(denoise, part)
        return denoise
