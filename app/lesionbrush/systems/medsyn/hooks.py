"""What MedSyn takes, and on which grid it makes its chests. Imports no torch."""

from __future__ import annotations

import numpy as np
import psutil

from lesionbrush.anatomy.chest.naming import LOBES
from lesionbrush.core.generate import Frame, GenerateHooks
from lesionbrush.core.inputs import OWN, Input, Inputs, Layout
from lesionbrush.core.roi import Orientation
from lesionbrush.core.volume import Volume, require_ct
from lesionbrush.errors import InvalidRequest
from lesionbrush.systems.medsyn.field import OURS, ChestField, ChestSpace
from lesionbrush.systems.medsyn.request import ChestRequest

INPUTS = (
    Input("text", "text", "what the chest is to show, in words of a report", on=OWN),
    Input("lobes", "layout", "lobes or lungs that are held, by name, as anatomy-masks writes them", on=OWN),
    Input("airways", "mask", "airways that are held, on the grid of the lobes", on=OWN),
    Input("vessels", "mask", "vessels that are held, on the grid of the lobes", on=OWN),
    Input("held_ct", "volume", "a CT that is held, on the grid of the lobes: masks are made for it", on=OWN),
)
NETWORKS_BYTES, BYTES_PER_VOXEL, BYTES_PER_KEPT_VOXEL = 300e6, 75, 24
"""What a chest takes beside the program: measured at 64, 128 and 256 voxels a side; kept: of each variant."""
NUMBERS = {name: number for number, name in LOBES.items()}


def lobes_of(layout: Layout, space: ChestSpace = OURS) -> Volume:
    """uint8 numbers of LOBES, by the names of the layout. InvalidRequest for one without any, and for one
    with some that the model has no level for."""
    found = np.zeros(layout.labels.shape, np.uint8)
    for name in layout.names.values():
        if name in NUMBERS:
            found[layout.mask(name)] = NUMBERS[name]
    strange = [LOBES[int(number)] for number in np.unique(found) if number and number not in space.lobes]
    if strange:
        raise InvalidRequest(
            f"lobes: this model knows {', '.join(LOBES[number] for number in space.lobes)}, and not "
            f"{', '.join(strange)}: send lobes that are told apart"
        )
    if not found.any():
        raise InvalidRequest(
            f"lobes: it has {', '.join(layout.names.values())}, and none of the names {', '.join(NUMBERS)}: "
            "make one with  run.py anatomy-masks CT"
        )
    return layout.labels.with_array(found)


def field_of(inputs: Inputs, space: ChestSpace = OURS) -> tuple[ChestField, Volume | None]:
    """The field of what is held, and the volume on whose grid that is; a usual one if nothing is.

    Raises InvalidRequest, GeometryMismatch.
    """
    layout = inputs.layout("lobes")
    others = {name: one for name in ("airways", "vessels", "held_ct") if (one := inputs.volume(name))}
    if layout is None:
        if others:
            raise InvalidRequest(
                f"{' and '.join(others)}: send lobes as well, by which they are laid into the model's field"
            )
        return ChestField.usual(space), None
    lobes = lobes_of(layout, space)
    for name, one in others.items():
        lobes.require_same_grid(require_ct(one) if name == "held_ct" else one, name)
    turned = Orientation.of(lobes.affine)
    spacing_mm = turned.spacing_mm(lobes.spacing_mm)
    return ChestField.around(turned.view(lobes.array), spacing_mm, space), lobes


def frame_of(request: ChestRequest, inputs: Inputs, wanted: Frame | None, space: ChestSpace = OURS) -> Frame:
    """A cube of voxels around the lungs that are held, or of an adult's. Raises as `field_of`."""
    if wanted is not None:
        raise InvalidRequest(
            f"{request.system} has a grid of its own: give size, or lobes to make a chest around"
        )
    require_memory(request)
    field, of = field_of(inputs, space)
    return field.frame(request.size, of)


def require_memory(request: ChestRequest) -> None:
    """InvalidRequest for more than there is, with what would fit."""
    free = psutil.virtual_memory().available
    per_variant = request.size**3 * BYTES_PER_KEPT_VOXEL
    need = NETWORKS_BYTES + request.size**3 * BYTES_PER_VOXEL + (request.variants - 1) * per_variant
    if need > free:
        many = f" and variants {request.variants}" if request.variants > 1 else ""
        less = "fewer variants, or a smaller size" if many else "a smaller size, such as 64"
        raise InvalidRequest(
            f"size {request.size}{many} takes {need / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are "
            f"free: ask for {less}"
        )


HOOKS = GenerateHooks(INPUTS, frame_of)
