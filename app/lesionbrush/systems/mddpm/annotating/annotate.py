"""What is where in a CT that nobody annotated, slice by slice."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from lesionbrush.core.inputs import Layout
from lesionbrush.core.roi import Orientation
from lesionbrush.core.volume import Volume, require_ct
from lesionbrush.systems.mddpm.anatomy_maps.structures import BODY_HU, are_known
from lesionbrush.systems.mddpm.annotating.network import Annotator
from lesionbrush.systems.mddpm.annotating.planes import leave_plane, read_plane

TOGETHER = 8


def annotate(ct: Volume, annotator: Annotator, on_slice: Callable[[], object] = lambda: None) -> Layout:
    """Labels on the grid of the CT; none in slices that maps know nothing of, such as those without both
    lungs. Raises NotACT."""
    ct = require_ct(ct)
    turned = Orientation.of(ct.affine)
    view, spacing_mm = turned.view(ct.array), turned.spacing_mm(ct.spacing_mm)
    labels = np.zeros(view.shape, np.uint8)
    for first in range(0, len(view), TOGETHER):
        part = view[first : first + TOGETHER]
        chances = annotator.chances(np.stack([read_plane(one, spacing_mm[1:]) for one in part]))
        for z, one in enumerate(chances, start=first):
            back = leave_plane(one, (view.shape[1], view.shape[2]), spacing_mm[1:])
            found = np.where(_is_outside(view[z]), 0, back.argmax(axis=0)).astype(np.uint8)
            labels[z] = _drop_crumbs(found)
            masks = {name: labels[z] == number for number, name in enumerate(annotator.names, start=1)}
            if not are_known(masks, spacing_mm[1:]):
                labels[z] = 0
            on_slice()
    names = {number: name for number, name in enumerate(annotator.names, start=1) if (labels == number).any()}
    return Layout(ct.with_array(turned.to_stored(labels)), names)


def _is_outside(hu: np.ndarray) -> np.ndarray:
    """Air of a (Y, X) slice that goes on to its border."""
    air = hu < BODY_HU
    border = np.zeros_like(air)
    border[[0, -1]] = border[:, [0, -1]] = True
    outside: np.ndarray = ndimage.binary_propagation(border & air, mask=air)
    return outside


def _drop_crumbs(labels: np.ndarray) -> np.ndarray:
    """Of each structure of a slice its largest part; what else was taken for it is as what is around."""
    kept = np.zeros_like(labels)
    for number in np.unique(labels[labels > 0]):
        parts, count = ndimage.label(labels == number)
        if count:
            kept[parts == np.bincount(parts.ravel())[1:].argmax() + 1] = number
    crumbs = (labels > 0) & (kept == 0)
    if crumbs.any() and (kept > 0).any():
        nearest = ndimage.distance_transform_edt(kept == 0, return_distances=False, return_indices=True)
        beside = ndimage.binary_dilation(kept > 0, iterations=2)
        kept = np.where(
            crumbs & ndimage.binary_propagation(beside & crumbs, mask=crumbs), kept[tuple(nearest)], kept
        )
    return kept
