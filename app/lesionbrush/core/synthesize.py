"""The core: new tissue under a mask, every other voxel as it was.

Arrays in, arrays out: no files, no server, no network architecture. A model is whatever can fill ROIs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from lesionbrush.core.boxes import Box, hull, relative
from lesionbrush.core.inputs import NO_INPUTS, Inputs
from lesionbrush.core.lesions import INT16_HU, Lesions, NativeMean, RoiBatch
from lesionbrush.core.provenance import MaskStatistics, Provenance, now, versions
from lesionbrush.core.registry import ModelCard
from lesionbrush.core.request import BaseRequest
from lesionbrush.core.steering import lungs_of, require_fitting, steered
from lesionbrush.core.surroundings import misfit_remarks
from lesionbrush.core.volume import Volume, mask_on_grid, require_ct
from lesionbrush.systems.lesion_inpainting.donors import Donated, donated

__all__ = [
    "INT16_HU",
    "Model",
    "NativeMean",
    "OnEstimate",
    "OnStep",
    "RoiBatch",
    "Sampled",
    "Synthesis",
    "synthesize",
]

_NARROWEST_MM, _WIDEST_MM = 10.0, 3000.0  # of what is imaged in hospitals
OnStep = Callable[[int, int], None]
OnEstimate = Callable[[np.ndarray], None]
"""Called in each step with what is expected of the first lesion of the first seed: (Z, Y, X) float32 HU."""


class Model(Protocol):
    """A model that is ready to run. `sample` returns (V, L, Z, Y, X) float32 HU for V seeds.

    Its request is of the type that `request.request_type` names for its system.
    """

    card: ModelCard

    def sample(
        self,
        rois: RoiBatch,
        request: Any,
        seeds: Sequence[int],
        on_step: OnStep,
        on_estimate: OnEstimate | None = None,
    ) -> Sampled: ...


@dataclass(frozen=True)
class Sampled:
    """What came out of a model, on which device, and what the user should be told about it.

    drawn: None, or like hu, 0..1: where the lesion reaches into the margin, and a sample counts in full.
    """

    hu: np.ndarray
    device: str
    remarks: tuple[str, ...] = ()
    drawn: np.ndarray | None = None


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


def synthesize(  # noqa: PLR0913, two of them only watch
    reference: Volume,
    mask: Volume,
    request: BaseRequest,
    model: Model,
    inputs: Inputs = NO_INPUTS,
    *,
    on_step: OnStep = lambda done, total: None,
    on_estimate: OnEstimate | None = None,
) -> list[Synthesis]:
    """Return `request.variants` syntheses; outside mask + margin every voxel is the reference's.

    A request to change the lungs as well (`BaseRequest.edits_lungs`) adds them to mask + margin.

    reference: CT in HU, any orientation and spacing; mask: on its grid (see `mask_on_grid`); request: of the
    model's system; inputs: what else the model takes, see `inputs`.
    on_step is called as (steps done, steps in all) and may raise to cancel: nothing is left behind.
    on_estimate sees what becomes of the first lesion of the first variant; see `OnEstimate`.
    Raises NotACT, DamagedFile, GeometryMismatch, EmptyMask, AmbiguousMask, NoLungs, InvalidRequest,
    WeightsError.
    """
    clock = Clock()
    noted = noted_of(reference, mask, inputs)
    with clock.phase("prepare"):
        reference = require_ct(reference)
        mask = mask_on_grid(mask, reference, request.label)
        require_fitting(inputs, reference, model.card)
        lungs = lungs_of(reference, inputs, request, model.card)
        lesions = Lesions.find(reference, mask, request.margin_mm, lungs, request.reach_mm)
        noted += misfit_remarks(lesions, model.card)
        grids = lesions.grids(model.card)
        hu = lesions.reference_hu(grids, model.card)
        details = lesions.details(grids, hu)
        rois = steered(lesions.rois(grids, hu, details), lesions, grids, inputs, lungs)
        seeds = [(request.seed + variant) % 2**31 for variant in range(request.variants)]
        given = donated(lesions, grids, rois, seeds) if request.heals_from_nearby else None
        rois = rois if given is None else replace(rois, donor_hu=given.hu)
    with clock.phase("sample"):
        sampled = model.sample(rois, request, seeds, on_step, on_estimate)
    with clock.phase("compose"):
        drawn = [None] * len(seeds) if sampled.drawn is None else sampled.drawn
        fine = [details] * len(seeds) if given is None else given.details(details)
        boxes = [lesions.compose(grids, *made) for made in zip(fine, sampled.hu, drawn, strict=True)]
    record = Recorder(reference, inputs, lesions, model.card, request, sampled, clock, given, noted)
    return [record.synthesis(k, seed, box) for k, (seed, box) in enumerate(zip(seeds, boxes, strict=True))]


def noted_of(reference: Volume, mask: Volume, inputs: Inputs) -> tuple[str, ...]:
    """What the readers of the files tell the user; once, where a mask has the header of its CT."""
    volumes = {"CT": reference, "mask": mask, **{name: getattr(inputs, name) for name in inputs.names()}}
    said: dict[str, str] = {}
    for what, volume in volumes.items():
        for remark in volume.source.remarks if volume.source else ():
            said.setdefault(remark, f"{what}: {remark}")
    return (*said.values(), *_size_remark(reference))


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
    request: BaseRequest
    sampled: Sampled
    clock: Clock
    given: Donated | None = None
    noted: tuple[str, ...] = ()

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
            request=self.request.settled(),
            variant=variant,
            seed=seed,
            reference_sha256=self.reference.voxel_sha256,
            inputs_sha256=self.inputs.voxel_sha256(),
            box_offset=offset,
            box_shape=(box.shape[0], box.shape[1], box.shape[2]),
            voxels_changed=changed,
            in_mask=statistics,
            device=self.sampled.device,
            remarks=self.noted + self.sampled.remarks + (self.given.remarks(variant) if self.given else ()),
            seconds=dict(self.clock.seconds),
            created=now(),
            versions=versions(),
        )
        return Synthesis(self.reference, box, offset, provenance)
