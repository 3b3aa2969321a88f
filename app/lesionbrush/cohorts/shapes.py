"""The body of a lesion in mm, drawn from its size, shape and elongation, before it has a place."""

from __future__ import annotations

from typing import cast

import numpy as np

from lesionbrush.core.volume import Volume
from lesionbrush.phantom.chest import BUMPS, Blob, LesionShape
from lesionbrush.transfer.forms import LesionForm

_VOXELS_ACROSS, _FINEST_MM = 40.0, 0.25


def draw_form(
    diameter_mm: float, shape: str, elongation: float, generator: np.random.Generator
) -> LesionForm:
    """A body with the volume of a ball of `diameter_mm`; elongation: its longest over its shortest axis."""
    blob = Blob.random(diameter_mm / 2, *BUMPS[cast(LesionShape, shape)], generator)
    stretch = np.array([elongation**0.5, 1.0, elongation**-0.5])
    mm = max(diameter_mm / _VOXELS_ACROSS, _FINEST_MM)
    half = np.ceil(blob.reach_mm * stretch / mm).astype(int) + 2
    axes = [np.arange(-n, n + 1) * mm for n in half]
    offsets_mm = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    inside = blob.contains(offsets_mm / stretch)
    return LesionForm.of(Volume(inside.astype(np.uint8), np.diag((mm, mm, mm, 1.0))))
