"""A CT and a mask in, the CT with the lesion out, without a server. A record goes beside every result."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from lesionbrush.cli.options import (
    add_input_arguments,
    add_model_argument,
    add_request_arguments,
    edit_from,
)
from lesionbrush.cli.orders import CTOrder, add_order_arguments, write_result
from lesionbrush.cli.outputs import require_room, require_same_origin
from lesionbrush.cli.progress import StepBar
from lesionbrush.core.model import EditHooks
from lesionbrush.core.request import EditRequest
from lesionbrush.core.synthesize import Synthesis, find_scope, synthesize
from lesionbrush.core.volume import Volume, require_ct
from lesionbrush.errors import LesionBrushError, NotACT
from lesionbrush.files.inputs import read_inputs
from lesionbrush.files.io import read_volume
from lesionbrush.files.records import record_of
from lesionbrush.montage import compare, sheet
from lesionbrush.systems import find_system, load_model

CLEARLY_HU = 100
"""A shift of a whole lung by less is no place to look at."""


@dataclass(frozen=True, kw_only=True)
class EditOrder(CTOrder[EditRequest]):
    """An edit of a CT. ct: a file, or the folder of a series; mask: the painted lesion, None where the inputs
    say what is to change."""

    ct: Path
    mask: Path | None


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("ct", type=Path, metavar="CT", help="a volume, or a folder with a DICOM series")
    parser.add_argument(
        "mask", type=Path, nargs="?", metavar="MASK", help="the painted lesion; some models do without"
    )
    add_order_arguments(parser, "reference, mask and result")
    add_model_argument(parser)
    add_request_arguments(parser)
    add_input_arguments(parser)


def run(options: Namespace) -> int:
    carry_out(EditOrder.of(options, request=edit_from(options), ct=options.ct, mask=options.mask))
    return 0


def carry_out(order: EditOrder) -> None:
    """Check, read, synthesize, write. Raises LesionBrushError or OSError; what is wrong is told early."""
    request, card = order.request, order.model.card
    hooks = find_system(card.system).hooks
    assert isinstance(hooks, EditHooks)
    order.check(read=[order.ct, *([] if order.mask is None else [order.mask])])
    reference = _require_ct(order)
    require_same_origin(order.paths, reference)
    if request.output == "volume":
        require_room(order.paths, reference.array.nbytes)
    made_from = record_of(order.ct)
    mask = None if order.mask is None else read_volume(order.mask)
    inputs = read_inputs(order.inputs, hooks.inputs)
    scope = find_scope(reference, mask, request, card, hooks, inputs)
    model = load_model(order.model, order.device)
    with StepBar() as bar:
        made = synthesize(reference, scope, request, model, inputs, made_from=made_from, on_step=bar)
    painted = scope.mask if mask is not None or scope.holds != "field" else None
    outlined = "edit" if mask is None else "mask"
    order.keep(made, partial(save, request=request), partial(picture, mask=painted, outlined=outlined))


def _require_ct(order: EditOrder) -> Volume:
    """The CT. NotACT also says where the mask looks like one."""
    try:
        return require_ct(read_volume(order.ct))
    except NotACT as error:
        if order.mask is None or not _is_ct(order.mask):
            raise
        raise NotACT(f"{error}; {order.mask.name} looks like one: the CT comes first") from error


def _is_ct(path: Path) -> bool:
    try:
        require_ct(read_volume(path))
    except LesionBrushError:
        return False
    return True


def save(synthesis: Synthesis, path: Path, request: EditRequest) -> None:
    provenance = synthesis.provenance
    volume = synthesis.box_volume() if request.output == "box" else synthesis.volume()
    write_result(volume, provenance, path)
    print(f"{path}  (seed {provenance.seed}, {provenance.voxels_changed:,} voxels changed)")


def picture(synthesis: Synthesis, mask: Volume | None, outlined: str) -> Image.Image:
    """mask: None for an edit of the lungs as a whole, of which what changed most is shown."""
    provenance = synthesis.provenance
    title = f"{provenance.model}, seed {provenance.seed}"
    shown, of_lung = (find_change(synthesis), True) if mask is None else (mask, False)
    panels = compare(synthesis.reference, shown, synthesis.volume(), outlined=outlined, of_lung=of_lung)
    return sheet(panels, 3, title=title, panel_px=320)


def find_change(synthesis: Synthesis) -> Volume:
    """uint8, 1 where HU changed by more than CLEARLY_HU; if they nowhere did, where they changed at all; if
    nothing did, all of the edit."""
    before = synthesis.reference.array[synthesis.slices]
    change_hu = np.abs(synthesis.box.astype(np.int32) - before)
    clear = change_hu > CLEARLY_HU
    mask = np.zeros(synthesis.reference.shape, np.uint8)
    mask[synthesis.slices] = clear if clear.any() else (change_hu > 0) | (not change_hu.any())
    return synthesis.reference.with_array(mask)
