"""Ways to fill a mask in soft tissue that are measured side by side: the model, a lung model, a flat fill.

Arrays are in stored order on the grid of the CT.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lesionbrush.core.hu import round_hu
from lesionbrush.core.roi import ramp
from lesionbrush.core.volume import Volume
from lesionbrush.evaluation.syntheses import Maker
from lesionbrush.systems.lesion_inpainting.request import Attributes, SynthesisRequest
from lesionbrush.systems.lesion_inpainting.soft_tissue.plan import (
    AROUND_FROM_MM,
    AROUND_TO_MM,
    LEAST_VOXELS,
    SOFT_HU,
    TYPICAL_AROUND_HU,
)
from lesionbrush.systems.lesion_inpainting.soft_tissue.request import SoftTissueRequest, TumourAttributes

INNER_MM, FLAT_MARGIN_MM, SMOOTH_MM = 2.0, 2.0, 2.0


@dataclass(frozen=True, eq=False)
class FillSite:
    """A mask in a CT, and what is to be there. patient: of the CT."""

    name: str
    patient: str
    ct: Volume
    mask: Volume
    contrast_hu: float
    heterogeneity_hu: float | None = None

    @property
    def inside(self) -> np.ndarray:
        inside: np.ndarray = self.mask.array > 0
        return inside

    @property
    def wanted_hu(self) -> float:
        return self.around_hu + self.contrast_hu

    @property
    def around_hu(self) -> float:
        """Median of the soft tissue 3 to 9 mm around, on the CT's own grid."""
        away_mm = ndimage.distance_transform_edt(~self.inside, sampling=self.ct.spacing_mm)
        near = self.ct.array[(away_mm > AROUND_FROM_MM) & (away_mm <= AROUND_TO_MM)]
        soft = near[(near >= SOFT_HU[0]) & (near <= SOFT_HU[1])]
        return float(np.median(soft)) if soft.size >= LEAST_VOXELS else TYPICAL_AROUND_HU

    def inner(self) -> np.ndarray:
        """bool: where a radiologist would measure; all of a mask that is too thin."""
        depth_mm = ndimage.distance_transform_edt(self.inside, sampling=self.ct.spacing_mm)
        deep: np.ndarray = depth_mm > INNER_MM
        return deep if deep.sum() >= LEAST_VOXELS else self.inside


Filler = Callable[[FillSite, int], np.ndarray]
"""(site, seed): int16 HU on the grid of the CT."""


def by_plan(maker: Maker) -> Filler:
    """A model of soft tissue, asked for the contrast."""

    def fill(site: FillSite, seed: int) -> np.ndarray:
        wish = TumourAttributes(contrast_hu=site.contrast_hu, heterogeneity_hu=site.heterogeneity_hu)
        request = SoftTissueRequest(seed=seed, attributes=wish)
        return maker.make(site.ct, site.mask, request).arrays[0]

    return fill


def healing(maker: Maker) -> Filler:
    """The same model, asked for healthy tissue."""

    def fill(site: FillSite, seed: int) -> np.ndarray:
        request = SoftTissueRequest(seed=seed, attributes=TumourAttributes(lesion="none"))
        return maker.make(site.ct, site.mask, request).arrays[0]

    return fill


def by_lung_model(maker: Maker) -> Filler:
    """A lung model, asked for the same HU, and for the spread of the CT around."""

    def fill(site: FillSite, seed: int) -> np.ndarray:
        wish = Attributes(texture=None, mean_hu=site.wanted_hu, heterogeneity_hu=_noise_hu(site))
        request = SynthesisRequest(seed=seed, attributes=wish, keep_vessels=False)
        return maker.make(site.ct, site.mask, request).arrays[0]

    return fill


def _noise_hu(site: FillSite) -> float:
    smooth = ndimage.gaussian_filter(
        site.ct.array.astype(np.float32), SMOOTH_MM / np.array(site.ct.spacing_mm)
    )
    return float((site.ct.array - smooth)[site.inside].std())


def flat(site: FillSite, seed: int) -> np.ndarray:
    """One density with a soft border, and the CT's own grain on it: what any painting tool can do."""
    del seed
    hu = site.ct.array.astype(np.float32)
    smooth = ndimage.gaussian_filter(hu, SMOOTH_MM / np.array(site.ct.spacing_mm))
    weight = ramp(site.inside, site.ct.spacing_mm, FLAT_MARGIN_MM)
    return round_hu(hu + weight * (site.wanted_hu - smooth))
