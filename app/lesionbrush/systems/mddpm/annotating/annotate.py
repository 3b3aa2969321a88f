"""What is where in a CT that nobody annotated, slice by slice."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from lesionbrush.core.inputs import Layout
from lesionbrush.core.roi import Orientation
from lesionbrush.core.volume import Volume, require_ct
from lesionbrush.systems.mddpm.annotating.network import Annotator
from lesionbrush.systems.mddpm.annotating.planes import leave_plane, read_plane

LEAST_LUNG_MM2 = 1500.0
"""In a slice: networks and maps know of slices through lungs alone, and a slice with less is left out."""
TOGETHER = 8


def annotate(ct: Volume, annotator: Annotator, on_slice: Callable[[], object] = lambda: None) -> Layout:
    """Labels on the grid of the CT. Slices without lungs have none. Raises NotACT."""
    ct = require_ct(ct)
    turned = Orientation.of(ct.affine)
    view, spacing_mm = turned.view(ct.array), turned.spacing_mm(ct.spacing_mm)
    labels = np.zeros(view.shape, np.uint8)
    for first in range(0, len(view), TOGETHER):
        part = view[first : first + TOGETHER]
        chances = annotator.chances(np.stack([read_plane(one, spacing_mm[1:]) for one in part]))
        for z, one in enumerate(chances, start=first):
            back = leave_plane(one, (view.shape[1], view.shape[2]), spacing_mm[1:])
            labels[z] = _drop_crumbs(back.argmax(axis=0).astype(np.uint8))
            on_slice()
    lungs = [number for number, name in enumerate(annotator.names, start=1) if "lung" in name]
    area_mm2 = np.isin(labels, lungs).sum(axis=(1, 2)) * float(np.prod(spacing_mm[1:]))
    labels[area_mm2 < LEAST_LUNG_MM2] = 0
    names = {number: name for number, name in enumerate(annotator.names, start=1) if (labels == number).any()}
    return Layout(ct.with_array(turned.to_stored(labels)), names)


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
