"""The part of a CT that a synthesis changed, and how it gets into a copy of that CT, bit by bit.

Arrays are (i, j, k), in the order in which the voxels were stored: i is the fastest axis.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np

from .errors import WrongReference

Array = Any  # a numpy array: its own type hints differ between numpy 1 and 2
_INT16 = np.iinfo(np.int16)


@dataclass(frozen=True, eq=False)
class Box:
    """The voxels that differ. array: int16 HU (i, j, k); offset: its first voxel in the reference;
    reference_voxels: `voxel_sha256` of the only CT it belongs to."""

    array: Array
    offset: "tuple[int, int, int]"
    reference_voxels: str

    @property
    def place(self) -> "tuple[slice, slice, slice]":
        """Where it goes: `reference[box.place]`."""
        i, j, k = (slice(start, start + n) for start, n in zip(self.offset, self.array.shape))
        return i, j, k


def voxel_sha256(array: Array) -> str:
    """SHA-256 of the voxels, i fastest, little-endian, in the array's own dtype; as the server counts it."""
    digest = hashlib.sha256()
    for slab in _slabs(array, array.dtype.newbyteorder("<")):
        digest.update(slab)
    return digest.hexdigest()


def compose(array: Array, box: Box, voxels: Optional[str] = None) -> Array:
    """A copy of the reference, in its dtype and memory order, with the box in it.

    voxels: `voxel_sha256(array)` where it is known already. Raises WrongReference for any other CT than the
    one the box was made for, ValueError for a dtype that cannot hold every HU of 16 bits.
    """
    if not np.can_cast(np.int16, array.dtype, "safe"):
        raise ValueError(
            f"an array of {array.dtype} cannot hold HU: convert the volume to 16-bit integers first"
        )
    if array.ndim != 3 or any(at.start < 0 or at.stop > n for at, n in zip(box.place, array.shape)):
        raise WrongReference(
            f"the result belongs at voxel {box.offset} and is {box.array.shape} voxels: it does not fit into "
            f"this volume of {array.shape}. Choose the volume that was sent"
        )
    if box.reference_voxels not in ([voxels] if voxels else _hashes(array)):
        raise WrongReference(
            "this volume is not the one the result was made for, or it was changed since: "
            "choose the volume that was sent, or synthesize again"
        )
    composed = array.copy(order="K")
    composed[box.place] = box.array
    return composed


def exact_int16(array: Array) -> Array:
    """The same numbers as int16; the same object where it is that already. ValueError when they are no HU."""
    if array.dtype == np.int16:
        return array
    low, high = array.min(), array.max()
    if not (low >= _INT16.min and high <= _INT16.max):  # written so that NaN is refused too
        raise ValueError(f"values from {low} to {high} are no HU of 16 bits: choose a CT")
    hu = array.astype(np.int16)
    if not np.array_equal(hu, array):
        raise ValueError("the values are not whole numbers: round the volume to 16-bit integers first")
    return hu


def _hashes(array: Array) -> Iterator[str]:
    """The hashes under which a server may know these voxels: as stored, and as HU of 16 bits."""
    yield voxel_sha256(array)
    if array.dtype != np.int16:
        try:
            yield voxel_sha256(exact_int16(array))
        except ValueError:
            return


def _slabs(array: Array, dtype: Any) -> Iterator[Any]:
    """The bytes of an array, i fastest. Fortran-ordered arrays are not copied, others slice by slice."""
    turned = array.T
    if turned.flags.c_contiguous and turned.dtype == dtype:
        yield memoryview(turned).cast("B") if turned.size else b""
        return
    for part in turned:
        yield np.ascontiguousarray(part, dtype).tobytes()
