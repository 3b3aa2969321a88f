"""Vessels and airways that are seen through ground glass.

Ground glass is haze that hides neither vessels nor bronchi (glossary of terms, Hansell et al. 2008,
doi:10.1148/radiol.2462070712): it takes the place of air, so lung gains all of its density and a vessel next
to none. A network that is not shown what lies under the mask makes an even cloud. Arrays are (Z, Y, X) on the
ROI, or (B, Z, Y, X) of several.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from scipy import ndimage
from scipy.stats import median_abs_deviation
from skimage.morphology import ball, remove_small_objects
from torch import Tensor

from lesionbrush.core.hu import HUWindow
from lesionbrush.diffusion.denoisers import Denoiser
from lesionbrush.diffusion.guidance import SHAPED_ABOVE_RATIO
from lesionbrush.diffusion.schedules import NoiseSchedule
from lesionbrush.systems.lesion_inpainting.laws.law import Law
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest

if TYPE_CHECKING:
    from lesionbrush.systems.lesion_inpainting.laws.batch import LesionBatch

WIDEST_MM = 6.0
"""What is wider in every direction is neither: a nodule, a wall, a bulla."""
CALM_MM, LEAST_CONTRAST_HU, NOISE_SIGMAS, LEAST_MM3 = 0.6, 90.0, 4.0, 25.0
"""They stand out from noise, and are no specks."""
VESSEL_HU, AIRWAY_BELOW_LUNG_HU = 40.0, 40.0


class VesselsLaw(Law):
    """Shows what lies under ground glass through it, where the request says so."""

    def concerns(self, request: SynthesisRequest) -> bool:
        glass = request.attributes.texture in ("ground_glass", "part_solid")
        return super().concerns(request) and glass and request.keep_vessels

    def hold(self, denoise: Denoiser, lesions: LesionBatch) -> Denoiser:
        if lesions.seen is None:
            return denoise
        return see_through(denoise, lesions.seen, lesions.scene.window, lesions.scene.schedule)


class Seen(NamedTuple):
    """What is seen through ground glass. hu: of it, float32; vessels, airways: bool, where they are."""

    hu: np.ndarray
    vessels: np.ndarray
    airways: np.ndarray

    @classmethod
    def stack(cls, items: Sequence[Seen]) -> Seen:
        return cls(*(np.stack(arrays) for arrays in zip(*items, strict=True)))

    def within(self, editable: np.ndarray) -> Seen:
        return Seen(self.hu, self.vessels & editable, self.airways & editable)


def find_seen(lesions: LesionBatch) -> Seen | None:
    """(B, Z, Y, X): in every lesion, where HU may change; None where there is no glass to see through."""
    scene, painted, glass_hu = lesions.scene, lesions.bare.painted, lesions.bare.glass_hu
    if glass_hu is None or not scene.request.keep_vessels:
        return None
    levels = zip(painted.lung_hu.tolist(), glass_hu.tolist(), strict=True)
    found = [
        look_through(scene.rois.reference_hu[lesion], mask, scene.rois.spacing_mm, *level)
        for lesion, mask, level in zip(lesions.lesions, lesions.drawn.mask, levels, strict=True)
    ]
    return Seen.stack(found).within(lesions.editable)


def look_through(
    hu: np.ndarray, glass: np.ndarray, spacing_mm: float, lung_hu: float, glass_hu: float
) -> Seen:
    """hu: (Z, Y, X) of the CT; glass: coverage 0..1; lung_hu: of the lung around it; glass_hu: its own."""
    calm = ndimage.gaussian_filter(hu, CALM_MM / spacing_mm)
    vessels = _narrow(calm, spacing_mm)
    airways = _narrow(-calm, spacing_mm) & (calm < lung_hu - AIRWAY_BELOW_LUNG_HU)
    air_share = np.clip((VESSEL_HU - calm) / (VESSEL_HU - lung_hu), 0, 1)
    veiled = calm + glass * air_share * (glass_hu - lung_hu)
    return Seen(np.where(vessels, veiled, calm).astype(np.float32), vessels, airways)


def _narrow(calm: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Bool: where something narrow is higher than what is around it."""
    height = ndimage.white_tophat(calm, footprint=ball(int(WIDEST_MM / 2 / spacing_mm)))
    sigma_hu = float(median_abs_deviation(height, axis=None, scale="normal"))
    found = height > np.median(height) + max(LEAST_CONTRAST_HU, NOISE_SIGMAS * sigma_hu)
    large: np.ndarray = remove_small_objects(found, ceil(LEAST_MM3 / spacing_mm**3), connectivity=3)
    return large


def see_through(denoise: Denoiser, seen: Seen, window: HUWindow, schedule: NoiseSchedule) -> Denoiser:
    """Each estimate (B, 1, Z, Y, X) kept to what is seen, while more than grain is left to be made."""
    unit = window.to_unit(seen.hu)
    there, vessels, airways = (torch.from_numpy(array)[:, None] for array in (unit, *seen[1:]))

    def change(x: Tensor, t: int) -> Tensor:
        estimate = denoise(x, t)
        if schedule.sigma(t) / schedule.alpha(t) < SHAPED_ABOVE_RATIO:
            return estimate
        level, dense, dark = there.to(estimate), vessels.to(x.device), airways.to(x.device)
        estimate = torch.where(dense, estimate.maximum(level), estimate)
        return torch.where(dark, estimate.minimum(level), estimate)

    return change
