"""What whole slices are made from, and on which grid. Imports no torch."""

from __future__ import annotations

import numpy as np

from lesionbrush.core.generate import Frame, GenerateHooks
from lesionbrush.core.inputs import OWN, Input, Inputs
from lesionbrush.core.volume import Volume
from lesionbrush.errors import InvalidRequest
from lesionbrush.systems.mddpm.hooks import PATHOLOGY
from lesionbrush.systems.mddpm.request import WholeRequest

MOST_VOXELS = 512 * 512 * 32
INPUTS = (
    Input("anatomy", "volume", "an anatomy map in HU on the grid of the CT", on=OWN),
    Input("layout", "layout", "a label volume of structures with their names, drawn as the map", on=OWN),
    Input("texture", "volume", "any other CT, whose texture is to be followed", on=OWN),
    *PATHOLOGY,
)


def frame_of(request: WholeRequest, inputs: Inputs, wanted: Frame | None) -> Frame:
    """Square axial slices around the middle of the map that was sent, else around the origin.

    Stored as scanners do: to the left, to the back, upwards. InvalidRequest for two maps, for a grid that is
    wanted, and for more voxels than a memory holds.
    """
    if wanted is not None:
        raise InvalidRequest("mddpm_whole has slices of its own: give side, spacing_mm, slices and slice_mm")
    layout, anatomy = inputs.layout("layout"), inputs.volume("anatomy")
    if layout is not None and anatomy is not None:
        raise InvalidRequest("anatomy and layout are two maps: send one of them")
    sent = anatomy if layout is None else layout.labels
    slices = request.slices or (1 if sent is None else _slices_of(sent, request.slice_mm))
    if slices * request.side**2 > MOST_VOXELS:
        raise InvalidRequest(
            f"{slices} slices of {request.side} x {request.side} voxels are more than {MOST_VOXELS:,}: ask "
            "for fewer slices, or smaller ones (side), or wider voxels (spacing_mm)"
        )
    shape = (request.side, request.side, slices)
    steps_mm = np.array([-request.spacing_mm, -request.spacing_mm, request.slice_mm])
    affine = np.diag([*steps_mm, 1.0])
    centre_mm = np.zeros(3) if sent is None else sent.corners_mm().mean(axis=0)
    affine[:3, 3] = centre_mm - steps_mm * (np.array(shape) - 1) / 2
    return Frame(shape, affine)


def _slices_of(sent: Volume, slice_mm: float) -> int:
    """As many as its height takes; one for a map of one slice."""
    heights_mm = sent.corners_mm()[:, 2]
    return 1 if 1 in sent.shape else max(1, round(float(np.ptp(heights_mm)) / slice_mm))


HOOKS = GenerateHooks(INPUTS, frame_of)
