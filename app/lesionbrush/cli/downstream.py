"""`evaluate downstream`: its options, and what of the others it has no use for."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from lesionbrush.cli.machine import this_machine
from lesionbrush.errors import InvalidRequest

DOWNSTREAM = "downstream"


def add_downstream_arguments(parser: ArgumentParser) -> None:
    group = parser.add_argument_group(DOWNSTREAM, "also takes --steps (default: 300), --seeds and --cases")
    group.add_argument("--shares", metavar="A,B", help="of the real lesions, by patient (default: 0.1,0.25)")
    group.add_argument("--arms", metavar="A,B", help="what is trained on (default: all)")
    group.add_argument(
        "--folds",
        action="store_const",
        const=True,
        help="only this: lesion or not in five folds by patient, with made lesions and their healthy twins",
    )
    own = parser.add_argument_group(f"{DOWNSTREAM}, where --data is a raw dataset of nnU-Net v2")
    own.add_argument("--lesion", metavar="NAME", help="of its labels, the lesions (default: the only label)")
    own.add_argument("--organ", metavar="NAME", help="what lesions are put into (default: lungs, as found)")
    own.add_argument(
        "--patient", metavar="REGEX", help="finds the patient in a case's name (default: each its own)"
    )


def downstream(options: Namespace) -> int:
    """Print the tables. What is out of range is refused before anything is made."""
    from lesionbrush.evaluation.downstream.arms import ARMS
    from lesionbrush.evaluation.downstream.own import OwnLabels
    from lesionbrush.evaluation.downstream.study import (
        FILE,
        PICTURE,
        SHARES,
        STEPS,
        DownstreamOrder,
        classify_in_folds,
        evaluate_downstream,
    )
    from lesionbrush.evaluation.downstream.tables import lines

    order = DownstreamOrder(
        options.model,
        options.data,
        options.out,
        str(this_machine()),
        shares=SHARES if options.shares is None else _numbers(options.shares),
        arms=tuple(ARMS) if options.arms is None else tuple(options.arms.split(",")),
        seeds=options.seeds,
        steps=STEPS if options.steps is None else options.steps,
        cases=options.cases,
        own=OwnLabels(options.lesion, options.organ, options.patient),
    )
    if options.folds:
        print("\n".join(classify_in_folds(order, say=print).lines()))
        return 0
    print("\n".join(lines(evaluate_downstream(order, say=print))))
    print(f"{options.out / FILE}, {options.out / PICTURE}")
    return 0


def _numbers(words: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in words.split(","))
    except ValueError:
        raise InvalidRequest(f"--shares {words}: give numbers with commas between, as 0.1,0.25") from None
