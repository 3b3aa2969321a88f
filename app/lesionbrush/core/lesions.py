"""Where the lesions of a mask are, the boxes a model is to fill for them, and the way back into the CT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from zlib import crc32

import numpy as np
from scipy import ndimage

from lesionbrush.core.boxes import (
    Box,
    bounding_box,
    box_of,
    dilate,
    hull,
    merge,
    middle,
    relative,
    round_up,
    shift,
)
from lesionbrush.core.hu import INT16_HU
from lesionbrush.core.region import Region, Scope
from lesionbrush.core.registry import ModelCard
from lesionbrush.core.roi import (
    Orientation,
    RoiGrid,
    from_roi,
    gather,
    inside_volume,
    ramp,
    read_between,
    to_roi,
    triangle,
)
from lesionbrush.core.rois import NativeMean, RoiBatch, Sampled
from lesionbrush.core.volume import Volume

CONTEXT_MM = 8.0
"""Untouched tissue a model sees on each side of the edit region, at least."""
DETAIL_SIGMAS, LEAST_DETAIL_HU = 3.0, 5.0
LEAST_PULL_MM = 0.05


@dataclass(frozen=True, eq=False)
class Lesions:
    """The lesions of one mask, in the (Z, Y, X) view of the CT. `parts`: a box per lesion; `boxes`: per ROI.

    scope: what the system said; field: None, or the box that one ROI is to hold with all lesions.
    """

    view: np.ndarray
    spacing_mm: np.ndarray
    mask: np.ndarray
    parts: list[Box]
    boxes: list[Box]
    edit_boxes: list[Box]
    region: Region
    orientation: Orientation
    scope: Scope
    field: Box | None = None

    @classmethod
    def find(
        cls, reference: Volume, scope: Scope, margin_mm: float, reach_mm: float | None = None
    ) -> Lesions:
        """Connected components of the mask; those whose surroundings overlap share a box.

        reach_mm: see `Region`; None for the margin. With a field or a slab, all share one box.
        """
        reach_mm = margin_mm if reach_mm is None else reach_mm
        turned = Orientation.of(reference.affine)
        view, lesion = turned.view(reference.array), turned.view(scope.mask.array)
        spacing = turned.spacing_mm(reference.spacing_mm)
        whole = bounding_box(lesion)
        labels, _ = ndimage.label(lesion[whole], structure=np.ones((3, 3, 3)))
        found = [shift(box, whole) for box in ndimage.find_objects(labels)]
        parts = merge(found, lambda box: dilate(box, reach_mm + CONTEXT_MM / 2, spacing, view.shape))
        also = None if scope.also is None else turned.view(scope.also)
        region = Region(lesion, margin_mm, reach_mm, spacing, also)
        apart = scope.holds == "lesion" or (scope.holds == "slices" and scope.also is None)
        boxes = parts if apart else [whole]
        edits = [region.around(box) for box in boxes]
        field = None
        if scope.field is not None:
            field = hull([whole, bounding_box(turned.view(scope.field))])
        return cls(view, spacing, lesion, parts, boxes, edits, region, turned, scope, field)

    def grids(self, card: ModelCard) -> list[RoiGrid]:
        """One ROI per group, all of one shape: the smallest of the model's cubes that holds every group."""
        if self.scope.holds == "field":
            return [self._around_field(card)]
        if self.scope.holds == "slab":
            return [self._slab(card)]
        if self.scope.holds == "slices":
            return self._on_slices(card)
        need = np.max([self._need(box, card.spacing_mm) for box in self.boxes], axis=0)
        sides = [side for side in card.roi_voxels if side >= need.max()]
        shape = [sides[0]] * 3 if sides else [round_up(n, card.roi_multiple) for n in need]
        return [RoiGrid.around(self._centre_mm(box), shape, card.spacing_mm) for box in self.boxes]

    def _around_field(self, card: ModelCard) -> RoiGrid:
        """A cube of the model's size, as fine as the field and some context around it allow."""
        assert self.field is not None
        side = card.roi_voxels[0]
        extent_mm = self._extent_mm(self.field) + 2 * CONTEXT_MM
        spacing_mm = max(card.spacing_mm, float(extent_mm.max()) / side)
        return RoiGrid.around(self._centre_mm(self.field), [side] * 3, spacing_mm)

    def _slab(self, card: ModelCard) -> RoiGrid:
        """Whole slices of the model's size, as fine as their width allows, through all that may change."""
        whole = self.field or box_of((0, size) for size in self.view.shape)
        wide, deep = self._extent_mm(whole)[1:], self._extent_mm(hull(self.edit_boxes))[0] + 2 * CONTEXT_MM
        side = card.roi_voxels[0]
        spacing_mm = max(card.spacing_mm, float(wide.max()) / side)
        centre_mm = self._centre_mm(whole)
        centre_mm[0] = self._centre_mm(hull(self.edit_boxes))[0]
        depth = int(np.ceil(deep / spacing_mm))
        return RoiGrid.around(centre_mm, [depth, side, side], spacing_mm)

    def _on_slices(self, card: ModelCard) -> list[RoiGrid]:
        """Square slices at places of the CT's own, every one, or every so many that they are about as far
        apart as the model's pixels. All are of one size; what is too large is coarser than the model."""
        slice_mm = float(self.spacing_mm[0])
        every = max(1, int(card.spacing_mm / slice_mm + 0.5))
        width_mm = max(float(self._extent_mm(box)[1:].max()) for box in self.edit_boxes) + 2 * CONTEXT_MM
        sides = [side for side in card.roi_voxels if side * card.spacing_mm >= width_mm]
        side = sides[0] if sides else card.roi_voxels[-1]
        spacing_mm = max(card.spacing_mm, width_mm / side)
        beyond = int(np.ceil(CONTEXT_MM / slice_mm))
        depth = max(-(-(box[0].stop - box[0].start + 2 * beyond) // every) for box in self.edit_boxes)
        grids = []
        for box in self.edit_boxes:
            grid = RoiGrid.around(self._centre_mm(box), [depth, side, side], spacing_mm)
            _, y_mm, x_mm = grid.origin_mm
            z_mm = (box[0].start - beyond) * slice_mm
            grids.append(replace(grid, origin_mm=(z_mm, y_mm, x_mm), slice_mm=every * slice_mm))
        return grids

    def _need(self, box: Box, spacing_mm: float) -> np.ndarray:
        around_mm = self.region.reach_mm + CONTEXT_MM
        return np.ceil((self._extent_mm(box) + 2 * around_mm) / spacing_mm).astype(int)

    def _extent_mm(self, box: Box) -> np.ndarray:
        return np.array([part.stop - part.start for part in box]) * self.spacing_mm

    def _centre_mm(self, box: Box) -> np.ndarray:
        return middle(box) * self.spacing_mm

    def reference_hu(self, grids: Sequence[RoiGrid], card: ModelCard) -> np.ndarray:
        """(L, Z, Y, X) float32: the CT on the ROIs, within the model's window."""
        hu = np.stack([to_roi(self.view, self.spacing_mm, grid) for grid in grids])
        return np.clip(hu, *card.window_hu)

    def details(self, grids: Sequence[RoiGrid], reference_hu: np.ndarray) -> list[np.ndarray]:
        """Per group: what of the edit box is finer than the ROI, HU; a result gets it back.

        It is the scanner's noise, up to `DETAIL_SIGMAS` of it: the finest edges of what was there before are
        cut off, or a removed nodule would leave its outline, and a vessel would show through a new one.
        """
        groups = zip(self.edit_boxes, grids, reference_hu, strict=True)
        return [self.detail(box, grid, hu) for box, grid, hu in groups]

    def detail(self, box: Box, grid: RoiGrid, hu: np.ndarray) -> np.ndarray:
        """The same of one box; hu: (Z, Y, X), the CT on the ROI."""
        detail = self.view[box] - from_roi(hu, grid, box, self.spacing_mm)
        sigma_hu = float(np.quantile(np.abs(detail), 0.25)) / 0.3186  # edges fill much of a small box
        limit_hu = max(DETAIL_SIGMAS * sigma_hu, LEAST_DETAIL_HU)
        return np.clip(detail, -limit_hu, limit_hu)

    def rois(
        self, grids: Sequence[RoiGrid], reference_hu: np.ndarray, details: Sequence[np.ndarray]
    ) -> RoiBatch:
        """What the model is to fill, and what its HU will come to."""
        coverage = self.measure_coverage(self.mask, grids)
        editable, reachable = (
            _near(coverage, grids[0].steps_mm, mm) for mm in (self.region.margin_mm, self.region.reach_mm)
        )
        if self.region.also is not None:
            editable |= self.measure_coverage(self.region.also, grids) > 0.5
        inside = np.stack([inside_volume(grid, self.view.shape, self.spacing_mm) for grid in grids])
        native = self._native_mean(grids, details)
        return RoiBatch(
            reference_hu,
            coverage,
            editable,
            inside,
            native,
            grids[0].spacing_mm,
            reachable,
            slice_mm=float(self.spacing_mm[0]),
            digests=tuple(self._digest(box) for box in self.boxes),
        )

    def _digest(self, box: Box) -> int:
        """The same however the CT is stored."""
        found = crc32(self.view[box].astype(np.int16).tobytes())
        return crc32((self.mask[box] > 0).tobytes(), found)

    def measure_coverage(self, mask: np.ndarray, grids: Sequence[RoiGrid]) -> np.ndarray:
        """(L, Z, Y, X) float32: the share 0..1 of each ROI voxel that a (Z, Y, X) mask covers."""
        return np.stack([to_roi(mask, self.spacing_mm, grid, triangle) for grid in grids])

    def _native_mean(self, grids: Sequence[RoiGrid], details: Sequence[np.ndarray]) -> NativeMean:
        """See `compose`: in the mask, a result is what was sampled plus the detail."""
        counted, kept_hu = [], []
        for box, grid, detail in zip(self.edit_boxes, grids, details, strict=True):
            inside = self.mask[box] > 0
            counted.append(gather(inside / inside.sum(), grid, box, self.spacing_mm))
            kept_hu.append(float(detail[inside].mean()))
        return NativeMean(np.stack(counted), np.array(kept_hu))

    def compose(
        self, grids: Sequence[RoiGrid], details: Sequence[np.ndarray], sampled: Sampled
    ) -> list[np.ndarray]:
        """Per group: the edit box in int16 HU; from the CT at its edge to sample plus detail in the mask.

        sampled: one variant, on the ROIs.
        """
        boxes = []
        for k, (box, grid, detail) in enumerate(zip(self.edit_boxes, grids, details, strict=True)):
            made = from_roi(sampled.hu[k], grid, box, self.spacing_mm) + detail
            full, stays, shifted = (
                None if one is None else from_roi(one[k], grid, box, self.spacing_mm)
                for one in (sampled.drawn, sampled.kept, sampled.shift)
            )
            native = self.view[box]
            there = native if sampled.pull_mm is None else self._pull(box, grid, sampled.pull_mm[k])
            change = made - there
            if stays is not None:
                change *= 1 - np.clip(stays, 0, 1)
            if shifted is not None:
                change += shifted
            boxes.append(self._edit(k, change + (there - native), full))
        return boxes

    def _pull(self, box: Box, grid: RoiGrid, pull_mm: np.ndarray) -> np.ndarray:
        """(Z, Y, X) of the edit box: the CT from so far away, where that is far enough to be seen."""
        pulled = self.view[box].astype(np.float32)
        if not pull_mm.any():
            return pulled
        near = grid.native_box(bounding_box(pull_mm.any(axis=0)), box, self.spacing_mm)
        far = [from_roi(one, grid, near, self.spacing_mm) for one in pull_mm]
        moved = np.sqrt(sum(one**2 for one in far)) > LEAST_PULL_MM
        at = np.argwhere(moved).T + [[part.start] for part in near]
        at = at + np.stack([one[moved] for one in far]) / self.spacing_mm[:, None]
        if at.size:
            pulled[relative(near, box)][moved] = read_between(self.view, at)
        return pulled

    @cached_property
    def _weights(self) -> list[np.ndarray]:
        """Of the region on each edit box: the same for every variant."""
        return [self.region.weight(box) for box in self.edit_boxes]

    @cached_property
    def _reached(self) -> list[np.ndarray]:
        return [self.region.find_reach(box) for box in self.edit_boxes]

    def _edit(self, k: int, change: np.ndarray, drawn: np.ndarray | None) -> np.ndarray:
        native, weight = self.view[self.edit_boxes[k]], self._weights[k]
        if drawn is not None:
            may = (weight > 0) | self._reached[k]
            weight = np.where(may, np.maximum(weight, np.clip(drawn, 0, 1)), 0)
        low, high = min(INT16_HU[0], int(native.min())), max(INT16_HU[1], int(native.max()))
        hu = np.clip(np.rint(native + weight * change), low, high).astype(np.int16)
        return np.where(weight > 0, hu, native)


def _near(coverage: np.ndarray, spacing_mm: Sequence[float], margin_mm: float) -> np.ndarray:
    """(L, Z, Y, X) bool: the lesions, also where thinner than half a voxel, and `margin_mm` around them."""
    weights = [ramp(one >= 0.5 * one.max(), spacing_mm, margin_mm) for one in coverage]
    return (np.stack(weights) > 0) | (coverage > 0)
