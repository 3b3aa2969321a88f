"""The one way from files to a synthetic CT: an edit of one, or a whole new one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lesionbrush.augment.wishes import fulfil
from lesionbrush.core.generate import GenerateHooks, Generation, generate
from lesionbrush.core.inputs import check_inputs
from lesionbrush.core.model import EditHooks
from lesionbrush.core.recording import Clock
from lesionbrush.core.registry import InstalledModel, find_model
from lesionbrush.core.request import EditRequest
from lesionbrush.core.synthesize import Synthesis, find_scope, synthesize
from lesionbrush.core.volume import Volume
from lesionbrush.errors import WeightsError
from lesionbrush.files.inputs import read_inputs
from lesionbrush.files.io import read_volume
from lesionbrush.server.jobs.job import Watch
from lesionbrush.server.jobs.previews import is_wanted, middle_slice_png
from lesionbrush.server.storage.references import read_checked_ct
from lesionbrush.server.synthesis.models import Warm
from lesionbrush.server.synthesis.order import Order, ReferenceCT
from lesionbrush.systems import find_system

if TYPE_CHECKING:
    from lesionbrush.server.synthesis.inference import Service

Variant = Synthesis | Generation


@dataclass(frozen=True, eq=False)
class Finished:
    """seconds: per phase; lesion: of an edit, 0 and 1 on the grid of the CT."""

    variants: Sequence[Variant]
    seconds: Mapping[str, float]
    lesion: Volume | None = None


def carry_out(service: Service, order: Order, device: str, watch: Watch) -> Finished:
    """All variants of an order. Raises any LesionBrushError, and what `watch` raises.

    What was sent is looked at before a model is loaded: that may push another one out.
    """
    installed = find_model(order.model, service.models.root)
    _require_weights(service, installed, device)
    run, hooks = _Run(service, order, device, watch), find_system(installed.card.system).hooks
    done = run.edit(installed, hooks) if isinstance(hooks, EditHooks) else run.generate(hooks)
    seconds = {**run.clock.seconds, **done.variants[0].provenance.seconds}
    service.meter.count_work(seconds)
    return replace(done, seconds=seconds)


class _Run:
    """One order on its device."""

    def __init__(self, service: Service, order: Order, device: str, watch: Watch) -> None:
        self.service, self.order, self.device, self.watch = service, order, device, watch
        self.clock, self.show = Clock(), _Show(watch)

    def edit(self, installed: InstalledModel, hooks: EditHooks) -> Finished:
        order, request = self.order, self.order.request
        assert order.reference is not None
        assert isinstance(request, EditRequest)
        with self.clock.phase("read"):
            reference = self._ct(order.reference)
            mask = None if order.mask is None else read_volume(order.mask)
            inputs = read_inputs(order.inputs, hooks.inputs)
            scope = find_scope(reference, mask, request, installed.card, hooks, inputs)
        warm = self._warm()
        made = synthesize(
            reference,
            scope,
            request,
            warm.model,
            inputs,
            made_from=order.made_from,
            on_step=self.watch.on_step,
            on_estimate=self.show.estimate,
        )
        return Finished([_with_remarks(one, warm.remarks) for one in made], {}, scope.mask)

    def generate(self, hooks: GenerateHooks) -> Finished:
        request = self.order.request
        with self.clock.phase("read"):
            inputs = read_inputs(self.order.inputs, hooks.inputs)
            check_inputs(inputs, hooks.inputs, None)
            hooks.frame(request, inputs, None)
        warm = self._warm()
        made = generate(
            request,
            warm.model,
            inputs,
            on_step=self.watch.on_step,
            on_estimate=self.show.estimate,
        )
        with self.clock.phase("lesions"):
            made = [fulfil(one, self.device) for one in made]
        return Finished([_with_remarks(one, warm.remarks) for one in made], {})

    def _ct(self, reference: ReferenceCT) -> Volume:
        """One that came with the request was checked when it came."""
        return self.service.load_ct(reference.path) if reference.stays else read_checked_ct(reference.path)

    def _warm(self) -> Warm:
        self.watch.check()
        with self.clock.phase("load"):
            warm = self.service.models.warm(self.order.model, self.device)
        self.watch.check()
        return warm


def _require_weights(service: Service, installed: InstalledModel, device: str) -> None:
    """Raise WeightsError for what could not be loaded; their hash is remembered."""
    warm = installed.card.name in service.models.names(device)
    problem = None if warm else service.weights.problem(installed)
    if problem is not None:
        raise WeightsError(problem)


class _Show:
    """Makes a preview every few steps."""

    def __init__(self, watch: Watch) -> None:
        self.watch, self.step = watch, 0

    def estimate(self, hu: np.ndarray) -> None:
        self.step += 1
        if is_wanted(self.step):
            self.watch.on_preview(middle_slice_png(hu))


def _with_remarks(variant: Variant, remarks: tuple[str, ...]) -> Variant:
    provenance = variant.provenance
    told = provenance.model_copy(update={"remarks": (*remarks, *provenance.remarks)})
    return replace(variant, provenance=told)
