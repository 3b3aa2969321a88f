"""Where the lesions of a mask are, the boxes a model is to fill for them, and the way back into the CT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from scipy import ndimage

from lesionbrush.core.boxes import Box, bounding_box, dilated, hull, merged, round_up, shifted
from lesionbrush.core.registry import ModelCard
from lesionbrush.core.roi import (
    Orientation,
    RoiGrid,
    from_roi,
    gathered,
    inner_ramp,
    inside_volume,
    ramp,
    to_roi,
    triangle,
)
from lesionbrush.core.volume import Volume

CONTEXT_MM = 8.0
"""Untouched tissue a model sees on each side of the edit region, at least."""
INT16_HU = (-1024, 3071)
DETAIL_SIGMAS, LEAST_DETAIL_HU = 3.0, 5.0


@dataclass(frozen=True)
class NativeMean:
    """What a ROI's HU come to in the mask on the CT's own grid: mean = kept_hu + sum(counted * hu).

    counted: (L, Z, Y, X) float32; kept_hu: (L,), from the detail of the CT that stays.
    """

    counted: np.ndarray
    kept_hu: np.ndarray


@dataclass(frozen=True)
class RoiBatch:
    """What a model is to fill: L lesions on equal grids, axes (z, y, x) to superior, anterior, right.

    reference_hu: (L, Z, Y, X) float32; mask: lesion coverage 0..1; editable: bool, where HU may change;
    inside: bool, where the CT has data; reachable: bool, where spicules and lobes that a model draws may
    change HU as well, None for no further than editable. The rest is None unless the model takes it, see
    `inputs`: lungs: coverage 0..1; anatomy_hu; pathology_hu and pathology_mask: the other case's CT and its
    lesion's coverage, moved so that the centres of the two lesions coincide.
    donor_hu: (V, L, Z, Y, X) float32, healthy tissue to start from, one for each seed; NaN where none fits.
    slice_mm: how far apart the slices of the CT are, None if unknown. digests: one number per lesion, of its
    mask and of the CT under it.
    """

    reference_hu: np.ndarray
    mask: np.ndarray
    editable: np.ndarray
    inside: np.ndarray
    native: NativeMean | None = None
    spacing_mm: float = 1.0
    reachable: np.ndarray | None = None
    lungs: np.ndarray | None = None
    anatomy_hu: np.ndarray | None = None
    pathology_hu: np.ndarray | None = None
    pathology_mask: np.ndarray | None = None
    donor_hu: np.ndarray | None = None
    slice_mm: float | None = None
    digests: tuple[int, ...] | None = None

    @property
    def native_mean(self) -> NativeMean:
        """Of lesions that lie on no CT, the mean over their coverage."""
        shares = self.mask / self.mask.sum(axis=(1, 2, 3), keepdims=True)
        return self.native or NativeMean(shares, np.zeros(len(self.mask)))

    def entropy(self, seed: int, lesion: int) -> tuple[int, int]:
        """What all random numbers of a lesion come from.

        One seed gives the lesions of a hundred CTs a hundred different densities and grains, and a lesion the
        same ones whatever else is painted.
        """
        return seed, lesion if self.digests is None else self.digests[lesion]


@dataclass(frozen=True, eq=False)
class Lungs:
    """Both lungs on the grid of the CT, and whether all of them may change."""

    mask: Volume
    editable: bool


@dataclass(frozen=True, eq=False)
class Region:
    """What may change, in the (Z, Y, X) view of the CT: around the mask, and in the lungs if they are given.

    mask: not 0 in the lesion; reach_mm: how far what is drawn may go, margin_mm or more; lungs: bool or None.
    """

    mask: np.ndarray
    margin_mm: float
    reach_mm: float
    spacing_mm: np.ndarray
    lungs: np.ndarray | None = None

    def weight(self, box: Box) -> np.ndarray:
        """float32 on `box`: how much of a sample counts. 1 in the mask, 0 at the region's edge and beyond."""
        weight = ramp(self.mask[box] > 0, self.spacing_mm, self.margin_mm)
        if self.lungs is None:
            return weight
        return np.maximum(weight, inner_ramp(self.lungs[box], self.spacing_mm, self.margin_mm))

    def reached(self, box: Box) -> np.ndarray:
        """bool on `box`: where drawn shapes may change the CT."""
        return ramp(self.mask[box] > 0, self.spacing_mm, self.reach_mm) > 0

    def around(self, box: Box) -> Box:
        """The box of all that may change for the lesions in `box`."""
        grown = dilated(box, self.reach_mm, self.spacing_mm, self.mask.shape)
        return grown if self.lungs is None else hull([grown, bounding_box(self.lungs)])


@dataclass(frozen=True, eq=False)
class Lesions:
    """The lesions of one mask, in the (Z, Y, X) view of the CT. `parts`: a box per lesion; `boxes`: per ROI.

    field: None, or the box of the anatomy that one ROI is to hold with all lesions.
    """

    view: np.ndarray
    spacing_mm: np.ndarray
    mask: np.ndarray
    parts: list[Box]
    boxes: list[Box]
    edit_boxes: list[Box]
    region: Region
    orientation: Orientation
    field: Box | None = None

    @classmethod
    def find(
        cls,
        reference: Volume,
        mask: Volume,
        margin_mm: float,
        lungs: Lungs | None = None,
        reach_mm: float | None = None,
    ) -> Lesions:
        """Connected components of the mask; those whose surroundings overlap share a box.

        reach_mm: see `Region`; None for the margin. With lungs, all share one box, around the lungs.
        """
        reach_mm = margin_mm if reach_mm is None else reach_mm
        turned = Orientation.of(reference.affine)
        view, lesion = turned.view(reference.array), turned.view(mask.array)
        spacing = turned.spacing_mm(reference.spacing_mm)
        whole = bounding_box(lesion)
        labels, _ = ndimage.label(lesion[whole], structure=np.ones((3, 3, 3)))
        found = [shifted(box, whole) for box in ndimage.find_objects(labels)]
        parts = merged(found, lambda box: dilated(box, reach_mm + CONTEXT_MM / 2, spacing, view.shape))
        boxes, field, editable = parts, None, None
        if lungs is not None:
            boxes, inside = [whole], turned.view(lungs.mask.array) > 0
            field = hull([whole, bounding_box(inside)])
            editable = inside if lungs.editable else None
        region = Region(lesion, margin_mm, reach_mm, spacing, editable)
        edits = [region.around(box) for box in boxes]
        return cls(view, spacing, lesion, parts, boxes, edits, region, turned, field)

    def grids(self, card: ModelCard) -> list[RoiGrid]:
        """One ROI per group, all of one shape: the smallest of the model's cubes that holds every group."""
        if self.field is not None:
            return [self._around_field(card)]
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

    def _need(self, box: Box, spacing_mm: float) -> np.ndarray:
        around_mm = self.region.reach_mm + CONTEXT_MM
        return np.ceil((self._extent_mm(box) + 2 * around_mm) / spacing_mm).astype(int)

    def _extent_mm(self, box: Box) -> np.ndarray:
        return np.array([part.stop - part.start for part in box]) * self.spacing_mm

    def _centre_mm(self, box: Box) -> np.ndarray:
        return np.array([(part.start + part.stop - 1) / 2 for part in box]) * self.spacing_mm

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
        coverage = self.covered(self.mask, grids)
        editable, reachable = (
            _near(coverage, grids[0].spacing_mm, mm) for mm in (self.region.margin_mm, self.region.reach_mm)
        )
        if self.region.lungs is not None:
            editable |= self.covered(self.region.lungs, grids) > 0.5
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

    def covered(self, mask: np.ndarray, grids: Sequence[RoiGrid]) -> np.ndarray:
        """(L, Z, Y, X) float32: the share 0..1 of each ROI voxel that a (Z, Y, X) mask covers."""
        return np.stack([to_roi(mask, self.spacing_mm, grid, triangle) for grid in grids])

    def _native_mean(self, grids: Sequence[RoiGrid], details: Sequence[np.ndarray]) -> NativeMean:
        """See `compose`: in the mask, a result is what was sampled plus the detail."""
        counted, kept_hu = [], []
        for box, grid, detail in zip(self.edit_boxes, grids, details, strict=True):
            inside = self.mask[box] > 0
            counted.append(gathered(inside / inside.sum(), grid, box, self.spacing_mm))
            kept_hu.append(float(detail[inside].mean()))
        return NativeMean(np.stack(counted), np.array(kept_hu))

    def compose(
        self,
        grids: Sequence[RoiGrid],
        details: Sequence[np.ndarray],
        hu: np.ndarray,
        drawn: np.ndarray | None = None,
    ) -> list[np.ndarray]:
        """Per group: the edit box in int16 HU; from the CT at its edge to sample plus detail in the mask.

        hu: (L, Z, Y, X) on the ROIs; drawn: like it, 0..1, where a sample counts in full in the margin too.
        """
        drawn = np.zeros_like(hu) if drawn is None else drawn
        groups = zip(self.edit_boxes, grids, details, hu, drawn, strict=True)
        return [
            self._edited(
                box,
                from_roi(sample, grid, box, self.spacing_mm) + detail,
                from_roi(full, grid, box, self.spacing_mm),
            )
            for box, grid, detail, sample, full in groups
        ]

    def _edited(self, box: Box, made: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        native = self.view[box]
        weight = self.region.weight(box)
        may = (weight > 0) | self.region.reached(box)
        weight = np.where(may, np.maximum(weight, np.clip(drawn, 0, 1)), 0)
        low, high = min(INT16_HU[0], int(native.min())), max(INT16_HU[1], int(native.max()))
        hu = np.clip(np.rint(native + weight * (made - native)), low, high).astype(np.int16)
        return np.where(weight > 0, hu, native)


def _near(coverage: np.ndarray, spacing_mm: float, margin_mm: float) -> np.ndarray:
    """(L, Z, Y, X) bool: the lesions, also where thinner than half a voxel, and `margin_mm` around them."""
    weights = [ramp(one >= 0.5 * one.max(), spacing_mm, margin_mm) for one in coverage]
    return (np.stack(weights) > 0) | (coverage > 0)
