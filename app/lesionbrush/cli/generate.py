"""A whole new CT, without a server: from a map, a layout, a text, whatever its model takes, or from nothing.

Its labels go beside it where they are known, and a record beside every result. `run.py synthesize` edits it
like any other, and the result still says that it was generated.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np
from PIL import Image

from lesionbrush.augment.wishes import fulfil
from lesionbrush.cli.files import volume_suffix
from lesionbrush.cli.options import add_input_arguments, add_request_arguments, request_from
from lesionbrush.cli.orders import CTOrder, add_order_arguments, write_result
from lesionbrush.cli.outputs import require_same_origin
from lesionbrush.cli.progress import StepBar
from lesionbrush.core.boxes import bounding_box, dilate
from lesionbrush.core.generate import LESION, Generation, generate
from lesionbrush.core.inputs import check_inputs
from lesionbrush.core.request import BaseRequest
from lesionbrush.core.volume import Array
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.inputs import read_inputs
from lesionbrush.files.layouts import tables_beside, write_layout
from lesionbrush.montage import Panel, sheet, to_lps, windows_for
from lesionbrush.systems import find_system, load_model

DEFAULT_MODEL = "mddpm_whole"
TISSUE_HU, AROUND_MM = -300, 8.0


def add_arguments(parser: ArgumentParser) -> None:
    add_order_arguments(parser, "the result and its labels")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="one that makes whole CTs (%(default)s)")
    add_request_arguments(parser)
    add_input_arguments(parser, "volume")


def run(options: Namespace) -> int:
    carry_out(CTOrder.of(options, request=request_from(options)))
    return 0


def carry_out(order: CTOrder[BaseRequest]) -> None:
    """Check, read, generate, write. Raises LesionBrushError or OSError; what is wrong is told early."""
    card = order.model.card
    system = find_system(card.system)
    if system.makes != "volume":
        raise InvalidRequest(f"{card.name} edits a CT: use  run.py synthesize CT MASK")
    labels = [labels_path(path) for path in order.paths]
    order.check(beside=[*labels, *(tables_beside(path)[0] for path in labels)])
    require_same_origin(order.paths, None)
    inputs = read_inputs(order.inputs, system.inputs)
    check_inputs(inputs, system.inputs, None)
    model = load_model(order.model, order.device)
    with StepBar() as bar:
        made = generate(order.request, model, inputs, on_step=bar)
    made = [fulfil(one, order.device) for one in made]
    order.keep(made, save, picture)


def labels_path(path: Path) -> Path:
    """`ct.nii.gz` -> `ct_labels.nii.gz`."""
    suffix = volume_suffix(path)
    return path.with_name(f"{path.name[: -len(suffix)]}_labels{suffix}")


def save(generation: Generation, path: Path) -> None:
    record = generation.provenance
    write_result(generation.ct, record, path)
    print(f"{path}  (GENERATED, seed {record.seed})")
    if generation.layout is not None:
        write_layout(generation.layout, labels_path(path), record.note)
        print(f"{labels_path(path)}  ({', '.join(generation.layout.names.values())})")


def picture(generation: Generation, panel_px: int = 384) -> Image.Image:
    """The slice with most of the lesion, else the middle one, in three windows, and each label outlined.

    Of the slice, what the body fills.
    """
    hu, spacing_mm = to_lps(generation.ct)
    labels = np.zeros(hu.shape, np.uint8)
    z, names = hu.shape[2] // 2, dict[int, str]()
    if generation.layout is not None:
        names = dict(generation.layout.names)
        labels, _ = to_lps(generation.layout.labels)
        lesion = generation.layout.mask(LESION)
        if lesion.any():
            shown, _ = to_lps(generation.ct.with_array(lesion.astype(np.uint8)))
            z = int(shown.sum(axis=(0, 1)).argmax())
    pixel_mm, slice_hu, slice_labels = (spacing_mm[1], spacing_mm[0]), hu[:, :, z].T, labels[:, :, z].T
    box = body_box(slice_hu, pixel_mm)
    slice_hu, slice_labels = slice_hu[box], slice_labels[box]
    windows = windows_for(slice_hu)
    panels = [Panel(slice_hu, pixel_mm, window, str(window), badge="GENERATED") for window in windows]
    for number, name in names.items():
        outline = np.equal(slice_labels, number)
        if outline.any():
            panels.append(Panel(slice_hu, pixel_mm, windows[0], name, outline, badge="GENERATED"))
    record = generation.provenance
    return sheet(panels, 3, title=f"{record.model}, seed {record.seed}, slice {z + 1}", panel_px=panel_px)


def body_box(hu: Array, spacing_mm: tuple[float, float]) -> tuple[slice, ...]:
    """Rows and columns of a slice that have tissue in them, and a little around; all where there is none."""
    tissue = hu[None] > TISSUE_HU
    if not tissue.any():
        return np.index_exp[:, :]
    return dilate(bounding_box(tissue), AROUND_MM, np.array((1.0, *spacing_mm)), tissue.shape)[1:]
