"""Whole new CTs. A generation has its own grid and keeps no voxel of a patient, and says so everywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from lesionbrush.core.hu import round_hu
from lesionbrush.core.inputs import NO_INPUTS, Input, Inputs, Layout, check_inputs, require_accepted
from lesionbrush.core.model import OnEstimate, OnStep, require_numbers
from lesionbrush.core.provenance import MaskStatistics, Provenance
from lesionbrush.core.recording import Changes, Clock, Recorder, remarks_of_files
from lesionbrush.core.registry import ModelCard
from lesionbrush.core.request import BaseRequest
from lesionbrush.core.volume import Volume
from lesionbrush.core.wishes import LesionWish

LESION = "lesion"


@dataclass(frozen=True, eq=False)
class Frame:
    """The grid of a volume that is not there yet. shape: (I, J, K); affine: 4x4, voxel index -> RAS mm."""

    shape: tuple[int, int, int]
    affine: np.ndarray

    @classmethod
    def of(cls, volume: Volume) -> Frame:
        i, j, k = volume.shape
        return cls((i, j, k), volume.affine)


@dataclass(frozen=True, eq=False)
class Made:
    """What a model generated: hu (V, I, J, K) and, where it is known, what is where, for each variant.

    remarks: for each variant, or none at all; wishes: lesions for each that another model is to put in.
    """

    hu: np.ndarray
    device: str
    layouts: Sequence[Layout] = ()
    remarks: Sequence[tuple[str, ...]] = ()
    wishes: Sequence[tuple[LesionWish, ...]] = ()


@dataclass(frozen=True)
class GenerateHooks:
    """What a system that makes whole volumes takes, and on which grid it makes them.

    frame: (request, inputs, the grid that the user named or None) to the grid. Raises InvalidRequest.
    """

    inputs: tuple[Input, ...]
    frame: Callable[[Any, Inputs, Frame | None], Frame]


class VolumeModel(Protocol):
    """A model that is ready to run, and makes whole volumes."""

    card: ModelCard
    hooks: GenerateHooks

    def generate(
        self,
        frame: Frame,
        request: Any,
        inputs: Inputs,
        seeds: Sequence[int],
        on_step: OnStep,
        on_estimate: OnEstimate | None = None,
    ) -> Made:
        """One volume for every seed."""


@dataclass(frozen=True, eq=False)
class Generation:
    """One variant: int16 HU on its own grid, what is where in it if that is known, and its record.

    wishes: lesions that were asked for and are not in it yet; see `augment.wishes`.
    """

    ct: Volume
    layout: Layout | None
    provenance: Provenance
    wishes: tuple[LesionWish, ...] = ()

    def volume(self) -> Volume:
        return self.ct


def generate(
    request: BaseRequest,
    model: VolumeModel,
    inputs: Inputs = NO_INPUTS,
    frame: Frame | None = None,
    *,
    on_step: OnStep = lambda done, total: None,
    on_estimate: OnEstimate | None = None,
) -> list[Generation]:
    """Return `request.variants` whole new CTs.

    frame: the grid the user wants, if any; the system may have one of its own, or refuse it.
    on_step, on_estimate: as of `synthesize`. Raises InvalidRequest, and what is wrong with an input.
    """
    clock, card, seeds = Clock(), model.card, request.seeds
    noted = remarks_of_files(None, None, inputs)
    with clock.phase("prepare"):
        require_accepted(card.name, inputs.names(), model.hooks.inputs)
        check_inputs(inputs, model.hooks.inputs, None)
        frame = model.hooks.frame(request, inputs, frame)
    with clock.phase("sample"):
        made = model.generate(frame, request, inputs, seeds, on_step, on_estimate)
        require_numbers(made.hu, card.name)
    with clock.phase("compose"):
        cts = [Volume(np.asfortranarray(round_hu(hu)), frame.affine) for hu in made.hu]
    layouts: Sequence[Layout | None] = made.layouts or [None] * len(seeds)
    told, wishes = made.remarks or [()] * len(seeds), made.wishes or [()] * len(seeds)
    recorder = Recorder(card, request, inputs, made.device, clock, noted)
    generations = []
    for k, (seed, ct, layout, said, wished) in enumerate(zip(seeds, cts, layouts, told, wishes, strict=True)):
        record = recorder.record(k, seed, _changes_of(ct, layout), said)
        generations.append(Generation(ct, layout, record, wished))
    return generations


def _changes_of(ct: Volume, layout: Layout | None) -> Changes:
    """All of it was made."""
    inside = None if layout is None else layout.mask(LESION)
    in_mask = None if inside is None or not inside.any() else MaskStatistics.of(ct.array[inside])
    return Changes((0, 0, 0), ct.shape, ct.array.size, in_mask)
