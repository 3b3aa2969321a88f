"""For tests: whole new CTs of noise from the seed, with a body and, if it is wanted, a lesion. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from lesionbrush.core.generate import Frame, GenerateHooks, Made
from lesionbrush.core.inputs import OWN, Input, Inputs, Layout
from lesionbrush.core.model import OnEstimate, OnStep
from lesionbrush.core.registry import InstalledModel, ModelCard
from lesionbrush.core.request import BaseRequest
from lesionbrush.core.volume import Volume
from lesionbrush.errors import InvalidRequest
from lesionbrush.systems.contract import System, SystemCard
from pydantic import Field

SHAPE = (24, 20, 6)
SPACING_MM = (1.5, 1.5, 5.0)
NAMES = {1: "body", 2: "lesion"}
INPUTS = (
    Input("tissues", "layout", "a label volume of tissues with their names", on=OWN),
    Input("report", "text", "what a radiologist would dictate"),
)


class NoiseRequest(BaseRequest):
    """labels: what comes with the CT."""

    system: Literal["noise"] = "noise"
    labels: Literal["none", "body", "lesion"] = Field("lesion", description="what is labelled")


def frame(request: Any, inputs: Inputs, wanted: Frame | None) -> Frame:
    """That of the tissues where there are some."""
    tissues = inputs.layout("tissues")
    if wanted is not None:
        raise InvalidRequest("noise has a grid of its own")
    return Frame(SHAPE, np.diag([*SPACING_MM, 1.0])) if tissues is None else Frame.of(tissues.labels)


HOOKS = GenerateHooks(INPUTS, frame)


class NoiseModel:
    hooks = HOOKS

    def __init__(self, card: ModelCard) -> None:
        self.card = card

    def generate(
        self,
        frame: Frame,
        request: NoiseRequest,
        inputs: Inputs,
        seeds: Sequence[int],
        on_step: OnStep,
        on_estimate: OnEstimate | None = None,
    ) -> Made:
        hu = np.stack([np.random.default_rng(seed).normal(-100, 300, frame.shape) for seed in seeds])
        for step in range(request.steps):
            if on_estimate is not None:
                on_estimate(hu[0].transpose(2, 1, 0).astype(np.float32))
            on_step(step + 1, request.steps)
        layout = labelled(frame, request.labels == "lesion")
        return Made(hu, "cpu", () if request.labels == "none" else [layout] * len(seeds))


def labelled(frame: Frame, lesion: bool) -> Layout:
    labels = np.ones(frame.shape, np.uint8)
    labels[0] = 0
    if lesion:
        labels[4:8, 3:6, 1:3] = 2
    return Layout(Volume(labels, frame.affine), NAMES)


def load(installed: InstalledModel, device: str | None) -> NoiseModel:
    return NoiseModel(installed.card)


SYSTEMS = (System("noise", "Noise", NoiseRequest, SystemCard, HOOKS, load),)
