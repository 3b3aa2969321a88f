"""One case: its lesions made one after the other in a copy of its reference, measured, written as a whole."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lesionbrush.cohorts.asking import ask
from lesionbrush.cohorts.casting import PlannedCase
from lesionbrush.cohorts.checking import HEALTHY
from lesionbrush.cohorts.draws import generator_for
from lesionbrush.cohorts.findings import PlacedLesion, place_drawn, place_lesions
from lesionbrush.cohorts.hosts import CohortHost
from lesionbrush.cohorts.records import BOX, MASK, RECORD, TWIN, CaseRecord, LesionRecord
from lesionbrush.cohorts.specification import CohortSpecification, ModelRule
from lesionbrush.cohorts.truth import measure, seam_hu
from lesionbrush.core.boxes import Box, box_of, hull
from lesionbrush.core.model import OnStep
from lesionbrush.core.provenance import Provenance
from lesionbrush.core.registry import InstalledModel, file_sha256, find_model
from lesionbrush.core.request import EditRequest
from lesionbrush.core.synthesize import synthesize
from lesionbrush.core.volume import Array, Volume
from lesionbrush.files.durable import new_folder
from lesionbrush.files.io import write_volume
from lesionbrush.systems import load_model

EMPTY_MM = 40.0
"""Side of the box of a case without a lesion."""


@dataclass
class ModelRack:
    """Models by name, each loaded when it is first used, once."""

    device: str | None = None
    ready: dict[str, Any] = field(default_factory=dict)

    def get(self, installed: InstalledModel) -> Any:
        """Raises WeightsError."""
        name = installed.card.name
        if name not in self.ready:
            self.ready[name] = load_model(installed, self.device)
        return self.ready[name]


@dataclass(frozen=True, eq=False)
class CohortCase:
    """box, mask, twin: in stored order; mask: the label of each lesion, from 1; twin: None for none."""

    host: CohortHost
    record: CaseRecord
    box: Array
    mask: Array
    twin: Array | None

    def volume(self, array: Array) -> Volume:
        """An array of the box on its place in the patient."""
        return self.host.ct.crop(self.record.box).with_array(array)


@dataclass
class _Edited:
    """A CT on its way. boxes: what may have changed."""

    ct: Volume
    record: Provenance | None
    boxes: list[Box] = field(default_factory=list)


@dataclass(frozen=True)
class CaseMaker:
    """asked: digest of the cohort."""

    specification: CohortSpecification
    asked: str
    models: ModelRack
    on_step: OnStep = lambda done, total: None

    def make(self, case: PlannedCase, host: CohortHost) -> CohortCase:
        """Raises LesionBrushError."""
        began = time.perf_counter()
        placed = place_lesions(self.specification, case, host)
        removal = case.kind == "removal"
        asked = [self._request(case, *one) for one in enumerate(placed)] if not removal else []
        made = self._edit(host, placed, asked)
        twin = None
        if placed and (removal or self.specification.healthy_twins == "healed"):
            healthy = [self._request(case, number, one, HEALTHY) for number, one in enumerate(placed)]
            twin = self._edit(host, placed, healthy)
        boxes = [*made.boxes, *(twin.boxes if twin else ()), *(one.settled.box for one in placed)]
        box = hull(boxes) if boxes else self._empty_box(case, host)
        mask = _labels(host.ct, placed)
        record = CaseRecord(
            id=case.id,
            asked=self.asked,
            reference=host.reference.name,
            split=case.split,
            kind=case.kind,
            twins="healed" if removal else self.specification.healthy_twins,
            reference_sha256=host.ct.voxel_sha256,
            offset=_triple([part.start for part in box]),
            shape=_triple([part.stop - part.start for part in box]),
            lesions=_lesion_records(made.ct, mask, placed, asked),
            seam_hu=seam_hu(host.ct.array[box], (twin if removal and twin else made).ct.array[box]),
            provenance=made.record if placed else None,
            twin=None if twin is None else twin.record,
            seconds=round(time.perf_counter() - began, 2),
        )
        return CohortCase(
            host, record, made.ct.array[box], mask[box], None if twin is None else twin.ct.array[box]
        )

    def put_lesions(
        self, case: PlannedCase, host: CohortHost, drawn: Array | None = None
    ) -> tuple[Volume, Array]:
        """The host's CT with the lesions of a case in it, and uint8, 1, 2, ... in them.

        drawn: not 0 in the one lesion whose body is there already. Raises LesionBrushError.
        """
        placed = (
            place_lesions(self.specification, case, host)
            if drawn is None
            else [place_drawn(self.specification, case, drawn)]
        )
        asked = [self._request(case, number, one) for number, one in enumerate(placed)]
        return self._edit(host, placed, asked).ct, _labels(host.ct, placed)

    def _request(
        self, case: PlannedCase, number: int, one: PlacedLesion, instead: Mapping[str, str] | None = None
    ) -> tuple[ModelRule, EditRequest]:
        """instead: of the attributes drawn."""
        attributes = one.wanted.attributes if instead is None else instead
        return ask(self.specification, (case.id, number), one.organ, attributes)

    def _edit(
        self,
        host: CohortHost,
        placed: Sequence[PlacedLesion],
        asked: Sequence[tuple[ModelRule, EditRequest]],
    ) -> _Edited:
        state = _Edited(host.ct, host.made_from)
        for one, (rule, request) in zip(placed if asked else (), asked, strict=True):
            model = self.models.get(find_model(rule.name))
            (made,) = synthesize(
                state.ct,
                one.mask(host.ct),
                request,
                model,
                made_from=state.record,
                on_step=self.on_step,
            )
            state = _Edited(made.volume(), made.provenance, [*state.boxes, made.slices])
        return state

    def _empty_box(self, case: PlannedCase, host: CohortHost) -> Box:
        """Around a place where a lesion could have been."""
        generator = generator_for(self.specification.seed, case.id, "empty")
        inside = np.argwhere(host.patient.organs.labels.array > 0)
        middle = inside[generator.integers(len(inside))] if len(inside) else np.array(host.ct.shape) // 2
        half = np.ceil(EMPTY_MM / 2 / np.array(host.ct.spacing_mm)).astype(int)
        ends = zip(middle - half, middle + half + 1, host.ct.shape, strict=True)
        return box_of((max(0, low), min(high, length)) for low, high, length in ends)


def _labels(ct: Volume, placed: Sequence[PlacedLesion]) -> Array:
    """uint8: 1, 2, ... in the lesions."""
    labels = np.zeros(ct.shape, np.uint8)
    for number, one in enumerate(placed, start=1):
        labels[one.settled.box][one.settled.inside] = number
    return labels


def _lesion_records(
    ct: Volume,
    mask: Array,
    placed: Sequence[PlacedLesion],
    asked: Sequence[tuple[ModelRule, EditRequest]],
) -> tuple[LesionRecord, ...]:
    """asked: none of lesions that no model made."""
    return tuple(
        LesionRecord(
            label=number,
            wanted=one.wanted,
            organ=one.organ,
            model=asked[number - 1][0].name if asked else "",
            request=asked[number - 1][1].settle().model_dump(mode="json") if asked else {},
            reach_mm=asked[number - 1][1].reach_mm if asked else 0.0,
            surface_mm=None if one.settled.surface_mm is None else round(one.settled.surface_mm, 2),
            truth=measure(ct, mask == number, (mask > 0) & (mask != number)),
        )
        for number, one in enumerate(placed, start=1)
    )


def write_case(case: CohortCase, folder: Path) -> CaseRecord:
    """The whole folder or nothing. Raises StorageFull, InvalidRequest (it is there already)."""
    note = case.record.provenance.note if case.record.provenance else ""
    with new_folder(folder) as draft:
        write_volume(case.volume(case.box), draft / BOX, note, lasting=False)
        write_volume(case.volume(case.mask), draft / MASK, note, lasting=False)
        if case.twin is not None and case.record.twin is not None:
            write_volume(case.volume(case.twin), draft / TWIN, case.record.twin.note, lasting=False)
        hashes = {path.name: file_sha256(path) for path in sorted(draft.iterdir())}
        record = case.record.model_copy(update={"files_sha256": hashes})
        (draft / RECORD).write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return record


def stop_when(is_over: Callable[[], bool]) -> OnStep:
    """Between two steps of a model: leaves where nobody waits for the result any more."""

    def on_step(done: int, total: int) -> None:
        if is_over():
            os._exit(1)  # nothing that is half is ever visible

    return on_step


def _triple(values: Sequence[int]) -> tuple[int, int, int]:
    i, j, k = (int(value) for value in values)
    return i, j, k
