"""The core: new tissue under a mask, every other voxel as it was.

Arrays in, arrays out: no files, no server, no system. A model is whatever can fill ROIs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from lesionbrush.core.boxes import Box, hull, relative
from lesionbrush.core.inputs import NO_INPUTS, Inputs, check_inputs, require_accepted
from lesionbrush.core.lesions import Lesions
from lesionbrush.core.model import EditHooks, Model, OnEstimate, OnStep, Prepared
from lesionbrush.core.provenance import (
    EDITED,
    GENERATED,
    MARK_GENERATED,
    MaskStatistics,
    Provenance,
    now,
    versions,
)
from lesionbrush.core.region import Scope
from lesionbrush.core.registry import ModelCard
from lesionbrush.core.request import EditRequest
from lesionbrush.core.rois import Sampled
from lesionbrush.core.surroundings import misfit_remarks
from lesionbrush.core.volume import Volume, require_ct

_NARROWEST_MM, _WIDEST_MM = 10.0, 3000.0  # of what is imaged in hospitals


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
        noted += misfit_remarks(lesions, card)
        grids = lesions.grids(card)
        hu = lesions.reference_hu(grids, card)
        details = lesions.details(grids, hu)
        rois = lesions.rois(grids, hu, details)
        prepared = hooks.prepare(lesions, grids, rois, seeds, inputs, request)
        rois = replace(rois, own=prepared.own)
    with clock.phase("sample"):
        sampled = model.sample(rois, request, seeds, on_step, on_estimate)
    with clock.phase("compose"):
        drawn = [None] * len(seeds) if sampled.drawn is None else sampled.drawn
        fine = [prepared.details_of(variant, details) for variant in range(len(seeds))]
        boxes = [lesions.compose(grids, *made) for made in zip(fine, sampled.hu, drawn, strict=True)]
    record = Recorder(reference, inputs, lesions, card, request, sampled, clock, prepared, noted, made_from)
    return [record.synthesis(k, seed, box) for k, (seed, box) in enumerate(zip(seeds, boxes, strict=True))]


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
    return replace(scope, remarks=remarks_of_files(reference, mask, inputs))


def remarks_of_files(reference: Volume | None, mask: Volume | None, inputs: Inputs) -> tuple[str, ...]:
    """What the readers of the files tell the user; once, where a mask has the header of its CT."""
    volumes = {"CT": reference, "mask": mask, **inputs.volumes()}
    said: dict[str, str] = {}
    for what, volume in volumes.items():
        for remark in volume.source.remarks if volume is not None and volume.source else ():
            said.setdefault(remark, f"{what}: {remark}")
    return (*said.values(), *(() if reference is None else _size_remark(reference)))


def _synthetic_remark(reference: Volume) -> tuple[str, ...]:
    note = _note_of(reference)
    return (f"CT: it is synthetic itself ({note}); its record was not sent",) if note else ()


def _note_of(reference: Volume) -> str:
    return reference.source.note if reference.source else ""


def _size_remark(reference: Volume) -> tuple[str, ...]:
    """Whoever wrote metres for millimetres gets a lesion a thousand times too large."""
    longest_mm = float(np.multiply(reference.shape, reference.spacing_mm).max())
    if _NARROWEST_MM <= longest_mm <= _WIDEST_MM:
        return ()
    return (
        f"CT: its header says that it is {longest_mm:.3g} mm long: if not so, margins and sizes are wrong",
    )


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
class Recorder:
    """Joins the groups' boxes to one box in stored order, and writes down where it came from."""

    reference: Volume
    inputs: Inputs
    lesions: Lesions
    card: ModelCard
    request: EditRequest
    sampled: Sampled
    clock: Clock
    prepared: Prepared
    noted: tuple[str, ...]
    made_from: Provenance | None

    def synthesis(self, variant: int, seed: int, edited: Sequence[np.ndarray]) -> Synthesis:
        whole = hull(self.lesions.edit_boxes)
        joined = self.lesions.view[whole].copy()
        for part, hu in zip(self.lesions.edit_boxes, edited, strict=True):
            joined[relative(part, whole)] = hu
        changed = int((joined != self.lesions.view[whole]).sum())
        statistics = MaskStatistics.of(joined[self.lesions.mask[whole] > 0])
        box = self.lesions.orientation.to_stored(joined)
        offset = self.lesions.orientation.stored_offset(whole, self.lesions.view.shape)
        generated = self.made_from is not None and self.made_from.generated
        generated |= _note_of(self.reference).startswith(MARK_GENERATED)  # whatever became of its record
        provenance = Provenance(
            generated=generated,
            notice=GENERATED if generated else EDITED,
            model=self.card.name,
            weights_sha256=self.card.weights_sha256,
            weights_license=self.card.weights_license,
            attribution=self.card.attribution,
            request=self.request.settle().model_dump(mode="json"),
            variant=variant,
            seed=seed,
            reference_sha256=self.reference.voxel_sha256,
            inputs_sha256=self.inputs.voxel_sha256(),
            box_offset=offset,
            box_shape=(box.shape[0], box.shape[1], box.shape[2]),
            voxels_changed=changed,
            in_mask=statistics,
            device=self.sampled.device,
            remarks=self.noted + self.sampled.remarks + self.prepared.remarks_of(variant),
            seconds=dict(self.clock.seconds),
            created=now(),
            versions=versions(),
            made_from=self.made_from,
        )
        return Synthesis(self.reference, box, offset, provenance)
