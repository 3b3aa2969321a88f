"""Lesions that are sampled together, as their laws see them.

Arrays are (B, Z, Y, X) on the ROI, one for each seed and lesion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce

import numpy as np
import torch
from torch import Tensor

from lesionbrush.diffusion.denoisers import Denoiser
from lesionbrush.diffusion.guidance import Moments
from lesionbrush.systems.lesion_inpainting.laws.cores import LesionDraws
from lesionbrush.systems.lesion_inpainting.laws.density import Densities, Density, RoiSpacing
from lesionbrush.systems.lesion_inpainting.laws.limits import cap, hold
from lesionbrush.systems.lesion_inpainting.laws.painted import Painted, Part
from lesionbrush.systems.lesion_inpainting.laws.scene import Scene
from lesionbrush.systems.lesion_inpainting.laws.vessels import Seen, find_seen
from lesionbrush.systems.lesion_inpainting.shape import Drawn

LUNG_HU = -850.0


@dataclass(frozen=True, eq=False)
class LesionBatch:
    """items: seed and lesion of each; drawn: coverage as it is made; editable: bool.

    device: where estimates are.
    """

    scene: Scene
    items: Sequence[tuple[int, int]]
    drawn: Drawn
    editable: np.ndarray
    device: torch.device

    def hold(self, denoise: Denoiser) -> Denoiser:
        """The same denoiser, held by all laws that act. Healthy tissue is held to nothing."""
        if self.scene.wish.lesion == "none":
            return denoise
        return reduce(lambda held, law: law.hold(held, self), self.scene.laws.values(), denoise)

    def finish(self, hu: np.ndarray) -> np.ndarray:
        """The samples, HU, with what laws draw into them."""
        return reduce(lambda made, law: law.finish(made, self), self.scene.laws.values(), hu)

    @property
    def lesions(self) -> list[int]:
        """(B,) which of the scene's they are."""
        return [lesion for _, lesion in self.items]

    @property
    def outlines(self) -> np.ndarray:
        """Coverage as painted, narrowed or widened."""
        return self.scene.outlines[self.lesions]

    @cached_property
    def seen(self) -> Seen | None:
        """Vessels and airways under ground glass, where HU may change; None where none are kept."""
        return find_seen(self) if "vessels" in self.scene.laws else None

    @cached_property
    def densities(self) -> Densities:
        """Of the lesions without their spicules, counted beside the vessels."""
        bare = self.bare
        return bare if self.seen is None else replace(bare, painted=bare.painted.beside(self.seen.vessels))

    @cached_property
    def bare(self) -> Densities:
        """The same with vessels."""
        scene, drawn = self.scene, self.drawn
        card, rois = scene.card, scene.rois
        smooth = np.minimum(drawn.mask, self.outlines)
        return Densities(
            scene.wish,
            Density(card.core_hu, card.ground_glass_above_lung_hu, card.small_solid),
            np.where(drawn.strands > 0, smooth, drawn.mask),
            Painted.of(rois, scene.outlines, scene.surroundings, self.lesions),
            RoiSpacing(rois.spacing_mm, rois.slice_mm),
            LesionDraws([rois.entropy(*item) for item in self.items], scene.request.variety),
        )

    def hold_part(self, denoise: Denoiser, part: Part) -> Denoiser:
        region, counted = self.tensor(part.region), self.tensor(part.weights)
        wish = Moments(region, counted, self.unit(part.mean_hu), None, self.background(part.even))
        denoise = hold(denoise, wish, self.scene.schedule, at_most=part.at_most)
        if part.most_hu is None:
            return denoise
        return cap(denoise, region, self.unit(part.most_hu), self.scene.schedule)

    def background(self, even: bool = False) -> float:
        """The level that a lesion stands out from, in -1..1; above everything if all of it moves alike."""
        return 1.0 if even else float(self.scene.window.to_unit(np.array(LUNG_HU)))

    def unit(self, hu: np.ndarray) -> Tensor:
        """HU of any shape, in -1..1."""
        return torch.from_numpy(self.scene.window.to_unit(hu))

    def tensor(self, array: np.ndarray) -> Tensor:
        """(B, 1, Z, Y, X) float32 on the device."""
        return torch.from_numpy(array.astype(np.float32))[:, None].to(self.device)
