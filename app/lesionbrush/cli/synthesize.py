"""A CT and a mask in, the CT with the lesion out, without a server. A record goes beside every result."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass, field
from pathlib import Path

from lesionbrush.cli.files import number_paths
from lesionbrush.cli.options import (
    add_input_arguments,
    add_model_argument,
    add_request_arguments,
    collect_inputs,
    edit_from,
    files_of,
)
from lesionbrush.cli.outputs import VOLUME, Output, check_outputs, pictures, require_room
from lesionbrush.cli.progress import StepBar
from lesionbrush.core.inputs import require_accepted
from lesionbrush.core.model import EditHooks
from lesionbrush.core.registry import InstalledModel, find_model
from lesionbrush.core.request import EditRequest
from lesionbrush.core.synthesize import Synthesis, find_scope, synthesize
from lesionbrush.core.volume import Volume, require_ct
from lesionbrush.files.inputs import Sent, list_sent, read_inputs
from lesionbrush.files.io import read_volume, write_volume
from lesionbrush.files.records import record_of, write_sidecar
from lesionbrush.montage import montage
from lesionbrush.systems import find_system, load_model
from lesionbrush.systems.running import pick_device


@dataclass(frozen=True)
class Order:
    """What is to be made of which files, by which model. device: None is a GPU if there is one."""

    model: InstalledModel
    request: EditRequest
    ct: Path
    mask: Path
    out: Path
    inputs: Sent = field(default_factory=dict)
    montage: Path | None = None
    device: str | None = None


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("ct", type=Path, metavar="CT", help="a volume, or a folder with a DICOM series")
    parser.add_argument("mask", type=Path, metavar="MASK", help="the painted lesion")
    parser.add_argument("-o", "--out", type=Path, required=True, help="ct.nii.gz, ct.nii, ct.nrrd or ct.mha")
    parser.add_argument("--montage", type=Path, metavar="PNG", help="also draw reference, mask and result")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")
    add_model_argument(parser)
    add_request_arguments(parser)
    add_input_arguments(parser)


def run(options: Namespace) -> int:
    order = Order(
        model=find_model(options.model),
        request=edit_from(options),
        ct=options.ct,
        mask=options.mask,
        out=options.out,
        inputs=collect_inputs(options),
        montage=options.montage,
        device=options.device,
    )
    carry_out(order)
    return 0


def carry_out(order: Order) -> None:
    """Check, read, synthesize, write. Raises LesionBrushError or OSError; what is wrong is told early."""
    request, card = order.request, order.model.card
    hooks = find_system(card.system).hooks
    assert isinstance(hooks, EditHooks)
    paths, drawings = outputs(order)
    require_accepted(card.name, list_sent(order.inputs, hooks.inputs), hooks.inputs)
    pick_device(order.device)
    reference = require_ct(read_volume(order.ct))
    if request.output == "volume":
        require_room(paths, reference.array.nbytes)
    made_from = record_of(order.ct)
    mask, inputs = read_volume(order.mask), read_inputs(order.inputs, hooks.inputs)
    scope = find_scope(reference, mask, request, card, hooks, inputs)
    model = load_model(order.model, order.device)
    with StepBar() as bar:
        made = synthesize(reference, scope, request, model, inputs, made_from=made_from, on_step=bar)
    for path in (*paths, *drawings):
        path.parent.mkdir(parents=True, exist_ok=True)
    for synthesis, path in zip(made, paths, strict=True):
        save(synthesis, path, request)
    for synthesis, path in zip(made if drawings else [], drawings, strict=True):
        draw(synthesis, scope.mask, path)


def outputs(order: Order) -> tuple[list[Path], list[Path]]:
    """Results and pictures, one per variant. Raises InvalidRequest before any work is done."""
    variants = order.request.variants
    paths = number_paths(order.out, variants)
    drawings = number_paths(order.montage, variants) if order.montage else []
    wanted = [Output(path, VOLUME, recorded=True) for path in paths]
    check_outputs([*wanted, *pictures(*drawings)], [order.ct, order.mask, *files_of(order.inputs)])
    return paths, drawings


def save(synthesis: Synthesis, path: Path, request: EditRequest) -> None:
    provenance = synthesis.provenance
    volume = synthesis.box_volume() if request.output == "box" else synthesis.volume()
    write_volume(volume, path, provenance.note)
    write_sidecar(provenance, path)
    for remark in provenance.remarks:
        print(remark, file=sys.stderr)
    print(f"{path}  (seed {provenance.seed}, {provenance.voxels_changed:,} voxels changed)")


def draw(synthesis: Synthesis, mask: Volume, path: Path) -> None:
    provenance = synthesis.provenance
    title = f"{provenance.model}, seed {provenance.seed}"
    montage(synthesis.reference, mask, synthesis.volume(), title=title).save(path)
    print(path)
