"""Half-open index boxes: tuples of three slices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from lesionbrush.errors import EmptyMask

Box = tuple[slice, slice, slice]


def box_of(bounds: Iterable[tuple[int, int]]) -> Box:
    a, b, c = (slice(int(low), int(high)) for low, high in bounds)
    return a, b, c


def bounding_box(mask: np.ndarray) -> Box:
    """The smallest box that holds every value of a 3-D array that is not 0. EmptyMask when there is none.

    The axis furthest apart in memory goes first, so that a large array is read once and in order.
    """
    box = [slice(0, n) for n in mask.shape]
    for axis in sorted(range(3), key=lambda axis: -abs(mask.strides[axis])):
        others = tuple(other for other in range(3) if other != axis)
        hit = np.flatnonzero(mask[tuple(box)].any(axis=others))
        if not len(hit):
            raise EmptyMask("the mask is empty: paint at least one voxel")
        box[axis] = slice(int(hit[0]), int(hit[-1]) + 1)
    return box[0], box[1], box[2]


def shift(box: Box, within: Box) -> Box:
    """A box given relative to `within`, relative to what `within` is relative to."""
    return box_of((p.start + w.start, p.stop + w.start) for p, w in zip(box, within, strict=True))


def relative(box: Box, within: Box) -> Box:
    """The inverse of `shift`."""
    return box_of((p.start - w.start, p.stop - w.start) for p, w in zip(box, within, strict=True))


def dilate(box: Box, margin_mm: float, spacing_mm: np.ndarray, shape: Sequence[int]) -> Box:
    """The box grown by the margin on every side, clipped to the volume."""
    grow = np.ceil(margin_mm / spacing_mm - 1e-9).astype(int)
    return box_of((max(p.start - g, 0), min(p.stop + g, n)) for p, g, n in zip(box, grow, shape, strict=True))


def hull(boxes: Sequence[Box]) -> Box:
    """The smallest box that holds all of them."""
    axes = zip(*boxes, strict=True)
    return box_of((min(p.start for p in parts), max(p.stop for p in parts)) for parts in axes)


def middle(box: Box) -> np.ndarray:
    """(3,) of the box, as an index: halves lie between two voxels."""
    return np.array([(part.start + part.stop - 1) / 2 for part in box])


def overlap(a: Box, b: Box) -> bool:
    return all(p.start < q.stop and q.start < p.stop for p, q in zip(a, b, strict=True))


def cut(
    array: np.ndarray, start: Sequence[int] | np.ndarray, shape: Sequence[int], fill: float | bool
) -> np.ndarray:
    """The part of an array, of any number of axes, that begins at `start`; `fill` where it lies outside."""
    low = np.maximum(start, 0)
    high = np.minimum(np.add(start, shape), array.shape)
    out = np.full(shape, fill, dtype=array.dtype)
    if (high > low).all():
        target = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
        out[target] = array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    return out


def centre(array: np.ndarray, side: int, fill: float | bool) -> np.ndarray:
    """The middle of an array, `side` voxels along every axis; `fill` beyond its ends."""
    excess = np.array(array.shape) - side
    return cut(array, np.sign(excess) * (np.abs(excess) // 2), (side,) * array.ndim, fill)


def merge(boxes: Sequence[Box], grown: Callable[[Box], Box]) -> list[Box]:
    """Join boxes until no two overlap once each is `grown`."""
    done: list[tuple[Box, Box]] = []  # a box, and the same one grown: a speckled mask has thousands
    for box in boxes:
        joined, reach = box, grown(box)
        while near := [other for other, around in done if overlap(around, reach)]:
            done = [pair for pair in done if not overlap(pair[1], reach)]
            joined = hull([joined, *near])
            reach = grown(joined)
        done.append((joined, reach))
    return [box for box, _ in done]


def round_up(value: float, multiple: int) -> int:
    return int(-(-value // multiple) * multiple)
