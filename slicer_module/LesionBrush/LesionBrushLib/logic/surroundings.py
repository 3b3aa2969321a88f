"""What a painted lesion lies in. Arrays are (k, j, i)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..client.answers import MadeFor, ModelFacts
from .choices import chosen_segment
from .masks import Place, segment_part
from .parameters import Parameters
from .problems import EmptyMask, NotACT, NotReady
from .propose import grown
from .voxels import stored_array

NEAR_MM, FAR_MM = 3.0, 8.0
"""As the server looks: nearer is the border of a lesion that was there, further often another organ."""
APART_MM = 1.5
"""Voxels closer than this are not all looked at: it is done with every stroke of the brush."""


@dataclass(frozen=True, eq=False)
class Surroundings:
    """HU under a mask, (N,), and NEAR_MM to FAR_MM around it, (M,)."""

    inside_hu: np.ndarray
    around_hu: np.ndarray

    @property
    def shown_hu(self) -> np.ndarray:
        """What to call it by: what is around, unless the mask fills all there is."""
        return self.around_hu if self.around_hu.size else self.inside_hu

    def is_in(self, tissue: MadeFor) -> bool:
        """As the server decides it for each lesion, here for all that is painted."""
        return any(_share(tissue, hu) >= tissue.least_share for hu in (self.inside_hu, self.around_hu))


def advice(place: Surroundings | None, chosen: ModelFacts, offered: Iterable[ModelFacts]) -> str:
    """A sentence when a lesion lies where the chosen model was not made for, with those that were, or ""."""
    tissue = chosen.made_for
    if place is None or tissue is None or place.is_in(tissue):
        return ""
    fitting = [one for one in offered if one.can_run and one.made_for and place.is_in(one.made_for)]
    titles = [one.title for one in sorted(fitting, key=lambda one: not one.is_recommended)]
    better = f"choose {' or '.join(titles)}" if titles else "no model of this server was made for it"
    return (
        f"The lesion lies in tissue of {np.median(place.shown_hu):.0f} HU; {chosen.title} was made for "
        f"lesions in {tissue.name} ({tissue.hu[0]:.0f} to {tissue.hu[1]:.0f} HU): {better}."
    )


def _share(tissue: MadeFor, hu: np.ndarray) -> float:
    return float(np.count_nonzero((hu >= tissue.hu[0]) & (hu <= tissue.hu[1])) / max(hu.size, 1))


def surroundings(chosen: Parameters) -> Surroundings | None:
    """Of the chosen segment in the chosen CT; None while one of them is missing, empty or no CT."""
    segment = chosen_segment(chosen)
    if chosen.reference is None or not segment:
        return None
    try:
        place = Place.of(chosen.reference)
        part, first = segment_part(chosen.segmentation, segment, place)
        hu = stored_array(chosen.reference)
    except (EmptyMask, NotACT, NotReady):
        return None
    spacing_mm, shape = place.grid.spacing_mm, np.array(place.grid.shape_ijk)
    grow = np.ceil(FAR_MM / spacing_mm).astype(int)
    low = np.maximum(np.array(first) - grow, 0)
    high = np.minimum(np.array(first) + part.shape[::-1] + grow, shape)
    mask = np.zeros(tuple(high - low)[::-1], bool)
    mask[tuple(slice(a, a + n) for a, n in zip((first - low)[::-1], part.shape))] = part > 0
    steps = np.maximum(np.round(APART_MM / spacing_mm).astype(int), 1)
    thin = tuple(slice(None, None, int(step)) for step in steps[::-1])
    if not mask[thin].any():
        thin, steps = (slice(None),) * 3, np.ones(3, int)
    near_hu = hu[tuple(slice(a, b) for a, b in zip(low[::-1], high[::-1]))][thin]
    inside, apart_mm = mask[thin], spacing_mm * steps
    around = grown(inside, apart_mm, FAR_MM) & ~grown(inside, apart_mm, NEAR_MM)
    return Surroundings(near_hu[inside], near_hu[around])
