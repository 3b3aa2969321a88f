"""What is filled anew: organs and tumours of patients that no training saw, slice by slice.

Slices are those of the third stored axis, as in our data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from lesionbrush.core.volume import Volume
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.io import read_volume
from lesionbrush.montage import LUNG, Window
from lesionbrush.systems.palette.evaluation import middle_slices
from lesionbrush.systems.palette.fills import FILLS, Fill, fill_number
from lesionbrush.systems.palette.pack import UNSURE, SourceCT, list_sources

SOFT_TISSUE = Window("soft tissue", 50, 400)
LEAST_PIXELS = 12


@dataclass(frozen=True, eq=False)
class OrganHole:
    """Some slices of an organ, or of a tumour, to be filled. mask: on the grid of the CT, 0 or 1."""

    fill: Fill
    patient: str
    ct: Volume
    mask: Volume

    @property
    def window(self) -> Window:
        """In which it is looked at, and measured."""
        return LUNG if self.fill == "lung" else SOFT_TISSUE

    @property
    def slices(self) -> list[int]:
        """Numbers of those that have enough of it."""
        areas = np.count_nonzero(self.mask.array, axis=(0, 1))
        return np.flatnonzero(areas >= LEAST_PIXELS).tolist()

    @property
    def width_mm(self) -> float:
        """The longest side of its largest part's box."""
        labels, _ = ndimage.label(self.mask.array)
        boxes = ndimage.find_objects(labels)
        sides = [[part.stop - part.start for part in box] for box in boxes]
        return float((np.array(sides) * self.ct.spacing_mm).max())


def list_holes(data: Path, slices: int, hole_mm: float | None = None) -> list[OrganHole]:
    """Of every organ of the held-out abdomen and chest, and of the held-out tumours, the middle slices.

    slices: of an organ; the tumours share them, one each at least. hole_mm: how wide a hole is at most, None
    for the whole organ. InvalidRequest where the data holds none.
    """
    sources = [source for source in list_sources(data) if source.held_out]
    tumours = [source for source in sources if fill_number("tumour") in source.codes.values()]
    each = -(-slices // max(1, len(tumours)))
    found = [
        hole
        for source in sources
        for hole in _holes_of(source, each if source in tumours else slices, hole_mm)
        if hole.slices
    ]
    if not found:
        raise InvalidRequest(f"{data} holds no held-out organ and no held-out tumour to fill")
    return sorted(found, key=lambda hole: (FILLS.index(hole.fill), hole.patient))


def _holes_of(source: SourceCT, slices: int, hole_mm: float | None) -> Iterator[OrganHole]:
    ct, labels = read_volume(source.image), read_volume(source.labels)
    for number in sorted(set(source.codes.values()) - {UNSURE}):
        codes = [code for code, ours in source.codes.items() if ours == number]
        mask = middle_slices(np.isin(labels.array, codes), slices)
        if hole_mm is not None and mask.any():
            mask = cut_to_circle(mask, ct.spacing_mm, hole_mm)
        yield OrganHole(FILLS[number - 1], source.name, ct, ct.with_array(mask.astype(np.uint8)))


def cut_to_circle(mask: np.ndarray, spacing_mm: tuple[float, float, float], hole_mm: float) -> np.ndarray:
    """(I, J, K) bool: what lies in the cylinder of this diameter around the deepest place of the mask."""
    used = np.flatnonzero(mask.any(axis=(0, 1)))
    depth = np.max([_depth_mm(mask[:, :, k], spacing_mm[:2]) for k in used], axis=0)
    centre = np.unravel_index(int(depth.argmax()), depth.shape)
    i, j = (np.arange(size) for size in mask.shape[:2])
    away_mm = np.hypot((i[:, None] - centre[0]) * spacing_mm[0], (j[None] - centre[1]) * spacing_mm[1])
    kept: np.ndarray = mask & (away_mm <= hole_mm / 2)[:, :, None]
    return kept


def _depth_mm(mask: np.ndarray, spacing_mm: tuple[float, float]) -> np.ndarray:
    """(I, J): how far from the nearest pixel outside, which the edge of the slice is too."""
    depth: np.ndarray = ndimage.distance_transform_edt(np.pad(mask, 1), spacing_mm)
    return depth[1:-1, 1:-1]
