"""Lesion masks of one patient, or of a folder of them, into the same organs of another: masks, CTs, a table.

Each lesion goes into the organ of the same name, scaled to it, turned, mirrored and deformed within limits.
It keeps clear of the surface and of other lesions; what does not fit is refused with its reason. Every case
gets a folder of its own, whole or not at all; what is there already is kept, so the same command goes on.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from lesionbrush.cli.options import (
    add_device_argument,
    add_input_arguments,
    add_request_arguments,
    collect_inputs,
    edit_from,
    json_table,
    nest,
    require_taken,
)
from lesionbrush.cli.outputs import check_folder, check_outputs, reports, require_room
from lesionbrush.cli.transfer_table import TABLE, TransferRow, find_records, summarise, write_table
from lesionbrush.cli.transfer_work import Painter, TransferWork, model_for
from lesionbrush.cohorts.donors import SourceCase, find_sources, read_host
from lesionbrush.core.inputs import Layout, check_inputs
from lesionbrush.core.registry import find_model
from lesionbrush.core.volume import Volume, require_ct
from lesionbrush.errors import InvalidRequest, LesionBrushError
from lesionbrush.files.inputs import read_inputs
from lesionbrush.files.io import read_volume
from lesionbrush.files.layouts import read_layout
from lesionbrush.files.records import record_of
from lesionbrush.systems import find_system
from lesionbrush.systems.running import pick_device
from lesionbrush.transfer.limits import CarryLimits

DEFAULTS = CarryLimits()


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "source", type=Path, metavar="SOURCE",
        help="a lesion mask; or a folder of cases: folders with mask.nii.gz, organs.nii.gz, ct.nii.gz",
    )  # fmt: skip
    parser.add_argument("ct", type=Path, metavar="CT", help="of the patient that the lesions go into")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="one folder a case")
    _add_files(parser)
    parser.add_argument("--into", metavar="NAME", help="an organ of CT; default: the one a lesion comes from")
    _add_limits(parser)
    parser.add_argument("--model", help="that makes the CTs (default: by the organ, where one is known)")
    parser.add_argument("--masks-only", action="store_true", help="make no CTs")
    add_device_argument(parser)
    add_request_arguments(parser)
    add_input_arguments(parser)


def _add_files(parser: ArgumentParser) -> None:
    table = 'what labels mean, {"1": "liver"} or a file with it; default: see docs/files.md'
    parser.add_argument(
        "--organs", type=Path, required=True, metavar="FILE", help="label volume on CT's grid"
    )
    parser.add_argument("--organs-names", type=json_table, metavar="JSON", help=table)
    parser.add_argument(
        "--lesions", type=Path, metavar="FILE", help="those that CT has already, to be kept clear of"
    )
    parser.add_argument("--source-organs", type=Path, metavar="FILE", help="labels on the mask's grid")
    parser.add_argument("--source-organs-names", type=json_table, metavar="JSON", help=table)
    parser.add_argument("--source-ct", type=Path, metavar="FILE", help="the mask's own CT, for the picture")
    parser.add_argument("--label", type=int, metavar="N", help="which label of a mask is the lesion")


def _add_limits(parser: ArgumentParser) -> None:
    limits = parser.add_argument_group("limits")

    def number(option: str, name: str, about: str) -> None:
        value = getattr(DEFAULTS, name)
        limits.add_argument(
            option, dest=name, type=float, default=value, metavar="X", help=f"{about} ({value:g})"
        )

    def span(option: str, name: str, about: str) -> None:
        low, high = getattr(DEFAULTS, name)
        limits.add_argument(
            option, dest=name, type=float, nargs=2, default=(low, high), metavar=("FROM", "TO"),
            help=f"{about} ({low:g} {high:g})",
        )  # fmt: skip

    number("--margin-mm", "margin_mm", "of organ around a lesion inside it")
    number("--gap-mm", "gap_mm", "to other lesions")
    span("--exophytic", "exophytic", "share of a lesion that may poke out of its organ; it keeps its own")
    span("--scale", "scale", "what the factor between the organs is held within; 1 1 keeps the size")
    number("--rotation-deg", "rotation_deg", "turn about any axis, at most")
    number("--deform", "deform", "how far a surface moves, as a share of the radius, at most 0.25")
    number("--shift-mm", "shift_mm", "from the corresponding place, at most")
    limits.add_argument(
        "--mirror", action=BooleanOptionalAction, default=DEFAULTS.mirror,
        help="left and right may be swapped, of paired organs too",
    )  # fmt: skip


def run(options: Namespace) -> int:
    limits = _limits_from(options)
    sources = find_sources(
        options.source, options.source_organs, options.source_organs_names, options.source_ct, options.label
    )
    check_folder(options.out)
    _check_table(options, sources)
    _require_organs(options, sources)
    work = _prepare(options, limits)
    pending = work.find_pending(sources)
    images = sum(painter.request.variants for painter in work.painters.values()) + 1
    require_room(
        [options.out / source.name for source in pending] or [options.out], images * work.ct.array.nbytes
    )
    if len(pending) < len(sources):
        print(f"{len(sources) - len(pending)} of {len(sources)} cases are there already")
    failed = _carry_out(work, pending, alone=len(sources) == 1)
    rows = [row for record in find_records(options.out) for row in record.rows]
    print(f"{options.out / TABLE}  ({summarise(rows)})")
    return 1 if failed or not any(row.carried for row in rows) else 0


def _carry_out(work: TransferWork, pending: Sequence[SourceCase], *, alone: bool) -> int:
    """How many cases could not be read or made; of one that is alone, its error is raised.

    The table is written whatever happens.
    """
    failed = 0
    try:
        for source in tqdm(pending, desc="transfer", unit="case", disable=alone):
            try:
                _tell(work.carry_out(source))
            except LesionBrushError as error:
                if alone:
                    raise
                failed += 1
                tqdm.write(f"{source.name}: {error}", file=sys.stderr)
    finally:
        rows = [row for record in find_records(work.out) for row in record.rows]
        if rows:
            write_table(rows, work.out / TABLE)
    return failed


def _tell(rows: Sequence[TransferRow]) -> None:
    for row in rows:
        tqdm.write(str(row), file=sys.stdout)


def _limits_from(options: Namespace) -> CarryLimits:
    names = ("margin_mm", "gap_mm", "rotation_deg", "mirror", "deform", "shift_mm")
    values = {name: getattr(options, name) for name in names}
    return replace(DEFAULTS, **values, exophytic=tuple(options.exophytic), scale=tuple(options.scale))


def _check_table(options: Namespace, sources: Sequence[SourceCase]) -> None:
    """InvalidRequest where it could not be written, or is another program's, or would replace an input."""
    read = [
        options.ct,
        options.organs,
        options.lesions,
        *(file for source in sources for file in source.files),
    ]
    check_outputs(reports(options.out / TABLE), read)
    if (options.out / TABLE).exists() and next(find_records(options.out), None) is None:
        raise InvalidRequest(
            f"{options.out.name} has a {TABLE} and no case of this command: it is not overwritten, choose "
            "another folder"
        )


def _require_organs(options: Namespace, sources: Sequence[SourceCase]) -> None:
    """InvalidRequest where nobody knows which organ a lesion is of."""
    without = next((source for source in sources if source.organs is None), None)
    if options.into is None and without is not None:
        raise InvalidRequest(
            f"{without.name} comes without the organs of its patient (--source-organs, or organs.nii.gz in a "
            "case): give them, or say with --into which organ its lesions go into"
        )


def _prepare(options: Namespace, limits: CarryLimits) -> TransferWork:
    """Read what is the same for every case, and look whether all of it fits together."""
    if options.masks_only:
        _require_nothing_of_cts(options)
    pick_device(options.device)
    organs = read_layout(options.organs, options.organs_names, "as --organs-names")
    models = [] if options.masks_only else _models_of(options, organs)
    for name in models:
        require_taken(collect_inputs(options), find_model(name).card)
    ct = require_ct(read_volume(options.ct))
    return TransferWork(
        out=options.out,
        ct=ct,
        made_from=record_of(options.ct),
        host=read_host(ct, organs, options.lesions, options.into),
        limits=limits,
        seed=_seed_of(options),
        painters={name: _painter(options, name, ct) for name in models},
        named=options.model,
        paints=not options.masks_only,
    )


def _require_nothing_of_cts(options: Namespace) -> None:
    """InvalidRequest for what would be without effect."""
    params = sorted(set(nest(options.param)) - {"seed"})
    given = [f"--param {name}" for name in params]
    given += [f"--{name}" for name in ("model", "variants") if getattr(options, name) is not None]
    if given:
        raise InvalidRequest(f"--masks-only makes no CTs: leave it out, or {', '.join(given)}")


def _models_of(options: Namespace, organs: Layout) -> list[str]:
    """The one that was asked for, or all that may be needed."""
    if options.model:
        return [options.model]
    names = [options.into] if options.into else organs.names.values()
    return sorted({model for name in names if (model := model_for(name)) is not None})


def _painter(options: Namespace, name: str, ct: Volume) -> Painter:
    """Raises UnknownModel and InvalidRequest."""
    installed = find_model(name)
    request = edit_from(Namespace(**{**vars(options), "model": name}))
    if request.output != "volume" or request.label is not None:
        raise InvalidRequest(
            "output, label: whole CTs are made here, with one label in their masks: leave them out"
        )
    accepted = find_system(installed.card.system).inputs
    inputs = read_inputs(collect_inputs(options), accepted)
    check_inputs(inputs, accepted, ct)
    return Painter(installed, request, inputs, options.device)


def _seed_of(options: Namespace) -> int:
    """Of the masks: the same as of the CTs, wherever it was given."""
    given = nest(options.param).get("seed")
    if given is not None and options.seed is not None:
        raise InvalidRequest("seed is given twice, as --seed and as --param seed=...: give one of them")
    seed = options.seed if options.seed is not None else given or 0
    if not isinstance(seed, int) or not 0 <= seed < 2**31:
        raise InvalidRequest(f"seed {seed}: give a whole number from 0 to {2**31 - 1}")
    return seed
