"""What Lung-DDPM takes, and may change: both lungs are one ROI. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lesionbrush.core.inputs import Input, Inputs
from lesionbrush.core.lesions import Lesions
from lesionbrush.core.model import EditHooks, Prepared, place_mask
from lesionbrush.core.region import Scope
from lesionbrush.core.roi import RoiGrid
from lesionbrush.core.rois import RoiBatch
from lesionbrush.core.volume import Volume, mask_on_grid
from lesionbrush.errors import EmptyMask, NoLungs
from lesionbrush.systems.lung_ddpm.request import LungDDPMRequest


def place_lungs(lungs: Volume, reference: Volume) -> Volume:
    """On the grid of the CT, 0 and 1: any label counts, for right and left lung have one each.

    Raises NoLungs when there is none, and as `mask_on_grid`.
    """
    try:
        return mask_on_grid(lungs.with_array((lungs.array > 0).astype(np.uint8)), reference)
    except EmptyMask as error:
        raise NoLungs("the volume that was sent is empty; leave it out to have them found") from error


INPUTS = (
    Input(
        "lungs",
        "mask",
        "both lungs as a label volume on the grid of the CT; found by itself when left out",
        check=place_lungs,
    ),
)


def region(reference: Volume, mask: Volume | None, inputs: Inputs, request: LungDDPMRequest) -> Scope:
    """The lungs that were sent, or are found, in one ROI. Raises NoLungs, and as `mask_on_grid`."""
    from lesionbrush.anatomy.lungs import segment_lungs  # and what it needs, where it is needed

    lesion, sent = place_mask(reference, mask, request), inputs.volume("lungs")
    lungs = segment_lungs(reference) if sent is None else place_lungs(sent, reference)
    inside = lungs.array > 0
    return Scope(lesion, inside if request.region == "lungs" else None, "field", inside)


def prepare(
    lesions: Lesions,
    grids: Sequence[RoiGrid],
    rois: RoiBatch,
    seeds: Sequence[int],
    inputs: Inputs,
    request: LungDDPMRequest,
) -> Prepared:
    """`own`: (L, Z, Y, X) float32, the share 0..1 of each ROI voxel that is lung."""
    del rois, seeds, inputs, request
    assert lesions.scope.field is not None
    return Prepared(lesions.measure_coverage(lesions.orientation.view(lesions.scope.field), grids))


WHOLE = EditHooks(INPUTS, region, prepare)
