"""What Palette may change: the mask with its margin, or boxes around its parts. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from lesionbrush.core.boxes import box_of, dilate
from lesionbrush.core.inputs import Inputs
from lesionbrush.core.lesions import Lesions
from lesionbrush.core.model import EditHooks, Prepared, place_mask
from lesionbrush.core.region import Scope
from lesionbrush.core.roi import RoiGrid
from lesionbrush.core.rois import RoiBatch
from lesionbrush.core.volume import Volume
from lesionbrush.systems.palette.request import PaletteRequest


def region(reference: Volume, mask: Volume | None, inputs: Inputs, request: PaletteRequest) -> Scope:
    """Each lesion on slices of the CT. Raises as `mask_on_grid`."""
    del inputs
    lesion = place_mask(reference, mask, request)
    if request.region == "mask":
        return Scope(lesion, holds="slices")
    return Scope(lesion, boxes_around(lesion, request.box_mm), "slices")


def boxes_around(mask: Volume, box_mm: float) -> np.ndarray:
    """(I, J, K) bool: the box of every connected part, so much wider on every side within its slices."""
    inside = mask.array > 0
    labels, _ = ndimage.label(inside, structure=np.ones((3, 3, 3)))
    found = np.zeros(inside.shape, bool)
    spacing_mm, along_z = np.array(mask.spacing_mm), slice_axis(mask)
    for part in ndimage.find_objects(labels):
        grown = list(dilate(box_of((p.start, p.stop) for p in part), box_mm, spacing_mm, inside.shape))
        grown[along_z] = part[along_z]
        found[tuple(grown)] = True
    return found


def slice_axis(volume: Volume) -> int:
    """The stored axis nearest to the patient's length."""
    directions = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    return int(np.abs(directions[2]).argmax())


def prepare(
    lesions: Lesions,
    grids: Sequence[RoiGrid],
    rois: RoiBatch,
    seeds: Sequence[int],
    inputs: Inputs,
    request: PaletteRequest,
) -> Prepared:
    """`own`: how far apart the slices of the ROIs are, mm."""
    del lesions, rois, seeds, inputs, request
    return Prepared(grids[0].steps_mm[0])


HOOKS = EditHooks(region=region, prepare=prepare)
