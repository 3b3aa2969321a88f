"""What an edit of a layout may change: what it says otherwise than before. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lesionbrush.core.inputs import Input, Inputs
from lesionbrush.core.lesions import Lesions
from lesionbrush.core.model import EditHooks, Prepared, place_mask
from lesionbrush.core.region import Scope
from lesionbrush.core.roi import Orientation, RoiGrid
from lesionbrush.core.rois import RoiBatch
from lesionbrush.core.volume import Volume
from lesionbrush.errors import InvalidRequest
from lesionbrush.systems.semantic.body import add_body, add_tissues, find_body
from lesionbrush.systems.semantic.classes import CLASSES, OUTSIDE, read_table
from lesionbrush.systems.semantic.layouts import ClassMap, on_grid, read_classes
from lesionbrush.systems.semantic.painting import organ_hu
from lesionbrush.systems.semantic.request import SemanticRequest

INPUTS = (
    Input("layout", "layout", "the organs of the CT, a label volume with names", required=True),
    Input("new_layout", "layout", "the same with organs enlarged, moved or taken out"),
)


@dataclass(frozen=True, eq=False)
class LayoutScope(Scope):
    """wished: the classes that are to come, in the view of the CT; before: uint8, those of the CT."""

    wished: ClassMap | None = None
    before: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class LaidOut:
    """labels: uint8 (L, Z, Y, X) classes on the ROIs, with tissues; slice_mm: from slice to slice; own_hu:
    (classes,) of the CT's own organs, NaN where it has none."""

    labels: np.ndarray
    slice_mm: float
    own_hu: np.ndarray | None = None


def region(reference: Volume, mask: Volume | None, inputs: Inputs, request: SemanticRequest) -> LayoutScope:
    """Where the two layouts differ, and the mask. InvalidRequest when nothing does; raises as `mask_on_grid`
    and `read_classes`."""
    layout, new = inputs.layout("layout"), inputs.layout("new_layout")
    assert layout is not None
    table, turned = read_table(request.classes), Orientation.of(reference.affine)
    _require_paint(mask, request)
    before = read_classes(layout, table)
    wished = before if new is None else read_classes(new, table)
    others = tuple(dict.fromkeys((*before.others, *wished.others)))
    labels, changed = wished.labels, wished.labels != before.labels
    if mask is not None:
        under = turned.view(place_mask(reference, mask, request).array) > 0
        changed = changed | under
        if request.organ is not None:
            labels = np.where(under, np.uint8(CLASSES.index(request.organ)), labels)
    if not changed.any():
        raise InvalidRequest(
            "layout and new_layout say the same, and no mask was sent: change the layout, or paint what is "
            "to be made anew"
        )
    stored = np.asfortranarray(turned.to_stored(changed.astype(np.uint8)))
    wanted = ClassMap(labels, others)
    return LayoutScope(reference.with_array(stored), holds="slices", wished=wanted, before=before.labels)


def _require_paint(mask: Volume | None, request: SemanticRequest) -> None:
    if request.organ is not None and mask is None:
        raise InvalidRequest(f"organ: nothing says where {request.organ} is to be; send a mask as well")


def prepare(
    lesions: Lesions,
    grids: Sequence[RoiGrid],
    rois: RoiBatch,
    seeds: Sequence[int],
    inputs: Inputs,
    request: SemanticRequest,
) -> Prepared:
    """`own`: `LaidOut`. Around what changes, body and tissues are those of the CT."""
    del inputs, request
    assert isinstance(lesions.scope, LayoutScope)
    assert lesions.scope.wished is not None
    assert lesions.scope.before is not None
    wished = lesions.scope.wished
    bodies = [_on(grid, wished.labels, lesions) for grid in grids]
    views = zip(bodies, rois.reference_hu, rois.mask, strict=True)
    labels = np.stack([np.where(mask > 0, body, add_tissues(body, hu)) for body, hu, mask in views])
    own_hu = organ_hu(lesions.scope.before, lesions.view, labels[rois.mask > 0])
    return Prepared(LaidOut(labels, grids[0].steps_mm[0], own_hu), [wished.remarks] * len(seeds))


def _on(grid: RoiGrid, labels: np.ndarray, lesions: Lesions) -> np.ndarray:
    """uint8 (Z, Y, X), with the body. Reads the slices of the CT that the ROI has, and no others."""
    slices = np.floor(grid.positions_mm(0) / lesions.spacing_mm[0] + 0.5).astype(int)
    low, high = (int(np.clip(n, 0, len(labels) - 1)) for n in (slices[0], slices[-1]))
    part = slice(low, high + 1)
    whole = add_body(labels[part], find_body(lesions.view[part], lesions.spacing_mm))
    z, y, x = grid.origin_mm
    lower = replace(grid, origin_mm=(z - low * float(lesions.spacing_mm[0]), y, x))
    found = on_grid(whole, lesions.spacing_mm, lower)
    outside = (slices < 0) | (slices >= len(labels))
    found[outside] = OUTSIDE
    return found


HOOKS = EditHooks(INPUTS, region, prepare, needs_mask=False)
