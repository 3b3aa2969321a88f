"""Which lung is which: parts are sorted by their side of the midline, joined lungs are cut apart."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

from lesionbrush.anatomy.lung_steps.air import Parts
from lesionbrush.anatomy.lung_steps.grid import CoarseGrid
from lesionbrush.core.boxes import bounding_box
from lesionbrush.core.volume import Array, Volume

RIGHT, LEFT = 1, 2
STRADDLES = 0.2  # share of a part beyond the midline from which on it may be both lungs
BOTH_LUNGS = 0.3  # share beyond the midline from which on it is cut there when nothing else parts it
SOFT_HU = -200.0
CUT_SHARE = 0.15  # of a side of the volume: more soft tissue there means that the body goes on
SHRINK_MM = (2.0, 4.0, 6.0, 9.0, 12.0)
JOINED_ML = 5.0
SMOOTH_MM = 6.0
SECOND_PEAK = 0.08  # of the higher peak of the profile: less is no second lung
VALLEY = 0.4  # of the lower peak: the mediastinum between two lungs


def body_midline(ct: Volume, grid: CoarseGrid) -> float:
    """Index along X of the middle of the body: that of the soft tissue.

    Where the volume cuts the body at a side it is the middle of the scanner, if the affine knows it.
    """
    soft = grid.hu > SOFT_HU
    middle = (len(soft) - 1) / 2
    knows = bool(np.abs(ct.affine[:3, 3]).max() > 1)  # a bare (0, 0, 0) is no place in a scanner
    if knows and max(soft[0].mean(), soft[-1].mean()) > CUT_SHARE:
        centre_mm = ct.affine @ (*(np.array(ct.shape) - 1) / 2, 1)
        return middle + float(centre_mm[0]) / grid.spacing_mm[0]  # RAS x falls along X
    if not soft.any():
        return middle
    return float(np.average(np.arange(len(soft)), weights=soft.sum(axis=(1, 2))))


def between_lungs(grid: CoarseGrid, lungs: Array) -> float | None:
    """Index along X of the gap between two lungs; None where the profile along X is that of one lung."""
    profile = ndimage.gaussian_filter1d(lungs.sum(axis=(1, 2), dtype=float), SMOOTH_MM / grid.spacing_mm[0])
    peak_before = np.maximum.accumulate(profile)
    peak_after = np.maximum.accumulate(profile[::-1])[::-1]
    lower_peak = np.minimum(peak_before, peak_after)
    two = lower_peak > SECOND_PEAK * profile.max()
    depth = np.where(two, profile / np.maximum(lower_peak, 1), 1)
    return float(depth.argmin()) if depth.min() < VALLEY else None


def label_sides(grid: CoarseGrid, lungs: Array, middle: float) -> Array:
    """uint8 labels (X, Y, Z), RIGHT or LEFT: each part as a whole unless both lungs are in it.

    middle: index along X of the middle of the body; it tells which lung it is where there is only one.
    """
    midline = between_lungs(grid, lungs)
    if midline is None:
        centre = float(np.nonzero(lungs)[0].mean())
        return np.where(lungs, RIGHT if centre < middle else LEFT, 0).astype(np.uint8)
    labels, joined = _sort(grid, lungs, midline)
    if not joined.any():
        return labels
    box = bounding_box(joined)
    labels[box][joined[box]] = _part(grid.crop(box), joined[box], midline - box[0].start)[joined[box]]
    return labels


def _sort(grid: CoarseGrid, mask: Array, midline: float) -> tuple[Array, Array]:
    """Labels of the parts that lie on one side, and the voxels of those in which both lungs may be."""
    parts = Parts.of(mask)
    beyond = _share_beyond(parts, midline)
    joined = (np.minimum(beyond, 1 - beyond) > STRADDLES) & (parts.voxels * grid.voxel_ml > JOINED_ML)
    side = np.where(joined, 0, np.where(beyond < 0.5, RIGHT, LEFT)).astype(np.uint8)
    side[0] = 0
    return side[parts.labels], parts.mask(joined)


def _part(grid: CoarseGrid, joined: Array, midline: float) -> Array:
    """Both lungs in one mask: shrunk until it falls apart, then each half is grown back."""
    depth_mm = grid.distance_mm(~joined)
    markers, rest = np.zeros(joined.shape, np.uint8), joined
    for shrink_mm in SHRINK_MM:
        found, rest = _sort(grid, rest & (depth_mm > shrink_mm), midline)
        markers = np.maximum(markers, found)
        if not rest.any():
            break
    if rest.any():
        markers[rest] = _cut(rest, midline)[rest]
    labels = watershed(-depth_mm, markers, mask=joined).astype(np.uint8)
    return np.where(labels > 0, labels, _cut(joined, midline))


def _share_beyond(parts: Parts, midline: float) -> Array:
    """Share of each part that lies to the patient's left of the midline."""
    left = np.zeros(parts.labels.shape, dtype=bool)
    left[int(np.ceil(midline)) :] = True
    return parts.share(left)


def _cut(joined: Array, midline: float) -> Array:
    """What nothing parts is one lung that grew across the midline, or both, cut at the midline."""
    labels = np.full(joined.shape, RIGHT, np.uint8)
    labels[int(np.ceil(midline)) :] = LEFT
    left_share = np.count_nonzero(joined & (labels == LEFT)) / np.count_nonzero(joined)
    if min(left_share, 1 - left_share) < BOTH_LUNGS:
        labels[:] = LEFT if left_share > 0.5 else RIGHT
    return labels


def next_labels(labels: Array, step: int) -> Array:
    """The first label that is not 0 from each voxel on along X: step -1 to the right, 1 to the left."""
    turned = labels if step < 0 else labels[::-1]
    index = np.arange(len(turned)).reshape(-1, 1, 1)
    last = np.maximum.accumulate(np.where(turned > 0, index, 0), axis=0)
    seen = np.take_along_axis(turned, last, axis=0)
    return seen if step < 0 else seen[::-1]
