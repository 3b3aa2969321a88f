"""What a painted lesion lies in, and whether the model was made for it.

A mask lies in a tissue when a good share of the voxels under it, or of those around it, have HU of that
tissue: under it where it is painted into healthy tissue, around it where it covers a lesion that is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt

from lesionbrush.core.boxes import Box, dilate
from lesionbrush.core.lesions import Lesions
from lesionbrush.core.registry import ModelCard, Tissue, list_models
from lesionbrush.errors import WeightsError

NEAR_MM, FAR_MM = 3.0, 8.0
"""Nearer is the blurred border of a lesion that was there; further is often another organ."""
PLAIN_AIR_HU = -970
"""Below it: the room beside the skin, airways, gas. No tissue, though cards of the lung begin at -1000."""
CLEARLY = 0.6
"""Of the best share: the blurred rim of the skin has HU of lung, and what is under it of fat."""
LEAST_DIAMETER_MM = 4.0
"""Of a ball with a lesion's volume; smaller ones, the models were not made for."""
LEAST_TISSUE = 0.1
"""Of what is looked at: with less than this all of it counts, as in a bulla."""


@dataclass(frozen=True, eq=False)
class Place:
    """HU of the CT under one lesion's mask, (N,), and `NEAR_MM` to `FAR_MM` around it, (M,)."""

    inside_hu: np.ndarray
    around_hu: np.ndarray

    @classmethod
    def of(cls, hu: np.ndarray, mask: np.ndarray, box: Box, spacing_mm: np.ndarray) -> Place:
        """Reads `box`, which holds the lesion, and FAR_MM around it. mask: like hu, not 0 in lesions."""
        near = dilate(box, FAR_MM, spacing_mm, hu.shape)
        away_mm = distance_transform_edt(mask[near] == 0, sampling=spacing_mm)
        around = (away_mm > NEAR_MM) & (away_mm <= FAR_MM)
        return cls(hu[box][mask[box] > 0], hu[near][around])

    @property
    def shown_hu(self) -> np.ndarray:
        """What to call it by: what is around it, unless the mask fills all there is."""
        return self.around_hu if self.around_hu.size else self.inside_hu

    def is_in(self, tissue: Tissue) -> bool:
        return self.share_in(tissue) >= tissue.least_share

    def share_in(self, tissue: Tissue) -> float:
        """Under the mask or around it, whichever is more; plain air counts as no tissue."""
        looked_at = map(without_plain_air, (self.inside_hu, self.around_hu))
        return max(share_of(tissue, hu) for hu in looked_at)


def without_plain_air(hu: np.ndarray) -> np.ndarray:
    """The rest, or all where there is hardly any rest. hu: (N,)."""
    rest = hu[hu >= PLAIN_AIR_HU]
    return rest if rest.size >= LEAST_TISSUE * hu.size else hu


def share_of(tissue: Tissue, hu: np.ndarray) -> float:
    """0 to 1: how much of it has HU of this tissue. 0 of nothing."""
    low, high = tissue.hu
    return float(np.count_nonzero((hu >= low) & (hu <= high)) / max(hu.size, 1))


def misfit_remarks(lesions: Lesions, card: ModelCard) -> tuple[str, ...]:
    """One remark when lesions lie in tissue the model was not made for; none for a card that names no tissue.

    Costs what the boxes around the lesions cost, however large the CT is.
    """
    if card.tissue is None:
        return ()
    places = [Place.of(lesions.view, lesions.mask, box, lesions.spacing_mm) for box in lesions.parts]
    strange = [place for place in places if not place.is_in(card.tissue)]
    return (_remark(card.name, card.tissue, strange, len(places)),) if strange else ()


def small_remarks(lesions: Lesions, card: ModelCard) -> tuple[str, ...]:
    """One remark when lesions are smaller than the model was made for; none for a card without a tissue."""
    if card.tissue is None:
        return ()
    voxels = [np.count_nonzero(lesions.mask[box]) for box in lesions.parts]
    widths_mm = np.cbrt(6 / np.pi * np.prod(lesions.spacing_mm) * np.array(voxels))
    small_mm = widths_mm[widths_mm < LEAST_DIAMETER_MM]
    if not small_mm.size:
        return ()
    which = "the mask" if len(voxels) == 1 else f"the smallest of {len(voxels)} lesions"
    return (
        f"{which} has the volume of a ball of {small_mm.min():.1f} mm; {card.name} was made for lesions from "
        f"{LEAST_DIAMETER_MM:g} mm: smaller ones may hardly be seen",
    )


def _remark(name: str, tissue: Tissue, strange: Sequence[Place], count: int) -> str:
    median_hu = np.median(np.concatenate([place.shown_hu for place in strange]))
    low, high = tissue.hu
    lies = "the mask lies" if count == 1 else f"{len(strange)} of {count} lesions lie"
    return (
        f"{lies} in tissue of {median_hu:.0f} HU (median {NEAR_MM:g} to {FAR_MM:g} mm around); {name} was "
        f"made for lesions in {tissue.name} ({low:g} to {high:g} HU there): expect a border that does not "
        f"fit. Installed models that fit: {', '.join(_find_fitting(strange)) or 'none'}"
    )


def _find_fitting(strange: Sequence[Place]) -> list[str]:
    """Models made for what all of these lesions lie in, not for a bit of it: those that are recommended, else
    all."""
    try:
        cards = [model.card for model in list_models()]
    except WeightsError:  # a damaged card of another model is for `models verify` to tell, not for this one
        return []
    cards = [card for card in cards if card.tissue and all(place.is_in(card.tissue) for place in strange)]
    shares = [min(place.share_in(card.tissue) for place in strange) for card in cards if card.tissue]
    cards = [card for card, share in zip(cards, shares, strict=True) if share >= CLEARLY * max(shares)]
    recommended = [card for card in cards if card.recommended]
    return [card.name for card in recommended or cards]
