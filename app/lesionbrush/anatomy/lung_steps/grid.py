"""The coarse grid on which the lungs are found, and the way back to the voxels of the CT.

Coarse arrays are (X, Y, Z) and run most nearly to the patient's left, back and head, whatever was stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform

from lesionbrush.core.boxes import Box
from lesionbrush.core.volume import Array, Volume

COARSE_MM = 2.0
AIR_HU = -400.0  # what is darker is lung or gas

_SURE, _NEAR = 0.9, 0.1  # interpolated shares: surely inside, and where the CT itself decides
_LPS = axcodes2ornt("LPS")


@dataclass(frozen=True, eq=False)
class CoarseGrid:
    """hu: (X, Y, Z) float32, means of blocks of voxels; spacing_mm: of its axes.

    blocks: voxels per block along the stored axes (I, J, K); stored: nibabel's orientation of these axes.
    """

    hu: Array
    spacing_mm: tuple[float, float, float]
    blocks: tuple[int, int, int]
    stored: Array

    @classmethod
    def of(cls, ct: Volume, edge_mm: float = COARSE_MM) -> CoarseGrid:
        """Blocks of some `edge_mm`; of one voxel where voxels are no smaller."""
        i, j, k = (max(1, round(edge_mm / mm)) for mm in ct.spacing_mm)
        stored = io_orientation(ct.affine)
        turn = ornt_transform(stored, _LPS)
        spacing_mm = np.empty(3)
        spacing_mm[turn[:, 0].astype(int)] = np.multiply(ct.spacing_mm, (i, j, k))
        hu = np.ascontiguousarray(apply_orientation(block_means(ct.array, (i, j, k)), turn))
        x, y, z = spacing_mm.tolist()
        return cls(hu, (x, y, z), (i, j, k), stored)

    @property
    def voxel_ml(self) -> float:
        return float(np.prod(self.spacing_mm)) / 1000

    def crop(self, box: Box) -> CoarseGrid:
        return replace(self, hu=self.hu[box])

    def distance_mm(self, mask: Array) -> Array:
        """Distance of every voxel from the mask, mm: 0 inside. Infinite where the mask is empty."""
        if not mask.any():
            return np.full(mask.shape, np.inf, np.float32)
        image = SimpleITK.GetImageFromArray(np.ascontiguousarray(mask, np.uint8))
        image.SetSpacing(self.spacing_mm[::-1])
        signed = SimpleITK.SignedMaurerDistanceMap(image, False, False, True)  # negative inside
        return np.maximum(SimpleITK.GetArrayFromImage(signed), 0)

    def thin(self, array: Array) -> Array:
        """The first voxel of each block of an array (I, J, K) of the CT, on the grid (X, Y, Z)."""
        first = array[tuple(slice(None, None, block) for block in self.blocks)]
        return np.ascontiguousarray(apply_orientation(first, ornt_transform(self.stored, _LPS)))

    def spread(self, coarse: Array, shape: tuple[int, ...]) -> Array:
        """The value of its block for each voxel (I, J, K) of a CT of this shape."""
        stored = self.as_stored(coarse)
        for axis, (block, length) in enumerate(zip(self.blocks, shape, strict=True)):
            stored = stored.repeat(block, axis).take(range(length), axis) if block > 1 else stored
        return np.asfortranarray(stored)

    def as_stored(self, coarse: Array) -> Array:
        """A coarse array along the stored axes (I, J, K), still coarse."""
        return np.ascontiguousarray(apply_orientation(coarse, ornt_transform(_LPS, self.stored)))


def block_means(array: Array, blocks: tuple[int, int, int]) -> Array:
    """Means of blocks of voxels, float32; the last block of an axis may be a smaller one.

    Slab by slab along the axis furthest apart in memory, so that a whole CT is read once and in order.
    """
    slow = _slowest_axis(array)
    others = [axis for axis in range(3) if axis != slow]
    starts = [np.arange(0, n, block) for n, block in zip(array.shape, blocks, strict=True)]
    means = np.empty([len(axis) for axis in starts], np.float32)
    counts = [np.diff(np.append(s, n)) for s, n in zip(starts, array.shape, strict=True)]
    in_plane = np.multiply.outer(*(counts[axis] for axis in others))
    for index, start in enumerate(starts[slow]):
        slab = array[_at(slow, slice(start, start + blocks[slow]))].sum(axis=slow, dtype=np.int32)
        for axis in (0, 1):
            slab = np.add.reduceat(slab, starts[others[axis]], axis=axis)
        means[_at(slow, index)] = slab / (in_plane * counts[slow][index])
    return means


def refine(ct: Volume, grid: CoarseGrid, labels: Array, air: Array) -> Array:
    """Coarse labels (X, Y, Z) on the voxels of the CT, uint8 (I, J, K).

    Where the border of the labels is that of air, the CT decides at AIR_HU; elsewhere (a nodule at the
    pleura, the hilum) the border is interpolated. air: coarse, the part of the labels that is air.
    """
    fine = np.zeros(ct.shape, np.uint8, order="F" if ct.array.flags.f_contiguous else "C")
    slow = _slowest_axis(ct.array)
    for label in (1, 2):
        inside = grid.as_stored((labels == label).astype(np.float32))
        filled = grid.as_stored(((labels == label) & ~air).astype(np.float32))
        if not inside.any():
            continue
        pairs = zip(_slices(inside, ct, grid, slow), _slices(filled, ct, grid, slow), strict=True)
        for index, (share, share_filled) in enumerate(pairs):
            if share is None:
                continue
            place = _at(slow, index)
            dark = ct.array[place] < AIR_HU
            if share_filled is not None:
                dark |= share_filled >= 0.5
            lung = (share > _SURE) | ((share > _NEAR) & dark)
            target = fine[place]
            target[lung & ((target == 0) | (share > 0.5))] = label
    return fine


def _slices(coarse: Array, ct: Volume, grid: CoarseGrid, slow: int) -> Iterator[Array | None]:
    """Linear interpolation slice by slice of the CT along `slow`; None for a slice without anything."""
    others = [axis for axis in range(3) if axis != slow]
    across = [_Weights.of(ct.shape[axis], coarse.shape[axis], grid.blocks[axis]) for axis in others]
    along = _Weights.of(ct.shape[slow], coarse.shape[slow], grid.blocks[slow])
    occupied = coarse.any(axis=tuple(others))
    for low, high, part in zip(along.low, along.high, along.part, strict=True):
        if not (occupied[low] or occupied[high]):
            yield None
            continue
        plane = coarse[_at(slow, low)] * (1 - part) + coarse[_at(slow, high)] * part
        yield across[1].apply(across[0].apply(plane, 0), 1)


@dataclass(frozen=True, eq=False)
class _Weights:
    """Each fine voxel along one axis lies `part` of the way from coarse voxel `low` to `high`."""

    low: Array
    high: Array
    part: Array

    @classmethod
    def of(cls, fine: int, coarse: int, block: int) -> _Weights:
        at = np.clip((np.arange(fine) - (block - 1) / 2) / block, 0, coarse - 1)
        low = np.floor(at).astype(int)
        return cls(low, np.minimum(low + 1, coarse - 1), (at - low).astype(np.float32))

    def apply(self, plane: Array, axis: int) -> Array:
        part = self.part[:, None] if axis == 0 else self.part
        below, above = plane.take(self.low, axis), plane.take(self.high, axis)
        return below + (above - below) * part


def _slowest_axis(array: Array) -> int:
    return int(np.argmax(np.abs(array.strides)))


def _at(axis: int, index: int | slice) -> tuple[int | slice, ...]:
    place: list[int | slice] = [slice(None)] * 3
    place[axis] = index
    return tuple(place)
