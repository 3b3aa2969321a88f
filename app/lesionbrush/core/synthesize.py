"""The core: new tissue under a mask, every other voxel as it was.

Arrays in, arrays out: no files, no server, no system. A model is whatever can fill ROIs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lesionbrush.core.boxes import Box, hull, relative
from lesionbrush.core.inputs import NO_INPUTS, Inputs, check_inputs, require_accepted
from lesionbrush.core.lesions import Lesions
from lesionbrush.core.model import EditHooks, Model, OnEstimate, OnStep, require_numbers
from lesionbrush.core.provenance import MaskStatistics, Provenance
from lesionbrush.core.recording import Changes, Clock, Recorder, remarks_of_files
from lesionbrush.core.region import Scope
from lesionbrush.core.registry import ModelCard
from lesionbrush.core.request import EditRequest
from lesionbrush.core.surroundings import misfit_remarks, small_remarks
from lesionbrush.core.volume import Volume, require_ct


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


def synthesize(  # noqa: PLR0913, three of them only accompany
    reference: Volume,
    mask: Volume | Scope | None,
    request: EditRequest,
    model: Model,
    inputs: Inputs = NO_INPUTS,
    *,
    made_from: Provenance | None = None,
    on_step: OnStep = lambda done, total: None,
    on_estimate: OnEstimate | None = None,
) -> list[Synthesis]:
    """Return `request.variants` syntheses; outside the edit region every voxel is the reference's.

    The edit region is mask + margin, and what the model's `region` says may change as well.

    reference: CT in HU, any orientation and spacing; mask: on its grid (see `mask_on_grid`), None for a
    system that makes it from its inputs, or what `find_scope` made of it before; request: of the model's
    system; inputs: what else the model takes; made_from: the record of the reference, where that is
    synthetic itself.
    on_step is called as (steps done, steps in all) and may raise to cancel: nothing is left behind.
    on_estimate sees what becomes of the first lesion of the first variant; see `OnEstimate`.
    Raises NotACT, DamagedFile, GeometryMismatch, EmptyMask, AmbiguousMask, InvalidRequest, WeightsError, and
    what the model's hooks raise.
    """
    clock, hooks, card, seeds = Clock(), model.hooks, model.card, request.seeds
    with clock.phase("prepare"):
        reference = require_ct(reference)
        scope = mask if isinstance(mask, Scope) else find_scope(reference, mask, request, card, hooks, inputs)
        lesions = Lesions.find(reference, scope, request.margin_mm, request.reach_mm)
        noted = (*scope.remarks, *(() if made_from else _synthetic_remark(reference)))
        noted += misfit_remarks(lesions, card) + small_remarks(lesions, card)
        grids = lesions.grids(card)
        hu = lesions.reference_hu(grids, card)
        details = lesions.details(grids, hu)
        rois = lesions.rois(grids, hu, details)
        prepared = hooks.prepare(lesions, grids, rois, seeds, inputs, request)
        rois = replace(rois, own=prepared.own)
    with clock.phase("sample"):
        sampled = model.sample(rois, request, seeds, on_step, on_estimate)
        require_numbers(sampled.hu, card.name)
    with clock.phase("compose"):
        boxes = [
            lesions.compose(grids, prepared.details_of(variant, details), sampled.variant(variant))
            for variant in range(len(seeds))
        ]
    remarks = noted + sampled.remarks
    recorder = Recorder(card, request, inputs, sampled.device, clock, remarks, reference, made_from)
    syntheses = []
    for variant, (seed, edited) in enumerate(zip(seeds, boxes, strict=True)):
        box, changes = _join(lesions, edited)
        record = recorder.record(variant, seed, changes, prepared.remarks_of(variant))
        syntheses.append(Synthesis(reference, box, changes.offset, record))
    return syntheses


def find_scope(
    reference: Volume,
    mask: Volume | None,
    request: EditRequest,
    card: ModelCard,
    hooks: EditHooks,
    inputs: Inputs = NO_INPUTS,
) -> Scope:
    """What a request may change, once all that was sent is looked at; needs no model that is ready to run.

    card, hooks: of the model and its system. Raises as `synthesize`, but for WeightsError.
    """
    reference = require_ct(reference)
    require_accepted(card.name, inputs.names(), hooks.inputs)
    check_inputs(inputs, hooks.inputs, reference)
    scope = hooks.region(reference, mask, inputs, request)
    return replace(scope, remarks=(*scope.remarks, *remarks_of_files(reference, mask, inputs)))


def _synthetic_remark(reference: Volume) -> tuple[str, ...]:
    note = reference.note
    return (f"CT: it is synthetic itself ({note}); its record was not sent",) if note else ()


def _join(lesions: Lesions, edited: Sequence[np.ndarray]) -> tuple[np.ndarray, Changes]:
    """The groups' edit boxes, int16 HU in the view, as one box in stored order, and what it changes."""
    whole = hull(lesions.edit_boxes)
    before = lesions.view[whole]
    joined = before.copy()
    for part, hu in zip(lesions.edit_boxes, edited, strict=True):
        joined[relative(part, whole)] = hu
    box = lesions.orientation.to_stored(joined)
    offset = lesions.orientation.stored_offset(whole, lesions.view.shape)
    statistics = MaskStatistics.of(joined[lesions.mask[whole] > 0])
    return box, Changes(offset, box.shape, int((joined != before).sum()), statistics)
