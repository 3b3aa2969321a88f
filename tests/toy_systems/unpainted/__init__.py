"""For tests: a lesion of one HU where nobody painted one, in a box in the middle of the CT. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from lesionbrush.core.inputs import Inputs
from lesionbrush.core.model import EditHooks, OnEstimate, OnStep, place_mask
from lesionbrush.core.region import Scope
from lesionbrush.core.registry import InstalledModel, ModelCard
from lesionbrush.core.request import EditRequest
from lesionbrush.core.rois import RoiBatch, Sampled
from lesionbrush.core.volume import Volume
from lesionbrush.systems.contract import System, SystemCard

HALF, HU = 3, 40


class UnpaintedRequest(EditRequest):
    system: Literal["unpainted"] = "unpainted"


def region(reference: Volume, mask: Volume | None, inputs: Inputs, request: UnpaintedRequest) -> Scope:
    """The painted lesion, else that box."""
    if mask is not None:
        return Scope(place_mask(reference, mask, request))
    own = np.zeros(reference.shape, np.uint8)
    own[tuple(slice(length // 2 - HALF, length // 2 + HALF) for length in reference.shape)] = 1
    return Scope(reference.with_array(own))


HOOKS = EditHooks(region=region, needs_mask=False)


class UnpaintedModel:
    hooks = HOOKS

    def __init__(self, card: ModelCard) -> None:
        self.card = card

    def sample(
        self,
        rois: RoiBatch,
        request: UnpaintedRequest,
        seeds: Sequence[int],
        on_step: OnStep,
        on_estimate: OnEstimate | None = None,
    ) -> Sampled:
        on_step(request.steps, request.steps)
        return Sampled(np.full((len(seeds), *rois.reference_hu.shape), HU, np.float32), "cpu")


def load(installed: InstalledModel, device: str | None) -> UnpaintedModel:
    return UnpaintedModel(installed.card)


SYSTEMS = (System("unpainted", "Unpainted", UnpaintedRequest, SystemCard, HOOKS, load),)
