"""`evaluate inpainting`: its options, and what of the others it has no use for."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from lesionbrush.cli.machine import this_machine
from lesionbrush.errors import InvalidRequest

INPAINTING = "inpainting"


def add_inpainting_arguments(parser: ArgumentParser) -> None:
    group = parser.add_argument_group(INPAINTING)
    group.add_argument("--slices", type=int, metavar="N", help="of each organ (default: 5)")
    group.add_argument(
        "--hole-mm", type=float, metavar="MM", help="how wide a hole is at most (default: the whole organ)"
    )
    group.add_argument(
        "--reader",
        type=Path,
        metavar="FILE",
        help="TorchScript that FID and IS are by, see docs/inpainting.md",
    )
    group.add_argument(
        "--train-baselines",
        type=float,
        metavar="MINUTES",
        help="train Pix2Pix and Vox2Vox for so long each, unless --out holds their weights",
    )


def inpainting(options: Namespace) -> int:
    """Print the tables. What is out of range is refused before anything is made."""
    from lesionbrush.evaluation.inpainting.study import (
        FILE,
        PICTURE,
        InpaintingOrder,
        evaluate_inpainting,
    )
    from lesionbrush.evaluation.inpainting.tables import lines

    _require_sensible(options)
    order = InpaintingOrder(
        options.data,
        options.out,
        str(this_machine()),
        slices=5 if options.slices is None else options.slices,
        seeds=options.seeds,
        hole_mm=options.hole_mm,
        reader=options.reader,
        train_minutes=options.train_baselines,
    )
    report = evaluate_inpainting(order, say=print)
    print("\n".join(lines(report)))
    print(f"{options.out / FILE}, {options.out / PICTURE}")
    return 0


def _require_sensible(options: Namespace) -> None:
    if options.cases:
        raise InvalidRequest(f"--cases does not belong to `evaluate {INPAINTING}`: take --slices N")
    if options.slices is not None and options.slices < 1:
        raise InvalidRequest(f"--slices {options.slices}: give a number of slices, 1 or more")
    if options.hole_mm is not None and not options.hole_mm > 0:
        raise InvalidRequest(f"--hole-mm {options.hole_mm:g}: give millimetres above 0, or leave it out")
    minutes = options.train_baselines
    if minutes is not None and not 0 < minutes < float("inf"):
        raise InvalidRequest(f"--train-baselines {minutes:g}: give minutes above 0, or leave it out")
