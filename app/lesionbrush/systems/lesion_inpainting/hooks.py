"""What is prepared before the network of lesion inpainting is asked: donors, for healthy tissue. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from lesionbrush.core.inputs import Inputs
from lesionbrush.core.lesions import Lesions
from lesionbrush.core.model import EditHooks, Prepared
from lesionbrush.core.roi import RoiGrid
from lesionbrush.core.rois import RoiBatch
from lesionbrush.systems.lesion_inpainting.donors import find_donors
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest


def prepare(
    lesions: Lesions,
    grids: Sequence[RoiGrid],
    rois: RoiBatch,
    seeds: Sequence[int],
    inputs: Inputs,
    request: SynthesisRequest,
) -> Prepared:
    """`own`: (V, L, Z, Y, X) donors for a removal, None for any other request."""
    del inputs
    if not request.heals_from_nearby:
        return Prepared()
    found = find_donors(lesions, grids, rois, seeds)
    return Prepared(found.hu, [found.remarks(k) for k in range(len(seeds))], found.fine_hu)


HOOKS = EditHooks(prepare=prepare)
