"""What the core asks of a system that edits: two hooks, torch-free, and a model that samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lesionbrush.core.inputs import Input, Inputs
from lesionbrush.core.region import Scope
from lesionbrush.core.registry import ModelCard
from lesionbrush.core.roi import RoiGrid
from lesionbrush.core.rois import RoiBatch, Sampled
from lesionbrush.core.volume import Volume, mask_on_grid
from lesionbrush.errors import EmptyMask, WeightsError

if TYPE_CHECKING:
    from lesionbrush.core.lesions import Lesions

OnStep = Callable[[int, int], None]
"""(steps done, steps in all); may raise to cancel."""
OnEstimate = Callable[[np.ndarray], None]
"""Called in each step with what is expected of the first lesion of the first seed: (Z, Y, X) float32 HU."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """What `sample` needs beside the common ROI. The core carries it and does not look inside.

    own: becomes `RoiBatch.own`; remarks: for each variant, or none at all; details: for each variant and ROI
    what is finer than the ROI on its edit box, HU, or None for what the CT has there.
    """

    own: Any = None
    remarks: Sequence[tuple[str, ...]] = ()
    details: Sequence[Sequence[np.ndarray | None]] | None = None

    def remarks_of(self, variant: int) -> tuple[str, ...]:
        return self.remarks[variant] if self.remarks else ()

    def details_of(self, variant: int, own: Sequence[np.ndarray]) -> list[np.ndarray]:
        """own: what the CT has."""
        given = self.details[variant] if self.details else [None] * len(own)
        return [mine if fine is None else fine for fine, mine in zip(given, own, strict=True)]


Region = Callable[[Volume, Volume | None, Inputs, Any], Scope]
"""(CT, mask, inputs, request): before any grid is made. The mask may be None where the system makes it."""
Prepare = Callable[["Lesions", Sequence[RoiGrid], RoiBatch, Sequence[int], Inputs, Any], Prepared]
"""(lesions, grids, ROIs, seeds, inputs, request)."""


def around_mask(reference: Volume, mask: Volume | None, inputs: Inputs, request: Any) -> Scope:
    """The painted lesion alone. Raises as `mask_on_grid`."""
    del inputs
    return Scope(place_mask(reference, mask, request))


def place_mask(reference: Volume, mask: Volume | None, request: Any) -> Volume:
    """The mask on the grid of the CT. Raises as `mask_on_grid`."""
    if mask is None:
        raise EmptyMask("there is no mask: paint a lesion and send it")
    return mask_on_grid(mask, reference, request.label)


def nothing_more(*_: object) -> Prepared:
    """For systems that need nothing beside the common ROI."""
    return Prepared()


@dataclass(frozen=True)
class EditHooks:
    """How a system that edits differs from others before its network is asked. inputs: what it takes.

    needs_mask: False where `region` can do without, so that a request without a mask is let in.
    """

    inputs: tuple[Input, ...] = ()
    region: Region = around_mask
    prepare: Prepare = nothing_more
    needs_mask: bool = True


PLAIN = EditHooks()


class Model(Protocol):
    """A model that is ready to run, and edits. Its request is of the type that its system names."""

    card: ModelCard
    hooks: EditHooks

    def sample(
        self,
        rois: RoiBatch,
        request: Any,
        seeds: Sequence[int],
        on_step: OnStep,
        on_estimate: OnEstimate | None = None,
    ) -> Sampled:
        """Every lesion for every seed."""


def require_numbers(hu: np.ndarray, model: str) -> None:
    """WeightsError for what is no number, which whole HU would hide."""
    if not np.isfinite(hu).all():
        raise WeightsError(
            f"model {model!r} made values that are no numbers, and nothing was kept: its weights may be "
            "damaged (run.py models verify), or its engine may lack precision "
            "(LESIONBRUSH_ENGINE=pytorch-float32)"
        )
