"""What is written down of a request, be it an edit or a generation, and what its user is told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

import numpy as np

from lesionbrush.core.inputs import Inputs
from lesionbrush.core.provenance import (
    EDITED,
    GENERATED,
    MARK_GENERATED,
    MaskStatistics,
    Provenance,
    now,
    versions,
)
from lesionbrush.core.registry import ModelCard
from lesionbrush.core.request import BaseRequest
from lesionbrush.core.volume import Volume, offset_remark

_NARROWEST_MM, _WIDEST_MM = 10.0, 3000.0  # of what is imaged in hospitals


@dataclass
class Clock:
    """Seconds per phase."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - began, 4)


class Changes(NamedTuple):
    """What a variant changed or made: a box in stored indices, and how many voxels of it.

    in_mask: None where no lesion is known.
    """

    offset: tuple[int, int, int]
    shape: tuple[int, ...]
    voxels: int
    in_mask: MaskStatistics | None


@dataclass(frozen=True, eq=False)
class Recorder:
    """Writes down where the variants of one request came from.

    remarks: on all of them; reference: the CT that was edited, None for a generation; made_from: its record.
    """

    card: ModelCard
    request: BaseRequest
    inputs: Inputs
    device: str
    clock: Clock
    remarks: tuple[str, ...]
    reference: Volume | None = None
    made_from: Provenance | None = None

    def record(self, variant: int, seed: int, changes: Changes, remarks: tuple[str, ...] = ()) -> Provenance:
        """remarks: on this variant alone."""
        i, j, k = changes.shape
        return Provenance(
            generated=self._generated,
            notice=GENERATED if self._generated else EDITED,
            model=self.card.name,
            weights_sha256=self.card.weights_sha256,
            weights_license=self.card.weights_license,
            attribution=self.card.attribution,
            request=self.request.settle().model_dump(mode="json"),
            variant=variant,
            seed=seed,
            reference_sha256=None if self.reference is None else self.reference.voxel_sha256,
            inputs_sha256=self.inputs.voxel_sha256(),
            box_offset=changes.offset,
            box_shape=(i, j, k),
            voxels_changed=changes.voxels,
            in_mask=changes.in_mask,
            device=self.device,
            remarks=self.remarks + remarks,
            seconds=dict(self.clock.seconds),
            created=now(),
            versions=versions(),
            made_from=self.made_from,
        )

    @property
    def _generated(self) -> bool:
        """Whether no voxel is of a patient: of a CT that was edited its mark says so, whatever became of its
        record.
        """
        if self.reference is None:
            return True
        recorded = self.made_from is not None and self.made_from.generated
        return recorded or self.reference.note.startswith(MARK_GENERATED)


def remarks_of_files(reference: Volume | None, mask: Volume | None, inputs: Inputs) -> tuple[str, ...]:
    """What the readers of the files tell the user; once, where a mask has the header of its CT."""
    volumes = {"CT": reference, "mask": mask, **inputs.volumes()}
    said: dict[str, str] = {}
    for what, volume in volumes.items():
        for remark in volume.source.remarks if volume is not None and volume.source else ():
            said.setdefault(remark, f"{what}: {remark}")
    if reference is None:
        return tuple(said.values())
    moved = (offset_remark(each, reference, what) for what, each in volumes.items() if each is not None)
    return (*said.values(), *_size_remark(reference), *chain.from_iterable(moved))


def _size_remark(reference: Volume) -> tuple[str, ...]:
    """Whoever wrote metres for millimetres gets a lesion a thousand times too large."""
    longest_mm = float(np.multiply(reference.shape, reference.spacing_mm).max())
    if _NARROWEST_MM <= longest_mm <= _WIDEST_MM:
        return ()
    return (
        f"CT: its header says that it is {longest_mm:.3g} mm long: if not so, margins and sizes are wrong",
    )
