"""`evaluate semantic`: its options, and what of the others it has no use for."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from lesionbrush.cli.machine import this_machine
from lesionbrush.errors import InvalidRequest

SEMANTIC = "semantic"


def add_semantic_arguments(parser: ArgumentParser) -> None:
    group = parser.add_argument_group(SEMANTIC, "also takes --slices (default: 20), --seeds and --reader")
    group.add_argument(
        "--runs",
        type=Path,
        metavar="DIR",
        help="folder of folders that `train semantic` wrote, snapshots too (default: installed models)",
    )
    group.add_argument(
        "--tissues",
        action="store_true",
        default=None,
        help="layouts have fat, muscle, bone and air of the CT",
    )
    group.add_argument(
        "--paint",
        action="store_true",
        default=None,
        help="networks of --runs start from organs in their mean HU, as shipped cards say",
    )
    group.add_argument("--steps", type=int, metavar="N", help="evaluations of the network (default: 25)")


def semantic(options: Namespace) -> int:
    """Print the tables. What is out of range is refused before anything is made."""
    from lesionbrush.evaluation.semantic.study import (
        CURVES,
        FILE,
        MOVED,
        PICTURE,
        SemanticOrder,
        evaluate_semantic,
    )
    from lesionbrush.evaluation.semantic.tables import lines

    _require_sensible(options)
    order = SemanticOrder(
        options.data,
        options.out,
        str(this_machine()),
        runs=options.runs,
        slices=20 if options.slices is None else options.slices,
        seeds=options.seeds,
        steps=25 if options.steps is None else options.steps,
        tissues=bool(options.tissues),
        paint=bool(options.paint),
        reader=options.reader,
    )
    report = evaluate_semantic(order, say=print)
    print("\n".join(lines(report)))
    print(", ".join(str(options.out / name) for name in (FILE, PICTURE, CURVES, MOVED)))
    return 0


def _require_sensible(options: Namespace) -> None:
    if options.cases:
        raise InvalidRequest(f"--cases does not belong to `evaluate {SEMANTIC}`: take --slices N")
    if options.slices is not None and options.slices < 2:
        raise InvalidRequest(f"--slices {options.slices}: give a number of slices, 2 or more")
    if options.steps is not None and options.steps < 1:
        raise InvalidRequest(f"--steps {options.steps}: give a number of evaluations, 1 or more")
    if options.paint and options.runs is None:
        raise InvalidRequest("--paint is for --runs: the card of an installed model says how it starts")
    if options.runs is not None and not options.runs.is_dir():
        raise InvalidRequest(f"--runs {options.runs.name}: there is no such folder")
