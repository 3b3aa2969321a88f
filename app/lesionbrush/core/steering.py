"""The volumes that steer a synthesis, on the ROIs of its lesions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lesionbrush.anatomy.lungs import segment_lungs
from lesionbrush.core.boxes import bounding_box
from lesionbrush.core.inputs import Inputs
from lesionbrush.core.lesions import Lesions, Lungs, RoiBatch
from lesionbrush.core.registry import ModelCard
from lesionbrush.core.request import BaseRequest
from lesionbrush.core.roi import Orientation, RoiGrid, to_roi, triangle
from lesionbrush.core.volume import Volume, mask_on_grid, require_ct
from lesionbrush.errors import EmptyMask, LesionBrushError, NoLungs


def require_fitting(inputs: Inputs, reference: Volume, card: ModelCard) -> None:
    """Raises InvalidRequest for a volume the model does not take, and what is wrong with one it does:
    GeometryMismatch, NotACT, DamagedFile, NoLungs, EmptyMask, AmbiguousMask.
    """
    inputs.require_known_to(card.name, card.inputs)
    if inputs.anatomy is not None:
        reference.require_same_grid(require_ct(inputs.anatomy), "anatomy map")
    if inputs.lungs is not None:
        _sent_lungs(inputs.lungs, reference)
    if inputs.pathology is not None and inputs.pathology_mask is not None:
        _other_case(inputs.pathology, inputs.pathology_mask)


def lungs_of(reference: Volume, inputs: Inputs, request: BaseRequest, card: ModelCard) -> Lungs | None:
    """The lungs that were sent, or those that are found; None for a model that does not look at them.

    Raises NoLungs, GeometryMismatch.
    """
    if card.field != "lungs":
        return None
    mask = segment_lungs(reference) if inputs.lungs is None else _sent_lungs(inputs.lungs, reference)
    return Lungs(mask, request.edits_lungs)


def _sent_lungs(lungs: Volume, reference: Volume) -> Volume:
    """Any label counts: right and left lung have one each."""
    try:
        return mask_on_grid(lungs.with_array((lungs.array > 0).astype(np.uint8)), reference)
    except EmptyMask as error:
        raise NoLungs("lungs: the volume that was sent is empty; leave it out to have them found") from error
    except LesionBrushError as error:
        raise type(error)(f"lungs: {error}") from error


def steered(
    rois: RoiBatch, lesions: Lesions, grids: Sequence[RoiGrid], inputs: Inputs, lungs: Lungs | None
) -> RoiBatch:
    """The ROIs with what steers them. Raises GeometryMismatch, NotACT, DamagedFile, EmptyMask."""
    if lungs is not None:
        inside = lesions.orientation.view(lungs.mask.array) > 0
        rois = replace(rois, lungs=lesions.covered(inside, grids))
    if inputs.anatomy is not None:
        view = lesions.orientation.view(inputs.anatomy.array)
        hu = [to_roi(view, lesions.spacing_mm, grid) for grid in grids]
        rois = replace(rois, anatomy_hu=np.stack(hu))
    if inputs.pathology is not None and inputs.pathology_mask is not None:
        other, mask = _pathology(inputs.pathology, inputs.pathology_mask, rois, grids)
        rois = replace(rois, pathology_hu=other, pathology_mask=mask)
    return rois


def _pathology(
    ct: Volume, mask: Volume, rois: RoiBatch, grids: Sequence[RoiGrid]
) -> tuple[np.ndarray, np.ndarray]:
    """(L, Z, Y, X) HU and coverage 0..1: the other lesion's centre of mass on that of the painted one."""
    ct, lesion = _other_case(ct, mask)
    turned = Orientation.of(ct.affine)
    view, there = turned.view(ct.array), turned.view(lesion.array) > 0
    spacing_mm = turned.spacing_mm(ct.spacing_mm)
    box = bounding_box(there)
    places = np.argwhere(there[box]) + [part.start for part in box]
    centre_mm = places.mean(axis=0) * spacing_mm
    moved = [
        replace(grid, origin_mm=tuple(centre_mm - grid.spacing_mm * _centre(coverage)))
        for grid, coverage in zip(grids, rois.mask, strict=True)
    ]
    hu = np.stack([to_roi(view, spacing_mm, grid) for grid in moved])
    return hu, np.stack([to_roi(there, spacing_mm, grid, triangle) for grid in moved])


def _other_case(ct: Volume, mask: Volume) -> tuple[Volume, Volume]:
    """The other case's CT, and its lesion on the grid of that."""
    try:
        ct = require_ct(ct)
        return ct, mask_on_grid(mask, ct)
    except LesionBrushError as error:
        raise type(error)(f"pathology: {error}") from error


def _centre(coverage: np.ndarray) -> np.ndarray:
    """Centre of mass in voxels of a (Z, Y, X) coverage."""
    axes = [coverage.sum(axis=tuple(a for a in range(3) if a != axis)) for axis in range(3)]
    return np.array([float(np.arange(len(sums)) @ sums / sums.sum()) for sums in axes])
