"""A whole new CT, without a server: from a map, a layout, a text, whatever its model takes, or from nothing.

Its labels go beside it where they are known, and a record beside every result. `run.py synthesize` edits it
like any other, and the result still says that it was generated.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np
from PIL import Image

from lesionbrush.cli.files import numbered, volume_suffix
from lesionbrush.cli.options import (
    add_input_arguments,
    add_request_arguments,
    files_of,
    named_inputs,
    request_from,
    require_taken,
)
from lesionbrush.cli.outputs import VOLUME, Output, check_outputs, pictures
from lesionbrush.cli.progress import StepBar
from lesionbrush.core.generate import LESION, Generation, generate
from lesionbrush.core.inputs import check_inputs
from lesionbrush.core.registry import find_model
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.inputs import read_inputs
from lesionbrush.files.io import write_volume
from lesionbrush.files.layouts import names_path, write_layout
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
    add_input_arguments(parser)


def run(options: Namespace) -> int:
    """Check, read, generate, write; what is wrong is told early. Raises LesionBrushError or OSError."""
    installed = find_model(options.model)
    system = find_system(installed.card.system)
    if system.makes != "volume":
        raise InvalidRequest(f"{options.model} edits a CT: use  run.py synthesize CT MASK")
    request, sent = request_from(options), named_inputs(options)
    paths = numbered(options.out, request.variants)
    drawings = numbered(options.montage, request.variants) if options.montage else []
    made_too = [Output(part) for path in paths for part in (labels_path(path), names_path(labels_path(path)))]
    wanted = [Output(path, VOLUME, recorded=True) for path in paths]
    check_outputs([*wanted, *made_too, *pictures(*drawings)], files_of(sent))
    require_taken(options, installed.card)
    pick_device(options.device)
    inputs = read_inputs(sent, system.inputs)
    check_inputs(inputs, system.inputs, None)
    model = load_model(installed, options.device)
    with StepBar() as bar:
        made = generate(request, model, inputs, on_step=bar)
    for path in (*paths, *drawings):
        path.parent.mkdir(parents=True, exist_ok=True)
    for generation, path in zip(made, paths, strict=True):
        save(generation, path)
    for generation, path in zip(made if drawings else [], drawings, strict=True):
        picture(generation).save(path)
        print(path)
    return 0


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
