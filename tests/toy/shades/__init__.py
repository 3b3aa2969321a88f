"""The example of CONTRIBUTING.md: a system of its own, in a folder that no file of the project names.

Shades fills a lesion, slice by slice, with what a small 2D network makes of the tissue around it, of a shade
that is asked for, and of a map that may be sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from lesionbrush.core.inputs import Input, Inputs
from lesionbrush.core.lesions import Lesions
from lesionbrush.core.model import EditHooks, Prepared, place_mask
from lesionbrush.core.region import Scope
from lesionbrush.core.registry import InstalledModel
from lesionbrush.core.request import EditRequest
from lesionbrush.core.roi import RoiGrid, to_roi
from lesionbrush.core.rois import RoiBatch
from lesionbrush.core.volume import Volume
from lesionbrush.systems.contract import System, SystemCard
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema


class ShadesRequest(EditRequest):
    """What may be asked: from it come the form in 3D Slicer, options of commands, and the routes' schema."""

    system: SkipJsonSchema[Literal["shades"]] = "shades"
    shade_hu: float = Field(40, ge=-1000, le=1000, description="what the lesion is shaded towards")


class ShadesCard(SystemCard):
    """What a card says beside what all cards say."""

    width: int


INPUTS = (Input("shade_map", "volume", "HU to shade each place towards, on the grid of the CT"),)


def region(reference: Volume, mask: Volume | None, inputs: Inputs, request: ShadesRequest) -> Scope:
    """The painted lesion, in whole slices: that is what a 2D network sees."""
    return Scope(place_mask(reference, mask, request), holds="slab")


def prepare(
    lesions: Lesions,
    grids: Sequence[RoiGrid],
    rois: RoiBatch,
    seeds: Sequence[int],
    inputs: Inputs,
    request: ShadesRequest,
) -> Prepared:
    """`own`: (L, Z, Y, X) HU to shade towards; a remark where a map decides."""
    sent = inputs.volume("shade_map")
    if sent is None:
        return Prepared(np.full(rois.reference_hu.shape, request.shade_hu, np.float32))
    view = lesions.orientation.view(sent.array)
    hu = np.stack([to_roi(view, lesions.spacing_mm, grid) for grid in grids])
    return Prepared(hu, [("The map decides the shade.",) for _ in seeds])


HOOKS = EditHooks(INPUTS, region, prepare)


def load(installed: InstalledModel, device: str | None) -> Any:
    """Torch is imported here, when a model is first used."""
    from lesionbrush_system_shades.model import Shades

    return Shades.load(installed, device)


def train() -> Any:
    from lesionbrush_system_shades.training import ShadesTraining

    return ShadesTraining()


SYSTEMS = (System("shades", "Shades", ShadesRequest, ShadesCard, HOOKS, load, train),)
