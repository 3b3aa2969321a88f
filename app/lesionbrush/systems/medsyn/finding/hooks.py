"""Where a finding may be put: the lungs of the CT. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import maximum_filter1d

from lesionbrush.core.inputs import Input, Inputs
from lesionbrush.core.lesions import Lesions
from lesionbrush.core.model import EditHooks, Prepared, place_mask
from lesionbrush.core.region import Scope
from lesionbrush.core.roi import RoiGrid
from lesionbrush.core.rois import RoiBatch
from lesionbrush.core.volume import Volume, mask_on_grid
from lesionbrush.errors import EmptyMask, InvalidRequest, NoLungs
from lesionbrush.systems.medsyn.finding.grain import cover, learn_grain
from lesionbrush.systems.medsyn.finding.topics import denies_all, fills
from lesionbrush.systems.medsyn.request import FindingRequest
from lesionbrush.systems.medsyn.text.nodules import take_nodules

RIM_MM, RIM_HU = 2.0, -40
GRAIN = 3
"""Of the entropy of a finding: its grain is drawn apart from its noise."""


@dataclass(frozen=True, eq=False)
class AskedOfLungs:
    """text: without the nodules, which `left_out` are; lungs: (Z, Y, X) float32, the share 0..1 of each ROI
    voxel that is lung."""

    text: str
    left_out: int
    lungs: np.ndarray


def place_lungs(lungs: Volume, reference: Volume) -> Volume:
    """On the grid of the CT, 0 and 1: lobes and sides all count. Raises NoLungs, and as `mask_on_grid`."""
    try:
        return mask_on_grid(lungs.with_array((lungs.array > 0).astype(np.uint8)), reference)
    except EmptyMask as error:
        raise NoLungs("the volume that was sent is empty; leave it out to have them found") from error


INPUTS = (
    Input("text", "text", "what the lungs are to show, in words of a report", required=True),
    Input("lungs", "mask", "both lungs on the grid of the CT; found when left out", check=place_lungs),
)


def region(reference: Volume, mask: Volume | None, inputs: Inputs, request: FindingRequest) -> Scope:
    """The lungs that were sent or are found, or what of them was painted. Raises NoLungs, EmptyMask, and as
    `mask_on_grid`."""
    from lesionbrush.anatomy.lungs import segment_lungs  # and what it needs, where it is needed

    require_finding(_without_nodules(inputs)[0], request.amount_ml)
    sent = inputs.volume("lungs")
    lungs = segment_lungs(reference) if sent is None else place_lungs(sent, reference)
    inside = with_rim(lungs.array > 0, reference)
    if mask is None:
        return Scope(reference.with_array(inside.astype(np.uint8)), holds="field", field=inside)
    painted = inside & (place_mask(reference, mask, request).array > 0)
    if not painted.any():
        raise EmptyMask(
            "the mask is not in the lungs, and a finding is put into lungs: paint there, or no mask"
        )
    rim = inside & (lungs.array == 0) & with_rim(painted, reference)
    remark = f"Half air at the wall, {RIM_MM:g} mm beside the mask at most, belongs to it."
    changed = (painted | rim).astype(np.uint8)
    return Scope(reference.with_array(changed), holds="field", field=inside, remarks=(remark,))


def require_finding(text: str, amount_ml: float | None) -> None:
    """InvalidRequest for a text that denies all it speaks of, and for an amount of what fills nothing."""
    if denies_all(text):
        raise InvalidRequest(
            f"text: {text.strip()!r} says that there is nothing, so nothing would change; say what is to be "
            "seen, such as 'large right pleural effusion'"
        )
    if amount_ml is not None and not fills(text):
        raise InvalidRequest(
            f"amount_ml {amount_ml:g}: the text speaks of nothing that takes the place of lung, such as fluid"
        )


def with_rim(lungs: np.ndarray, reference: Volume) -> np.ndarray:
    """lungs, (I, J, K) bool, with the half air at their border: fluid lies against the wall."""
    far = [round(RIM_MM / mm) for mm in reference.spacing_mm]
    near = lungs
    for axis, voxels in enumerate(far):
        near = maximum_filter1d(near, 2 * voxels + 1, axis=axis)
    rim: np.ndarray = lungs | (near & (reference.array < RIM_HU))
    return rim


def prepare(
    lesions: Lesions,
    grids: Sequence[RoiGrid],
    rois: RoiBatch,
    seeds: Sequence[int],
    inputs: Inputs,
    request: FindingRequest,
) -> Prepared:
    """`own`: `AskedOfLungs`; details: new grain, for what takes the place of lung."""
    del request
    assert lesions.scope.field is not None
    lungs = lesions.measure_coverage(lesions.orientation.view(lesions.scope.field), grids)[0]
    covariance, (box,) = learn_grain(lesions.view), lesions.edit_boxes
    details = None
    if covariance is not None:
        generators = (np.random.default_rng((GRAIN, *rois.entropy(seed, 0))) for seed in seeds)
        details = [[cover(covariance, box, rng)] for rng in generators]
    return Prepared(AskedOfLungs(*_without_nodules(inputs), lungs), details=details)


def _without_nodules(inputs: Inputs) -> tuple[str, int]:
    """InvalidRequest where nothing is left."""
    text, nodules = take_nodules(inputs.text("text") or "")
    if not text.strip(" .;\n"):
        raise InvalidRequest(
            "text: it asks for nodules alone, which are smaller than a text acts on: paint them, and use "
            "lung_lesion"
        )
    return text, len(nodules)


HOOKS = EditHooks(INPUTS, region, prepare, needs_mask=False)
