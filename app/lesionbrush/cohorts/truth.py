"""Measured truth: how large a lesion is and which HU it has, in the finished CT. Nothing is as asked here."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.ndimage import distance_transform_edt
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import cdist

from lesionbrush.core.boxes import bounding_box, dilate
from lesionbrush.core.surroundings import FAR_MM, NEAR_MM
from lesionbrush.core.volume import Array, Volume

_CORNERS = np.array([(a, b) for a in (-0.5, 0.5) for b in (-0.5, 0.5)])


class LesionTruth(BaseModel):
    """Measured in the mask and in the ring 3 to 8 mm around it, without other lesions.

    long_axis_mm, short_axis_mm: the longest diameter in an axial slice, from edge to edge of voxels, and the
    longest one perpendicular to it; mean_diameter_mm: of both; ball_mm: diameter of a ball of its volume.
    contrast_hu: mean in the mask less the ring's; cnr: that over the ring's standard deviation. None: the
    ring is empty.
    """

    model_config = ConfigDict(frozen=True)

    voxels: int
    volume_ml: float
    long_axis_mm: float
    short_axis_mm: float
    mean_diameter_mm: float
    ball_mm: float
    mean_hu: float
    std_hu: float
    ring_hu: float | None
    contrast_hu: float | None
    cnr: float | None


def measure(ct: Volume, lesion: Array, others: Array | None = None) -> LesionTruth:
    """lesion, others: not 0 inside, on the grid of the CT (in stored order). Raises EmptyMask."""
    spacing = np.array(ct.spacing_mm)
    box = bounding_box(lesion)
    near = dilate(box, FAR_MM, spacing, lesion.shape)
    inside, hu = lesion[near] > 0, ct.array[near].astype(np.float64)
    away_mm = distance_transform_edt(~inside, sampling=spacing)
    around = (away_mm > NEAR_MM) & (away_mm <= FAR_MM)
    if others is not None:
        around &= others[near] == 0
    values, ring = hu[inside], hu[around]
    volume_mm3 = values.size * ct.voxel_volume_mm3
    long_mm, short_mm = axes_mm(ct.with_array(lesion))
    contrast = float(values.mean() - ring.mean()) if ring.size else None
    noisy = contrast is not None and ring.std() > 0
    return LesionTruth(
        voxels=values.size,
        volume_ml=round(volume_mm3 / 1000, 5),
        long_axis_mm=round(long_mm, 2),
        short_axis_mm=round(short_mm, 2),
        mean_diameter_mm=round((long_mm + short_mm) / 2, 2),
        ball_mm=round(float(np.cbrt(volume_mm3 * 6 / np.pi)), 2),
        mean_hu=round(float(values.mean()), 2),
        std_hu=round(float(values.std()), 2),
        ring_hu=round(float(ring.mean()), 2) if ring.size else None,
        contrast_hu=None if contrast is None else round(contrast, 2),
        cnr=round(contrast / float(ring.std()), 3) if noisy and contrast is not None else None,
    )


def axes_mm(lesion: Volume) -> tuple[float, float]:
    """Long and short axis, of the axial slice where the long one is longest. lesion: not 0 inside."""
    box = bounding_box(lesion.array)
    axis = int(np.abs(lesion.affine[2, :3]).argmax())
    spacing = np.delete(np.array(lesion.spacing_mm), axis)
    part = np.moveaxis(lesion.array[box] > 0, axis, 0)
    return max((_axes_of_slice(np.argwhere(plane), spacing) for plane in part if plane.any()), default=(0, 0))


def _axes_of_slice(pixels: Array, spacing_mm: Array) -> tuple[float, float]:
    """pixels: (N, 2) indices; in mm, between their outer corners."""
    corners = np.unique((pixels[:, None] + _CORNERS).reshape(-1, 2), axis=0) * spacing_mm
    try:
        outer = corners[ConvexHull(corners).vertices]
    except QhullError:  # no area; corners of a pixel always have one
        outer = corners
    apart = cdist(outer, outer)
    a, b = np.unravel_index(apart.argmax(), apart.shape)
    along = (outer[b] - outer[a]) / apart[a, b]
    across = outer @ np.array((-along[1], along[0]))
    return float(apart.max()), float(np.ptp(across))


def seam_hu(before: Array, after: Array) -> float:
    """How much larger steps between neighbours have become where the change ends, mean HU; 0: no seam.

    before, after: HU of one box.
    """
    changed = before != after
    steps_before: list[Array] = []
    steps_after: list[Array] = []
    for axis in range(3):
        low, high = (np.take(changed, range(*ends), axis) for ends in _ends(changed.shape[axis]))
        border = low != high
        for hu, steps in ((before, steps_before), (after, steps_after)):
            steps.append(np.abs(np.diff(hu.astype(np.int32), axis=axis))[border])
    old, new = (np.concatenate(steps) for steps in (steps_before, steps_after))
    return round(float(new.mean() - old.mean()), 2) if old.size else 0.0


def _ends(length: int) -> tuple[tuple[int, int], tuple[int, int]]:
    return (0, length - 1), (1, length)
