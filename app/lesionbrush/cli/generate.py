"""A whole new CT, without a server: from a map, a layout, a text, whatever its model takes, or from nothing.

Its labels go beside it where they are known, and a record beside every result. `run.py synthesize` edits it
like any other, and the result still says that it was generated.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from lesionbrush.cli.files import number_paths, volume_suffix
from lesionbrush.cli.options import (
    add_input_arguments,
    add_request_arguments,
    collect_inputs,
    files_of,
    request_from,
)
from lesionbrush.cli.outputs import VOLUME, Output, check_outputs, pictures
from lesionbrush.cli.progress import StepBar
from lesionbrush.core.generate import LESION, Generation, generate
from lesionbrush.core.inputs import check_inputs, require_accepted
from lesionbrush.core.registry import InstalledModel, find_model
from lesionbrush.core.request import BaseRequest
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.inputs import Sent, list_sent, read_inputs
from lesionbrush.files.io import write_volume
from lesionbrush.files.layouts import tables_beside, write_layout
from lesionbrush.files.records import write_sidecar
from lesionbrush.montage import BONE, LUNG, SOFT, Panel, sheet, to_lps
from lesionbrush.systems import find_system, load_model
from lesionbrush.systems.running import pick_device

DEFAULT_MODEL = "mddpm_whole"


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("-o", "--out", type=Path, required=True, help="ct.nii.gz, ct.nii, ct.nrrd or ct.mha")
    parser.add_argument("--montage", type=Path, metavar="PNG", help="also draw the result and its labels")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="one that makes whole CTs (%(default)s)")
    add_request_arguments(parser)
    add_input_arguments(parser, "volume")


@dataclass(frozen=True)
class Order:
    """What is to be made, by which model. device: None is a GPU if there is one."""

    model: InstalledModel
    request: BaseRequest
    out: Path
    inputs: Sent = field(default_factory=dict)
    montage: Path | None = None
    device: str | None = None


def run(options: Namespace) -> int:
    order = Order(
        model=find_model(options.model),
        request=request_from(options),
        out=options.out,
        inputs=collect_inputs(options),
        montage=options.montage,
        device=options.device,
    )
    carry_out(order)
    return 0


def carry_out(order: Order) -> None:
    """Check, read, generate, write. Raises LesionBrushError or OSError; what is wrong is told early."""
    card = order.model.card
    system = find_system(card.system)
    if system.makes != "volume":
        raise InvalidRequest(f"{card.name} edits a CT: use  run.py synthesize CT MASK")
    paths, drawings = outputs(order)
    require_accepted(card.name, list_sent(order.inputs, system.inputs), system.inputs)
    pick_device(order.device)
    inputs = read_inputs(order.inputs, system.inputs)
    check_inputs(inputs, system.inputs, None)
    model = load_model(order.model, order.device)
    with StepBar() as bar:
        made = generate(order.request, model, inputs, on_step=bar)
    for path in (*paths, *drawings):
        path.parent.mkdir(parents=True, exist_ok=True)
    for generation, path in zip(made, paths, strict=True):
        save(generation, path)
    for generation, path in zip(made if drawings else [], drawings, strict=True):
        picture(generation).save(path)
        print(path)


def outputs(order: Order) -> tuple[list[Path], list[Path]]:
    """Results and pictures, one per variant. Raises InvalidRequest before any work is done."""
    variants = order.request.variants
    paths = number_paths(order.out, variants)
    drawings = number_paths(order.montage, variants) if order.montage else []
    beside = [part for path in paths for part in (labels_path(path), tables_beside(labels_path(path))[0])]
    wanted = [Output(path, VOLUME, recorded=True) for path in paths]
    check_outputs([*wanted, *map(Output, beside), *pictures(*drawings)], files_of(order.inputs))
    return paths, drawings


def labels_path(path: Path) -> Path:
    """`ct.nii.gz` -> `ct_labels.nii.gz`."""
    suffix = volume_suffix(path)
    return path.with_name(f"{path.name[: -len(suffix)]}_labels{suffix}")


def save(generation: Generation, path: Path) -> None:
    record = generation.provenance
    write_volume(generation.ct, path, record.note)
    write_sidecar(record, path)
    for remark in record.remarks:
        print(remark, file=sys.stderr)
    print(f"{path}  (GENERATED, seed {record.seed})")
    if generation.layout is not None:
        write_layout(generation.layout, labels_path(path), record.note)
        print(f"{labels_path(path)}  ({', '.join(generation.layout.names.values())})")


def picture(generation: Generation, panel_px: int = 384) -> Image.Image:
    """The slice with most of the lesion, else the middle one, in three windows, and each label outlined."""
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
    pixel_mm, slice_hu = (spacing_mm[1], spacing_mm[0]), hu[:, :, z].T
    panels = [
        Panel(slice_hu, pixel_mm, window, str(window), badge="GENERATED") for window in (LUNG, SOFT, BONE)
    ]
    for number, name in names.items():
        if (labels[:, :, z] == number).any():
            outline = np.equal(labels[:, :, z].T, number)
            panels.append(Panel(slice_hu, pixel_mm, LUNG, name, outline, badge="GENERATED"))
    record = generation.provenance
    return sheet(panels, 3, title=f"{record.model}, seed {record.seed}, slice {z + 1}", panel_px=panel_px)
