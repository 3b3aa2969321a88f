"""Which organs of a layout a name means, and an organ drawn anew, larger, smaller or elsewhere.

Arrays are (I, J, K) as stored; moves are RAS mm: to the patient's right, front and head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lesionbrush.core.boxes import Box, bounding_box, box_of
from lesionbrush.core.inputs import Layout
from lesionbrush.core.volume import Array, Volume
from lesionbrush.errors import InvalidRequest
from lesionbrush.systems.semantic.classes import BODY, OUTSIDE, find_classes
from lesionbrush.transfer.forms import LesionForm
from lesionbrush.transfer.names import OrganName

SURROUNDINGS = frozenset(
    {
        "body",
        "skin",
        "trunk",
        "thorax",
        "abdomen",
        "tissue",
        "fat",
        "muscle",
        "bone",
        "air",
        "outside",
        "background",
    }
)
"""What organs lie in: it gives way to them without being asked, and nobody checks its shape."""
LEAST_PART = 0.01
"""Of an organ: smaller parts are specks of a segmentation."""


def is_organ(name: str) -> bool:
    return not SURROUNDINGS & set(OrganName.of(name).organ)


def find_body_label(names: Mapping[int, str]) -> int:
    """The number that says body; 0, nothing, where none does."""
    body = OrganName.of("body")
    return next((number for number, name in sorted(names.items()) if OrganName.of(name) == body), 0)


def find_organs(wanted: str, layout: Layout) -> list[str]:
    """Names of the layout that are meant: of both sides where none is said. InvalidRequest where none is."""
    there = sorted({layout.names[int(n)] for n in np.unique(layout.labels.array) if int(n) in layout.names})
    found = [name for name in there if is_organ(name) and _is_meant(wanted, name)]
    if not found:
        organs = ", ".join(filter(is_organ, there)) or "none"
        raise InvalidRequest(f"{wanted}: no such organ in the layout; it has {organs}")
    return found


def _is_meant(wanted: str, name: str) -> bool:
    asked, known = OrganName.of(wanted), OrganName.of(name)
    same = asked.organ == known.organ and asked.side in (None, known.side)
    classes = [number for number in find_classes(name) if OUTSIDE < number < BODY]
    return same or bool(classes and set(classes) <= set(find_classes(wanted)))


def list_parts(mask: Array) -> list[Array]:
    """bool, like the mask: its connected parts without specks, the largest first."""
    labels, count = ndimage.label(mask)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    order = [int(k) for k in np.argsort(-sizes, kind="stable") if sizes[k] >= LEAST_PART * sizes.sum()]
    return [labels == k + 1 for k in order]


@dataclass(frozen=True, eq=False)
class DrawnOrgan:
    """inside: bool on the grid of the layout; beyond: voxels that would lie past its ends."""

    inside: Array
    beyond: int


def draw_organ(organ: Volume, factor: float, move_mm: Sequence[float]) -> DrawnOrgan:
    """Each part of an organ (not 0 in it) with `factor` times its volume, about its own centroid, and moved.

    Raises EmptyMask.
    """
    grow_mm = max(np.cbrt(factor) - 1, 0) * _reach_mm(organ) + float(np.abs(move_mm).sum())
    margin = np.ceil(grow_mm / np.array(organ.spacing_mm)).astype(int) + 2
    box = bounding_box(organ.array)
    start = np.array([part.start for part in box]) - margin
    shape = [part.stop - part.start + 2 * m for part, m in zip(box, margin, strict=True)]
    drawn = np.zeros(shape, bool)
    for part in list_parts(organ.array[box]):
        small = organ.crop(box).with_array(part)
        drawn |= _draw(LesionForm.of(small), organ, start, shape, factor, move_mm)
    return _clip(drawn, start, organ.shape)


def _reach_mm(organ: Volume) -> float:
    box = bounding_box(organ.array)
    sides = [(part.stop - part.start) * mm for part, mm in zip(box, organ.spacing_mm, strict=True)]
    return float(np.linalg.norm(sides))


def _draw(
    form: LesionForm, organ: Volume, start: Array, shape: Sequence[int], factor: float, move: Sequence[float]
) -> Array:
    """bool: the voxels that lie deepest in the changed form, as many as its volume asks for."""
    scale, axes = float(np.cbrt(factor)), organ.affine[:3, :3]
    centre = np.linalg.inv(axes) @ (form.centre_mm + np.array(move) - organ.affine[:3, 3]) - start
    signed = np.empty(shape, np.float32)
    i, j = (np.arange(length) - middle for length, middle in zip(shape[:2], centre[:2], strict=True))
    for k in range(shape[2]):  # slice by slice: the positions of all voxels would need much memory
        index = np.stack(np.meshgrid(i, j, k - centre[2], indexing="ij"), axis=-1)
        signed[:, :, k] = form.signed_distance(index[:, :, 0] @ axes.T / scale)
    count = min(round(form.volume_mm3 * factor / organ.voxel_volume_mm3), signed.size)
    inside = np.zeros(signed.size, bool)
    inside[np.argsort(signed, axis=None, kind="stable")[:count]] = True
    return inside.reshape(shape)


def _clip(drawn: Array, start: Array, shape: Sequence[int]) -> DrawnOrgan:
    """From a box around the organ to the grid, whose ends may cut it."""
    low = np.clip(start, 0, shape)
    high = np.clip(start + drawn.shape, low, shape)
    place: Box = box_of(zip(low, high, strict=True))
    inside = np.zeros(shape, bool)
    inside[place] = drawn[box_of(zip(low - start, high - start, strict=True))]
    return DrawnOrgan(inside, int(np.count_nonzero(drawn)) - int(np.count_nonzero(inside)))
