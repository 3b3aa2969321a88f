"""The box a model sees, and the way there and back.

A model works on a small isotropic grid with axes (z, y, x) running to the patient's superior, anterior and
right side. `Orientation` turns a stored array into that order as a view (writing to the view writes to the
array); separable weights resample along each axis. Oblique volumes are not rotated: their ROI is oblique too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, map_coordinates
from scipy.optimize import linear_sum_assignment

from lesionbrush.core.boxes import Box, box_of

Float = NDArray[np.float32]
Kernel = Callable[[np.ndarray], np.ndarray]
SPLINE_REACH, KERNEL_REACH = 8, 6
"""Voxels, beyond which others of a cubic spline count for nothing, and of a ROI."""


@dataclass(frozen=True)
class Orientation:
    """Which stored axis runs along z, y, x, and whether backwards."""

    order: tuple[int, int, int]
    step: tuple[int, int, int]

    @classmethod
    def of(cls, affine: np.ndarray) -> Orientation:
        """The stored axes nearest to superior, anterior and right; `affine` is 4x4, voxel index to RAS mm."""
        directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        world, stored = linear_sum_assignment(-np.abs(directions[::-1]))
        order = stored[np.argsort(world)]
        step = [1 if directions[2 - k, axis] > 0 else -1 for k, axis in enumerate(order)]
        return cls((int(order[0]), int(order[1]), int(order[2])), (step[0], step[1], step[2]))

    def view(self, array: np.ndarray) -> np.ndarray:
        """(I, J, K) stored order to a (Z, Y, X) view of the same memory."""
        z, y, x = self.step
        return array.transpose(self.order)[::z, ::y, ::x]

    def to_stored(self, view: np.ndarray) -> np.ndarray:
        """The inverse of `view`: (Z, Y, X) back to stored order, contiguous."""
        z, y, x = self.step
        return np.ascontiguousarray(view[::z, ::y, ::x].transpose(np.argsort(self.order)))

    def stored_offset(self, box: Box, view_shape: Sequence[int]) -> tuple[int, int, int]:
        """Where a box of the view starts in stored indices."""
        offset = [0, 0, 0]
        for axis, step, part, size in zip(self.order, self.step, box, view_shape, strict=True):
            offset[axis] = part.start if step > 0 else size - part.stop
        return offset[0], offset[1], offset[2]

    def spacing_mm(self, stored_spacing_mm: Sequence[float]) -> NDArray[np.float64]:
        return np.array([stored_spacing_mm[axis] for axis in self.order], dtype=np.float64)


@dataclass(frozen=True)
class RoiGrid:
    """`shape` voxels of `spacing_mm` a side; `origin_mm` is the centre of its first voxel.

    slice_mm: how far apart its slices are, None for as far as its rows and columns. Positions are millimetres
    along the (z, y, x) axes of the volume's view, from the centre of its voxel 0.
    """

    shape: tuple[int, int, int]
    spacing_mm: float
    origin_mm: tuple[float, float, float]
    slice_mm: float | None = None

    @property
    def steps_mm(self) -> tuple[float, float, float]:
        """From voxel to voxel along z, y and x."""
        z = self.spacing_mm if self.slice_mm is None else self.slice_mm
        return z, self.spacing_mm, self.spacing_mm

    @classmethod
    def around(cls, centre_mm: np.ndarray, shape: Sequence[int], spacing_mm: float) -> RoiGrid:
        origin = centre_mm - (np.asarray(shape) - 1) / 2 * spacing_mm
        return cls((shape[0], shape[1], shape[2]), spacing_mm, (origin[0], origin[1], origin[2]))

    def positions_mm(self, axis: int) -> NDArray[np.float64]:
        return self.origin_mm[axis] + self.steps_mm[axis] * np.arange(self.shape[axis])

    def native_box(self, part: Box, within: Box, spacing_mm: np.ndarray) -> Box:
        """What of a box of the view a part of the ROI has an effect on when it is resampled onto it."""
        found = []
        for axis, (own, outer) in enumerate(zip(part, within, strict=True)):
            mm, reach_mm = self.positions_mm(axis)[own], KERNEL_REACH * self.steps_mm[axis]
            low = int(np.floor((mm[0] - reach_mm) / spacing_mm[axis]))
            high = int(np.ceil((mm[-1] + reach_mm) / spacing_mm[axis])) + 1
            start, stop = np.clip((low, high), outer.start, outer.stop)
            found.append((int(start), int(stop)))
        return box_of(found)


def keys_cubic(u: np.ndarray) -> np.ndarray:
    """Cubic convolution kernel with a = -1/2 (Keys 1981, IEEE ASSP 29:1153, Eq. 15), support (-2, 2)."""
    u = np.abs(u)
    near = 1.5 * u**3 - 2.5 * u**2 + 1
    far = -0.5 * u**3 + 2.5 * u**2 - 4 * u + 2
    return np.where(u < 1, near, np.where(u < 2, far, 0.0))


def triangle(u: np.ndarray) -> np.ndarray:
    """Linear interpolation kernel, support (-1, 1): keeps a mask's coverage between 0 and 1."""
    return np.clip(1 - np.abs(u), 0, None)


def axis_weights(source_mm: np.ndarray, target_mm: np.ndarray, kernel: Kernel = keys_cubic) -> Float:
    """(targets, sources) weights that resample along one axis, rows summing to one.

    The kernel is as wide as the coarser of the two grids, so going down averages instead of aliasing.
    Targets beyond the source take its edge value. Both position arrays are evenly spaced, in mm.
    """
    width = max(_step_mm(source_mm), _step_mm(target_mm))
    inside = np.clip(target_mm, source_mm.min(), source_mm.max())
    weights = kernel((inside[:, None] - source_mm[None, :]) / width)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _step_mm(positions_mm: np.ndarray) -> float:
    return abs(float(positions_mm[1] - positions_mm[0])) if len(positions_mm) > 1 else 1e-3


def resample(array: np.ndarray, weights: Sequence[Float]) -> Float:
    """Apply one (targets, sources) matrix per axis to a (Z, Y, X) array.

    The array is made contiguous first: BLAS rounds differently for another memory layout, and the result must
    not depend on the order in which a volume is stored.
    """
    wz, wy, wx = weights
    out = np.ascontiguousarray(array, dtype=np.float32) @ wx.T
    out = np.einsum("by,zyx->zbx", wy, out, optimize=True)
    return np.ascontiguousarray(np.tensordot(wz, out, axes=1))


def to_roi(view: np.ndarray, spacing_mm: np.ndarray, grid: RoiGrid, kernel: Kernel = keys_cubic) -> Float:
    """Resample a (Z, Y, X) view of a volume onto the ROI; reads only the voxels the ROI needs."""
    boxes, weights = [], []
    for axis in range(3):
        target = grid.positions_mm(axis)
        reach = 2 * max(grid.steps_mm[axis], spacing_mm[axis])
        low = int(np.floor((target[0] - reach) / spacing_mm[axis]))
        high = int(np.ceil((target[-1] + reach) / spacing_mm[axis])) + 1
        low, high = np.clip((low, high), 0, view.shape[axis])
        low, high = (low, high) if low < high else _nearest_edge(low, view.shape[axis])
        boxes.append(slice(low, high))
        weights.append(axis_weights(np.arange(low, high) * spacing_mm[axis], target, kernel))
    return resample(view[tuple(boxes)], weights)


def _nearest_edge(index: int, size: int) -> tuple[int, int]:
    """One voxel at the edge, for a ROI that lies beyond the volume along an axis."""
    index = min(int(index), size - 1)
    return index, index + 1


def from_roi(roi: np.ndarray, grid: RoiGrid, box: Box, spacing_mm: np.ndarray) -> Float:
    """Resample a ROI array onto the voxels of `box` of a (Z, Y, X) view, as sharp as it was before `to_roi`.

    Along axes on which the volume is the finer grid, one step of iterative back-projection (Irani & Peleg
    1991, CVGIP 53:231) returns what the way there and back takes from edges and grain.
    """
    return resample(roi, _back(grid, box, spacing_mm))


def _back(grid: RoiGrid, box: Box, spacing_mm: np.ndarray) -> list[Float]:
    weights = []
    for axis, part in enumerate(box):
        target = np.arange(part.start, part.stop + 1) * spacing_mm[axis]  # one more: one slice is thick too
        back = axis_weights(grid.positions_mm(axis), target)[:-1]
        weights.append(back @ _sharpening(grid, axis, float(spacing_mm[axis])))
    return weights


def _sharpening(grid: RoiGrid, axis: int, spacing_mm: float) -> Float:
    """2 - (way back, then there again), a matrix along one axis of the ROI; 1 where the volume is coarser."""
    roi_mm = grid.positions_mm(axis)
    one = np.eye(len(roi_mm), dtype=np.float32)
    if spacing_mm > grid.steps_mm[axis]:
        return one
    low, high = np.floor(roi_mm[0] / spacing_mm) - 4, np.ceil(roi_mm[-1] / spacing_mm) + 4
    volume_mm = np.arange(low, high + 1) * spacing_mm
    return 2 * one - axis_weights(volume_mm, roi_mm) @ axis_weights(roi_mm, volume_mm)


def read_between(view: np.ndarray, at: np.ndarray) -> np.ndarray:
    """(N,) float32 of a (Z, Y, X) view at places (3, N) between its voxels, by cubic splines, which keep more
    of its grain than straight lines; beyond its borders its edge goes on."""
    last = np.array(view.shape) - 1
    low = np.clip(np.floor(at.min(axis=1)).astype(int) - SPLINE_REACH, 0, last)
    high = np.clip(np.ceil(at.max(axis=1)).astype(int) + SPLINE_REACH, 0, last) + 1
    part = view[tuple(slice(a, b) for a, b in zip(low, high, strict=True))].astype(np.float32)
    found: np.ndarray = map_coordinates(part, at - low[:, None], order=3, mode="nearest")
    return found


def gather(weights: np.ndarray, grid: RoiGrid, box: Box, spacing_mm: np.ndarray) -> Float:
    """The transpose of `from_roi`: sum(weights * from_roi(roi)) equals sum(gathered * roi) for every roi."""
    return resample(weights, [matrix.T for matrix in _back(grid, box, spacing_mm)])


def inside_volume(grid: RoiGrid, shape: Sequence[int], spacing_mm: np.ndarray) -> NDArray[np.bool_]:
    """Which ROI voxels have their centre within half a voxel of the volume: the rest has no data."""
    axes = []
    for axis in range(3):
        position = grid.positions_mm(axis) / spacing_mm[axis]
        axes.append((position > -0.5 - 1e-6) & (position < shape[axis] - 0.5 + 1e-6))
    z, y, x = axes
    return z[:, None, None] & y[None, :, None] & x[None, None, :]


def ramp(mask: np.ndarray, spacing_mm: Sequence[float] | np.ndarray | float, margin_mm: float) -> Float:
    """1 in the mask, falling smoothly (3 s^2 - 2 s^3) to 0 at `margin_mm` outside it.

    mask: (Z, Y, X) bool. Distances are between voxel centres; the ramp is above 0 in the edit region alone.
    """
    if margin_mm <= 0 or not mask.any():
        return mask.astype(np.float32)
    return _smooth(1 - distance_transform_edt(~mask, sampling=spacing_mm) / margin_mm)


def inner_ramp(mask: np.ndarray, spacing_mm: Sequence[float] | np.ndarray | float, depth_mm: float) -> Float:
    """As `ramp`, but inside: 0 outside the mask, rising to 1 at `depth_mm` below its surface."""
    if depth_mm <= 0 or not mask.any():
        return mask.astype(np.float32)
    depth = distance_transform_edt(np.pad(mask, 1, mode="edge"), sampling=spacing_mm)[1:-1, 1:-1, 1:-1]
    return _smooth(depth / depth_mm)


def _smooth(share: np.ndarray) -> Float:
    """3 s^2 - 2 s^3, of s from 0 to 1; 0 below and 1 above."""
    s = np.clip(share, 0, 1).astype(np.float32)
    return s * s * (3 - 2 * s)
