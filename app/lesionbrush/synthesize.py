"""The core: new tissue under a mask, every other voxel as it was.

Arrays in, arrays out: no files, no server, no network architecture. A model is whatever can fill ROIs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from scipy import ndimage

from lesionbrush.boxes import Box, bounding_box, dilated, hull, merged, relative, round_up, shifted
from lesionbrush.provenance import MaskStatistics, Provenance, now, versions
from lesionbrush.registry import ModelCard
from lesionbrush.request import SynthesisRequest
from lesionbrush.roi import Orientation, RoiGrid, from_roi, gathered, inside_volume, ramp, to_roi, triangle
from lesionbrush.volume import Volume, mask_on_grid, require_ct

CONTEXT_MM = 8.0
"""Untouched tissue a model sees on each side of the edit region, at least."""
INT16_HU = (-1024, 3071)
DETAIL_SIGMAS, LEAST_DETAIL_HU = 3.0, 5.0

OnStep = Callable[[int, int], None]
OnEstimate = Callable[[np.ndarray], None]
"""Called in each step with what is expected of the first lesion of the first seed: (Z, Y, X) float32 HU."""


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
    inside: bool, where the CT has data.
    """

    reference_hu: np.ndarray
    mask: np.ndarray
    editable: np.ndarray
    inside: np.ndarray
    native: NativeMean | None = None


class Model(Protocol):
    """A model that is ready to run. `sample` returns (V, L, Z, Y, X) float32 HU for V seeds."""

    card: ModelCard

    def sample(
        self,
        rois: RoiBatch,
        request: SynthesisRequest,
        seeds: Sequence[int],
        on_step: OnStep,
        on_estimate: OnEstimate | None = None,
    ) -> Sampled: ...


@dataclass(frozen=True)
class Sampled:
    """What came out of a model, on which device, and what the user should be told about it."""

    hu: np.ndarray
    device: str
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Synthesis:
    """One variant: the box that changed, and where it belongs. box: int16 HU in stored axis order."""

    reference: Volume
    box: np.ndarray
    offset: tuple[int, int, int]
    provenance: Provenance

    @property
    def slices(self) -> Box:
        i, j, k = (slice(o, o + n) for o, n in zip(self.offset, self.box.shape, strict=True))
        return i, j, k

    def volume(self) -> Volume:
        """The whole synthetic CT: a copy of the reference with the box put in."""
        array = self.reference.array.copy(order="K")
        array[self.slices] = self.box
        return self.reference.with_array(array)

    def box_volume(self) -> Volume:
        """Only the box, on its own grid."""
        return self.reference.crop(self.slices).with_array(self.box)


def synthesize(
    reference: Volume,
    mask: Volume,
    request: SynthesisRequest,
    model: Model,
    *,
    on_step: OnStep = lambda done, total: None,
    on_estimate: OnEstimate | None = None,
) -> list[Synthesis]:
    """Return `request.variants` syntheses; outside mask + margin every voxel is the reference's.

    reference: CT in HU, any orientation and spacing; mask: on its grid (see `mask_on_grid`).
    on_step is called as (steps done, steps in all) and may raise to cancel: nothing is left behind.
    on_estimate sees what becomes of the first lesion of the first variant; see `OnEstimate`.
    Raises NotACT, DamagedFile, GeometryMismatch, EmptyMask, AmbiguousMask, WeightsError.
    """
    clock = Clock()
    with clock.phase("prepare"):
        reference = require_ct(reference)
        lesions = Lesions.find(reference, mask_on_grid(mask, reference, request.label), request.margin_mm)
        grids = lesions.grids(model.card)
        hu = lesions.reference_hu(grids, model.card)
        details = lesions.details(grids, hu)
        rois = lesions.rois(grids, hu, details)
    seeds = [(request.seed + variant) % 2**31 for variant in range(request.variants)]
    with clock.phase("sample"):
        sampled = model.sample(rois, request, seeds, on_step, on_estimate)
    with clock.phase("compose"):
        boxes = [lesions.compose(grids, details, hu) for hu in sampled.hu]
    record = Recorder(reference, lesions, model.card, request, sampled, clock)
    return [record.synthesis(k, seed, box) for k, (seed, box) in enumerate(zip(seeds, boxes, strict=True))]


@dataclass
class Clock:
    """Seconds per phase."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str):  # type: ignore[no-untyped-def]
        began = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - began, 4)


@dataclass(frozen=True, eq=False)
class Lesions:
    """The lesions of one mask, in the (Z, Y, X) view of the CT. `boxes`: one per group of close lesions."""

    view: np.ndarray
    spacing_mm: np.ndarray
    mask: np.ndarray
    boxes: list[Box]
    edit_boxes: list[Box]
    margin_mm: float
    orientation: Orientation

    @classmethod
    def find(cls, reference: Volume, mask: Volume, margin_mm: float) -> Lesions:
        """Connected components of the mask; those whose surroundings overlap share a box."""
        turned = Orientation.of(reference.affine)
        view, lesion = turned.view(reference.array), turned.view(mask.array)
        spacing = turned.spacing_mm(reference.spacing_mm)
        shape = view.shape
        whole = bounding_box(lesion)
        labels, _ = ndimage.label(lesion[whole], structure=np.ones((3, 3, 3)))
        found = [shifted(box, whole) for box in ndimage.find_objects(labels)]
        boxes = merged(found, lambda box: dilated(box, margin_mm + CONTEXT_MM / 2, spacing, shape))
        edits = [dilated(box, margin_mm, spacing, shape) for box in boxes]
        return cls(view, spacing, lesion, boxes, edits, margin_mm, turned)

    def grids(self, card: ModelCard) -> list[RoiGrid]:
        """One ROI per group, all of one shape: the smallest of the model's cubes that holds every group."""
        need = np.max([self._need(box, card.spacing_mm) for box in self.boxes], axis=0)
        sides = [side for side in card.roi_voxels if side >= need.max()]
        shape = [sides[0]] * 3 if sides else [round_up(n, card.roi_multiple) for n in need]
        return [RoiGrid.around(self._centre_mm(box), shape, card.spacing_mm) for box in self.boxes]

    def _need(self, box: Box, spacing_mm: float) -> np.ndarray:
        extent = np.array([part.stop - part.start for part in box]) * self.spacing_mm
        return np.ceil((extent + 2 * (self.margin_mm + CONTEXT_MM)) / spacing_mm).astype(int)

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
        found = []
        for box, grid, hu in zip(self.edit_boxes, grids, reference_hu, strict=True):
            detail = self.view[box] - from_roi(hu, grid, box, self.spacing_mm)
            sigma_hu = float(np.quantile(np.abs(detail), 0.25)) / 0.3186  # edges fill much of a small box
            limit_hu = max(DETAIL_SIGMAS * sigma_hu, LEAST_DETAIL_HU)
            found.append(np.clip(detail, -limit_hu, limit_hu))
        return found

    def rois(
        self, grids: Sequence[RoiGrid], reference_hu: np.ndarray, details: Sequence[np.ndarray]
    ) -> RoiBatch:
        """What the model is to fill, and what its HU will come to."""
        coverage = np.stack([to_roi(self.mask, self.spacing_mm, grid, triangle) for grid in grids])
        weights = [
            ramp(c >= 0.5 * c.max(), g.spacing_mm, self.margin_mm)
            for c, g in zip(coverage, grids, strict=True)
        ]
        editable = (np.stack(weights) > 0) | (coverage > 0)  # also what is thinner than half a ROI voxel
        inside = np.stack([inside_volume(grid, self.view.shape, self.spacing_mm) for grid in grids])
        return RoiBatch(reference_hu, coverage, editable, inside, self._native_mean(grids, details))

    def _native_mean(self, grids: Sequence[RoiGrid], details: Sequence[np.ndarray]) -> NativeMean:
        """See `compose`: in the mask, a result is what was sampled plus the detail."""
        counted, kept_hu = [], []
        for box, grid, detail in zip(self.edit_boxes, grids, details, strict=True):
            inside = self.mask[box] > 0
            counted.append(gathered(inside / inside.sum(), grid, box, self.spacing_mm))
            kept_hu.append(float(detail[inside].mean()))
        return NativeMean(np.stack(counted), np.array(kept_hu))

    def compose(
        self, grids: Sequence[RoiGrid], details: Sequence[np.ndarray], hu: np.ndarray
    ) -> list[np.ndarray]:
        """Per group: the edit box in int16 HU; from the CT at its edge to sample plus detail in the mask."""
        groups = zip(self.edit_boxes, grids, details, hu, strict=True)
        return [
            self._edited(box, from_roi(sample, grid, box, self.spacing_mm) + detail)
            for box, grid, detail, sample in groups
        ]

    def _edited(self, box: Box, made: np.ndarray) -> np.ndarray:
        native = self.view[box]
        weight = ramp(self.mask[box] > 0, self.spacing_mm, self.margin_mm)
        low, high = min(INT16_HU[0], int(native.min())), max(INT16_HU[1], int(native.max()))
        hu = np.clip(np.rint(native + weight * (made - native)), low, high).astype(np.int16)
        return np.where(weight > 0, hu, native)


@dataclass(frozen=True, eq=False)
class Recorder:
    """Joins the groups' boxes to one box in stored order, and writes down where it came from."""

    reference: Volume
    lesions: Lesions
    card: ModelCard
    request: SynthesisRequest
    sampled: Sampled
    clock: Clock

    def synthesis(self, variant: int, seed: int, edited: Sequence[np.ndarray]) -> Synthesis:
        whole = hull(self.lesions.edit_boxes)
        joined = self.lesions.view[whole].copy()
        for part, hu in zip(self.lesions.edit_boxes, edited, strict=True):
            joined[relative(part, whole)] = hu
        changed = int((joined != self.lesions.view[whole]).sum())
        statistics = MaskStatistics.of(joined[self.lesions.mask[whole] > 0])
        box = self.lesions.orientation.stored(joined)
        offset = self.lesions.orientation.stored_offset(whole, self.lesions.view.shape)
        provenance = Provenance(
            model=self.card.name,
            weights_sha256=self.card.weights_sha256,
            weights_license=self.card.weights_license,
            attribution=self.card.attribution,
            request=self.request,
            variant=variant,
            seed=seed,
            reference_sha256=self.reference.voxel_sha256,
            box_offset=offset,
            box_shape=(box.shape[0], box.shape[1], box.shape[2]),
            voxels_changed=changed,
            in_mask=statistics,
            device=self.sampled.device,
            remarks=self.sampled.remarks,
            seconds=dict(self.clock.seconds),
            created=now(),
            versions=versions(),
        )
        return Synthesis(self.reference, box, offset, provenance)
