"""One request, as all of its lesions and seeds share it: built once, whatever parts its batch is run in.

Arrays are (L, Z, Y, X) on the ROIs, or (L,): one for each lesion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np

from lesionbrush.core.hu import HUWindow
from lesionbrush.core.rois import RoiBatch
from lesionbrush.diffusion.schedules import NoiseSchedule
from lesionbrush.systems.lesion_inpainting.card import Calcium, LesionCard
from lesionbrush.systems.lesion_inpainting.laws.calcium import is_calcified
from lesionbrush.systems.lesion_inpainting.laws.law import Law
from lesionbrush.systems.lesion_inpainting.laws.painted import SurroundingHU, measure_surroundings
from lesionbrush.systems.lesion_inpainting.request import Attributes, SynthesisRequest
from lesionbrush.systems.lesion_inpainting.shape import Drawn


@dataclass(frozen=True, eq=False)
class Scene:
    """laws: those that act, by name, in the order of `LAWS`; window: HU that are -1 and 1 to the network."""

    card: LesionCard
    window: HUWindow
    schedule: NoiseSchedule
    request: SynthesisRequest
    rois: RoiBatch
    laws: Mapping[str, Law]

    @cached_property
    def wish(self) -> Attributes:
        """What the network is to make: where calcium is drawn, the lesion before."""
        return reduce(lambda wish, law: law.settle(wish, self), self.laws.values(), self.request.attributes)

    @property
    def calcium(self) -> Calcium | None:
        """That is drawn, and not left to the network."""
        acts = "calcium" in self.laws and is_calcified(self.request.attributes)
        return self.card.calcium if acts else None

    @cached_property
    def outlines(self) -> np.ndarray:
        """Coverage as painted, narrowed or widened."""
        return reduce(lambda masks, law: law.move(masks, self), self.laws.values(), self.rois.mask)

    @cached_property
    def surroundings(self) -> SurroundingHU:
        return measure_surroundings(self.rois)

    def reachable(self, lesion: int) -> np.ndarray:
        """(Z, Y, X) bool: where what is drawn may change HU."""
        rois = self.rois
        return rois.editable[lesion] if rois.reachable is None else rois.reachable[lesion]

    def draw(self, seed: int, lesion: int) -> Drawn:
        """(Z, Y, X): what the network is to fill, the outline with what laws draw into it."""
        rng = np.random.default_rng(self.rois.entropy(seed, lesion))
        plain = Drawn.plain(self.outlines[lesion])
        return reduce(lambda drawn, law: law.draw(drawn, lesion, self, rng), self.laws.values(), plain)
