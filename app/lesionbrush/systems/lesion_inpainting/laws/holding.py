"""What each estimate of a lesion is held to: what was asked for, what real lesions have, what shines through.

Arrays are (B, Z, Y, X) on the ROI, one for each seed and lesion of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from lesionbrush.core.hu import HUWindow
from lesionbrush.core.rois import RoiBatch
from lesionbrush.diffusion.denoisers import Denoiser
from lesionbrush.diffusion.guidance import Moments, Outline, match_moments, match_outline
from lesionbrush.diffusion.schedules import NoiseSchedule
from lesionbrush.systems.lesion_inpainting.card import Calcium, LesionCard
from lesionbrush.systems.lesion_inpainting.laws.calcium import (
    Calcification,
    before_calcium,
    is_calcified,
    most_before_calcium,
)
from lesionbrush.systems.lesion_inpainting.laws.cores import Draws
from lesionbrush.systems.lesion_inpainting.laws.density import Densities, Density, Grid, capped, hold, raised
from lesionbrush.systems.lesion_inpainting.laws.painted import Painted, Part
from lesionbrush.systems.lesion_inpainting.laws.vessels import Seen, see_through, seen_through
from lesionbrush.systems.lesion_inpainting.request import Attributes, SynthesisRequest
from lesionbrush.systems.lesion_inpainting.shape import Drawn, deepest

LUNG_HU = -850.0
SOFT_SPREADS = 3.0
"""Tissue without calcium is no denser than so many standard deviations above the middle of solid lesions."""


@dataclass(frozen=True, eq=False)
class Holding:
    """Of a batch. items: seed and lesion of each; drawn: coverage as it is made; editable: bool.

    outlines: (L, Z, Y, X) of all the ROIs, coverage as painted, narrowed or widened.
    """

    card: LesionCard
    window: HUWindow
    request: SynthesisRequest
    rois: RoiBatch
    items: Sequence[tuple[int, int]]
    outlines: np.ndarray
    drawn: Drawn
    editable: np.ndarray
    schedule: NoiseSchedule
    device: torch.device

    def on(self, denoise: Denoiser) -> Denoiser:
        """The same denoiser, held. Healthy tissue is held to nothing."""
        if self.wish.lesion == "none":
            return denoise
        denoise = self._uncalcified(denoise)
        for part in self._densities.parts():
            denoise = self._with_part(denoise, part)
        denoise = self._room_for_calcium(denoise)
        denoise = self._hazy(self._with_moments(denoise))
        denoise = self._with_outline(denoise)
        return denoise if self.seen is None else see_through(denoise, self.seen, self.window, self.schedule)

    @cached_property
    def wish(self) -> Attributes:
        """What the network is to make: where calcium is drawn, the lesion before."""
        asked = self.request.attributes
        return asked if self._calcium is None else before_calcium(asked)

    def calcified(self, hu: np.ndarray) -> np.ndarray:
        """The samples (B, Z, Y, X), HU, with the calcium that was asked for."""
        if self._calcium is None:
            return hu
        return Calcification(self.request.attributes, self._calcium, self._bare).into(hu)

    @property
    def _calcium(self) -> Calcium | None:
        """That is drawn, and not left to the network."""
        return self.card.calcium if is_calcified(self.request.attributes) else None

    @cached_property
    def seen(self) -> Seen | None:
        """Vessels and airways under ground glass, where HU may change; None where none are kept."""
        glass_hu, hu = self._bare.glass_hu, self.rois.reference_hu
        if glass_hu is None or not self.request.keep_vessels:
            return None
        painted, spacing_mm = self._bare.painted, self.rois.spacing_mm
        levels = zip(painted.lung_hu.tolist(), glass_hu.tolist(), strict=True)
        found = [
            seen_through(hu[lesion], mask, spacing_mm, *level)
            for (_, lesion), mask, level in zip(self.items, self.drawn.mask, levels, strict=True)
        ]
        return Seen.stacked(found).within(self.editable)

    @cached_property
    def _densities(self) -> Densities:
        """Of the lesions without their spicules, counted beside the vessels."""
        bare = self._bare
        return bare if self.seen is None else replace(bare, painted=bare.painted.beside(self.seen.vessels))

    @cached_property
    def _bare(self) -> Densities:
        card, rois, drawn = self.card, self.rois, self.drawn
        smooth = np.minimum(drawn.mask, self.outlines[self._lesions])
        bodies = np.where(drawn.strands > 0, smooth, drawn.mask)
        return Densities(
            self.wish,
            Density(card.core_hu, card.ground_glass_above_lung_hu, card.small_solid),
            bodies,
            Painted.of(rois, self.outlines, self._lesions),
            Grid(rois.spacing_mm, rois.slice_mm),
            Draws([rois.entropy(*item) for item in self.items], self.request.variety),
        )

    def _uncalcified(self, denoise: Denoiser) -> Denoiser:
        """Without calcium, nothing of a lesion is far above soft tissue, if no HU were asked for."""
        wish, core = self.wish, self.card.core_hu
        if wish.calcification != "none" or core is None:
            return denoise
        if wish.mean_hu is not None or wish.heterogeneity_hu is not None:
            return denoise
        most_hu = np.full(len(self.items), core[0] + SOFT_SPREADS * core[1], np.float32)
        return capped(denoise, self._tensor(self._bare.painted.mask), self._unit(most_hu), self.schedule)

    def _room_for_calcium(self, denoise: Denoiser) -> Denoiser:
        mean_hu = self.request.attributes.mean_hu
        if self._calcium is None or mean_hu is None:
            return denoise
        most_hu = np.full(len(self.items), most_before_calcium(mean_hu, self._calcium), np.float32)
        return self._with_part(denoise, self._bare.painted.held(most_hu)._replace(at_most=True))

    def _with_part(self, denoise: Denoiser, part: Part) -> Denoiser:
        region, counted = self._tensor(part.region), self._tensor(part.weights)
        wish = Moments(region, counted, self._unit(part.mean_hu), None, self._below(part.even))
        denoise = hold(denoise, wish, self.schedule, at_most=part.at_most)
        if part.most_hu is None:
            return denoise
        return capped(denoise, region, self._unit(part.most_hu), self.schedule)

    def _with_moments(self, denoise: Denoiser) -> Denoiser:
        """The mean and spread of HU that were asked for are met, not only hinted at."""
        wish, native, window = self.wish, self.rois.native_mean, self.window
        mean, spread = None, None
        if wish.mean_hu is not None:
            mean = self._unit(wish.mean_hu - native.kept_hu[self._lesions])
        if wish.heterogeneity_hu is not None:
            spread = 2 * wish.heterogeneity_hu / (window.hi_hu - window.lo_hu)
        region, counted = (self._tensor(array[self._lesions]) for array in (self.rois.mask, native.counted))
        below = self._below(wish.texture == "ground_glass")
        return match_moments(denoise, Moments(region, counted, mean, spread, below), self.schedule)

    def _hazy(self, denoise: Denoiser) -> Denoiser:
        haze = self._densities.even_glass
        if haze is None:
            return denoise
        region, inner = self._tensor(haze.region), self._tensor(haze.inner)
        denoise = raised(denoise, inner, self._unit(haze.least_hu), self.schedule)
        return capped(denoise, region, self._unit(haze.most_hu), self.schedule)

    def _with_outline(self, denoise: Denoiser) -> Denoiser:
        """What was drawn into the mask is held in the image as well, or the network would smooth it away.

        That of a part-solid lesion is of its glass.
        """
        drawn, painted = self.drawn, self.outlines[self._lesions]
        if np.array_equal(drawn.mask, painted):
            return denoise
        whole, carved = drawn.mask * painted, (painted - drawn.mask).clip(min=0)
        glass = self._densities.glass > 0 if self._densities.cores is not None else True
        arrays = (deepest(whole * glass), drawn.mask, drawn.dense, carved * glass)
        body, covered, dense, carved_ = (self._tensor(array) for array in arrays)
        return match_outline(denoise, Outline(body, covered, dense, carved_, self._lung), self.schedule)

    @property
    def _lesions(self) -> list[int]:
        return [lesion for _, lesion in self.items]

    def _below(self, even: bool) -> float:
        """What a lesion stands out from; above everything, if all of it is to be moved alike."""
        return 1.0 if even else self._lung

    @property
    def _lung(self) -> float:
        return float(self.window.to_unit(np.array(LUNG_HU)))

    def _unit(self, hu: np.ndarray) -> Tensor:
        return torch.from_numpy(self.window.to_unit(hu))

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array.astype(np.float32))[:, None].to(self.device)
