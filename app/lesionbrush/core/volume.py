"""A 3-D array and where it sits in the patient.

Arrays are (I, J, K) in the order they were stored; affines are 4x4 float64, voxel index -> RAS mm.
Grids are compared by where their outer corners land, in mm and in voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from lesionbrush.core.boxes import Box, bounding_box
from lesionbrush.errors import AmbiguousMask, DamagedFile, EmptyMask, GeometryMismatch, InvalidRequest, NotACT

Array = npt.NDArray[Any]
_SAME_GRID_VOXELS = 0.5
_ON_LATTICE_VOXELS = 0.1
_WORTH_SAYING_VOXELS = 0.05
_WHOLE_HU = 1e-3  # float32 arithmetic strays this far from whole numbers
_INT16 = np.iinfo(np.int16)


@dataclass(frozen=True, eq=False)
class SourceHeader:
    """What the file of a volume said, so that a written file keeps it. Only `io` looks inside.

    dtype: pixel type in the file; affine: the grid it describes; remarks: what its reader tells the user;
    note: see `Volume.note`.
    """

    dtype: np.dtype[Any]
    affine: Array
    remarks: tuple[str, ...] = field(default=(), kw_only=True)
    note: str = field(default="", kw_only=True)


@dataclass(frozen=True, eq=False)
class Volume:
    """A volume on its grid. array: (I, J, K) in stored axis order; affine: 4x4, voxel index -> RAS mm."""

    array: Array
    affine: Array
    source: SourceHeader | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel edge lengths along (I, J, K), in mm."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return i, j, k

    @property
    def voxel_volume_mm3(self) -> float:
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def note(self) -> str:
        """In which words its file says that it is synthetic, "" if it does not."""
        return self.source.note if self.source else ""

    @cached_property
    def voxel_sha256(self) -> str:
        """SHA-256 of the voxels in stored order; with the affine it identifies a volume without its file."""
        return sha256(np.ascontiguousarray(self.array.T).data).hexdigest()

    @cached_property
    def value_range(self) -> tuple[Any, Any]:
        """Lowest and highest voxel. NaN wins both, infinity wins one."""
        return self.array.min(), self.array.max()

    def with_array(self, array: Array) -> Volume:
        """The same grid and source with other voxels. Raises GeometryMismatch when the shape differs."""
        if array.shape != self.shape:
            raise GeometryMismatch(f"the new array is {_by(array.shape)} voxels, not {_by(self.shape)}")
        return replace(self, array=array)

    def crop(self, box: Box) -> Volume:
        """A view of the half-open index box; the affine moves with it.

        Raises GeometryMismatch when the box is empty, leaves the volume, or skips voxels.
        """
        start = [_start(part, length) for part, length in zip(box, self.shape, strict=True)]
        if None in start:
            raise GeometryMismatch(f"the box {_box_text(box)} does not lie inside {_by(self.shape)} voxels")
        return replace(self, array=self.array[box], affine=_move_affine(self.affine, np.array(start)))

    def corners_mm(self) -> Array:
        """(8, 3) outer corners of the field of view, half a voxel beyond the voxel centres, in RAS mm.

        Corner number 4a + 2b + c is at the low (0) or high (1) end of axes I, J, K for bits a, b, c.
        """
        ends = [(-0.5, length - 0.5) for length in self.shape]
        return np.array(list(product(*ends))) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def require_same_grid(
        self, other: Volume, what: str = "mask", tolerance_voxels: float = _SAME_GRID_VOXELS
    ) -> None:
        """Raise GeometryMismatch unless `other` has this shape and each corner within `tolerance_voxels`."""
        if other.shape != self.shape:
            raise GeometryMismatch(f"the {what} is {_by(other.shape)} voxels, the CT is {_by(self.shape)}")
        away_mm, away_voxels = _corners_apart(other, self)
        if not away_voxels <= tolerance_voxels:
            raise GeometryMismatch(
                f"the {what} and the CT differ by {away_mm:.3g} mm ({away_voxels:.3g} voxels) at a corner; "
                f"the limit is {tolerance_voxels:g} voxels"
            )


def require_3d(shape: tuple[int, ...], values_per_voxel: int = 1) -> None:
    """Raise NotACT unless this is the shape of one scalar 3-D volume."""
    if values_per_voxel > 1:
        raise NotACT(f"this file holds {values_per_voxel} values per voxel (colour or vector); one is needed")
    if len(shape) > 3:
        raise NotACT(f"this file is {len(shape)}-D ({_by(shape)}); pick one time point or channel")
    if len(shape) < 3:
        raise NotACT(f"this file is {len(shape)}-D ({_by(shape)}); a volume of slices is needed")


def require_ct(volume: Volume) -> Volume:
    """The volume as int16 HU; the very same object when it already is.

    Raises NotACT (not 3-D, less than 2 voxels in plane, no HU: fractions, no negative value, beyond int16)
    and DamagedFile (NaN or infinity).
    """
    require_3d(volume.shape)
    if min(volume.shape[:2]) < 2 or volume.shape[2] < 1:
        raise NotACT(f"this volume is {_by(volume.shape)} voxels; a CT slice has at least 2 x 2")
    if volume.array.dtype.kind not in "iuf":
        raise NotACT(f"this volume holds {volume.array.dtype} values; a CT holds whole numbers in HU")
    _require_hu_range(volume)
    return volume if volume.array.dtype == np.int16 else replace(volume, array=_as_int16(volume.array))


def mask_on_grid(mask: Volume, reference: Volume, label: int | None = None) -> Volume:
    """The voxels of `label` (or of the only label) as uint8 0/1 on the grid of `reference`.

    Accepted: the same grid within 0.5 voxel at every corner; the same field of view in another axis order,
    flip or resolution (nearest neighbour); a sub-box on the reference's own lattice within 0.1 voxel.

    Raises GeometryMismatch (anywhere else), AmbiguousMask (several labels and no choice, NaN, fractions),
    EmptyMask (no voxel), InvalidRequest (a label below 1).
    """
    if len(mask.shape) != 3:
        raise GeometryMismatch(f"the mask is {len(mask.shape)}-D ({_by(mask.shape)}); the CT has three axes")
    lesion = Volume(_lesion(mask.array, label), mask.affine)
    for place in (_take_unchanged, _reorient, _from_sub_box):
        array = place(lesion, reference)
        if array is not None:
            break
    else:
        raise GeometryMismatch(_elsewhere(mask, reference))
    return reference.with_array(array)


def offset_remark(volume: Volume, reference: Volume, what: str) -> tuple[str, ...]:
    """What to say of a volume over the same field that lies between the voxels: `mask_on_grid` moves it."""
    if len(volume.shape) != 3:
        return ()
    apart_mm, apart_voxels = _corner_distances(volume, reference)
    partner = apart_voxels.argmin(axis=1)
    moved = apart_voxels[range(8), partner].max()
    if not _WORTH_SAYING_VOXELS < moved <= _SAME_GRID_VOXELS:
        return ()
    moved_mm = apart_mm[range(8), partner].max()
    return (
        f"{what}: its grid lies {moved_mm:.2g} mm ({moved:.2g} voxels) off that of the CT, so it was moved "
        "as much onto the CT's voxels; was it painted on another CT?",
    )


def _require_hu_range(volume: Volume) -> None:
    low, high = volume.value_range
    if not (np.isfinite(low) and np.isfinite(high)):
        count = np.count_nonzero(~np.isfinite(volume.array))
        raise DamagedFile(f"{count} voxels are NaN or infinite; a CT holds whole numbers in HU")
    if low >= 0:
        raise NotACT(f"these are not HU: no value is below 0 (lowest {low:g}), yet air is near -1000")
    if low < _INT16.min or high > _INT16.max:
        raise NotACT(f"these are not HU: values reach from {low:g} to {high:g}, beyond 16 bits")


def _as_int16(array: Array) -> Array:
    if array.dtype.kind in "iu":
        return array.astype(np.int16)
    hu = np.empty(array.shape, np.int16, order="F")
    for k in range(array.shape[2]):  # slice by slice: a float copy of a whole CT is 600 MB
        part = array[:, :, k]
        whole = np.rint(part)
        stray = np.abs(part - whole)
        if stray.max() > _WHOLE_HU:
            worst = part.flat[stray.argmax()]
            raise NotACT(f"values are not whole HU (for example {worst:g}); round the volume to int16 first")
        hu[:, :, k] = whole
    return hu


def _lesion(array: Array, label: int | None) -> Array:
    """uint8 0/1 of one label. Reads the array once; what is around the labels is zero pages never touched."""
    box = bounding_box(array)
    present = _labels(array[box])
    if label is None and len(present) > 1:
        raise AmbiguousMask(
            f"the mask holds {len(present)} labels ({list_labels(present)}): choose one of them"
        )
    if label is not None and label < 1:
        raise InvalidRequest(f"label {label} is no lesion; labels start at 1")
    if label is not None and label not in present:
        raise EmptyMask(f"the mask has no voxel of label {label}; it holds {list_labels(present)}")
    lesion = np.zeros(array.shape, np.uint8, order="F")
    lesion[box] = array[box] == (label or present[0])
    return lesion


def _labels(array: Array) -> list[int]:
    if array.dtype.kind not in "biuf":
        raise AmbiguousMask(f"the mask holds {array.dtype} values; labels are whole numbers")
    values = np.unique(array[array != 0])
    wrong = values[~np.isfinite(values) | (values < 0) | (values != np.rint(values))]
    if wrong.size:
        raise AmbiguousMask(f"the mask holds values that are no labels ({wrong[0]:g}); use 1, 2, 3, ...")
    return [int(value) for value in values]


def _take_unchanged(lesion: Volume, reference: Volume) -> Array | None:
    if lesion.shape != reference.shape or not _corners_apart(lesion, reference)[1] <= _SAME_GRID_VOXELS:
        return None
    return lesion.array


def _reorient(lesion: Volume, reference: Volume) -> Array | None:
    """Nearest neighbours when both cover the same field of view, whichever corner each counts from."""
    apart = _corner_distances(lesion, reference)[1]
    partner = apart.argmin(axis=1)  # lesion corner at each reference corner
    if not apart.min(axis=1).max() <= _SAME_GRID_VOXELS or len(set(partner)) < 8:
        return None
    bits = [int(partner[4 >> axis] ^ partner[0]) for axis in range(3)]  # lesion axis along each own one
    turned = lesion.array.transpose([3 - bit.bit_length() for bit in bits])
    turned = np.flip(turned, [axis for axis, bit in enumerate(bits) if partner[0] & bit])
    for axis, (own, length) in enumerate(zip(turned.shape, reference.shape, strict=True)):
        if own != length:
            turned = turned.take((2 * np.arange(length) + 1) * own // (2 * length), axis)
    if not turned.any():
        raise EmptyMask("no voxel of the mask is left on the grid of the CT: paint it at the CT's resolution")
    return np.asfortranarray(turned)


def _from_sub_box(lesion: Volume, reference: Volume) -> Array | None:
    start = np.rint(_first_voxel(lesion, reference)).astype(int)
    stop = start + lesion.shape
    on_lattice = replace(lesion, affine=_move_affine(reference.affine, start))
    inside = (start >= 0).all() and (stop <= reference.shape).all()
    if not inside or not _corners_apart(lesion, on_lattice)[1] <= _ON_LATTICE_VOXELS:
        return None
    array = np.zeros(reference.shape, np.uint8, order="F")
    array[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = lesion.array
    return array


def _elsewhere(mask: Volume, reference: Volume) -> str:
    away_mm, away_voxels = (distances.min(axis=1).max() for distances in _corner_distances(mask, reference))
    first = ", ".join(f"{index:.2f}" for index in _first_voxel(mask, reference))
    return (
        f"the mask does not lie on the grid of the CT: their corners are up to {away_mm:.3g} mm "
        f"({away_voxels:.3g} voxels) apart, the first mask voxel is at CT index ({first}). "
        f"The mask has {_grid_text(mask)}, the CT {_grid_text(reference)}. "
        "Export the mask with this CT as its reference geometry"
    )


def _corners_apart(volume: Volume, reference: Volume) -> tuple[float, float]:
    """The furthest pair of equal-numbered corners: (mm, largest component in reference voxels)."""
    apart_mm, apart_voxels = _corner_distances(volume, reference)
    return float(apart_mm.diagonal().max()), float(apart_voxels.diagonal().max())


def _corner_distances(volume: Volume, reference: Volume) -> tuple[Array, Array]:
    """(8 of reference, 8 of volume) distances of corners: mm, and largest part in reference voxels."""
    apart_mm = volume.corners_mm()[None] - reference.corners_mm()[:, None]
    apart_voxels = apart_mm @ np.linalg.inv(reference.affine[:3, :3]).T
    return np.linalg.norm(apart_mm, axis=-1), np.abs(apart_voxels).max(axis=-1)


def _first_voxel(volume: Volume, reference: Volume) -> Array:
    """Where voxel (0, 0, 0) of the volume lies, in reference voxel indices."""
    return (np.linalg.inv(reference.affine) @ volume.affine)[:3, 3]


def _move_affine(affine: Array, start: Array) -> Array:
    """The affine of the sub-grid whose first voxel is at index `start`."""
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ start
    return moved


def _start(part: slice, length: int) -> int | None:
    """First index of a slice that stays inside `length`, None for one that does not."""
    start, stop, step = part.indices(length)
    clipped = part.start not in (None, start) or part.stop not in (None, stop)
    return None if clipped or step != 1 or start >= stop else start


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _box_text(box: Box) -> str:
    return "[" + ", ".join(f"{part.start}:{part.stop}" for part in box) + "]"


def _grid_text(volume: Volume) -> str:
    return f"{_by(volume.shape)} voxels of {' x '.join(f'{mm:.4g}' for mm in volume.spacing_mm)} mm"


def list_labels(labels: Sequence[int]) -> str:
    """The first few, and whether there are more."""
    return ", ".join(map(str, labels[:8])) + (", ..." if len(labels) > 8 else "")
