"""Measure a model on patients it never saw.

`evaluate lesions` measures everything and writes report.html and report.json; `evaluate MODEL` measures HU
and the seam alone and writes figures.json and a sheet, or what the model's own system measures.
`evaluate ablation` says what each law of lesion inpainting earns, `evaluate steps` how few steps are enough.
`evaluate inpainting` fills organs and tumours by every model that can, by GANs and by the neighbouring slice.
`evaluate semantic` makes slices from layouts alone by every way to show one.
`evaluate downstream` trains networks on real and made nodules, and tests them on real ones.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path

from lesionbrush.cli.downstream import DOWNSTREAM, add_downstream_arguments, downstream
from lesionbrush.cli.inpainting import INPAINTING, add_inpainting_arguments, inpainting
from lesionbrush.cli.machine import this_machine
from lesionbrush.cli.outputs import check_folder, check_outputs, reports
from lesionbrush.cli.semantic import SEMANTIC, add_semantic_arguments, semantic
from lesionbrush.core.registry import METADATA, find_model
from lesionbrush.errors import InvalidRequest
from lesionbrush.systems import DEFAULT_MODEL

LESIONS, ABLATION, STEPS = "lesions", "ablation", "steps"
OWNERS = {
    "laws": (ABLATION,),
    "slices": (INPAINTING, SEMANTIC),
    "hole_mm": (INPAINTING,),
    "reader": (INPAINTING, SEMANTIC),
    "train_baselines": (INPAINTING,),
    "runs": (SEMANTIC,),
    "tissues": (SEMANTIC,),
    "paint": (SEMANTIC,),
    "steps": (SEMANTIC, DOWNSTREAM),
    "shares": (DOWNSTREAM,),
    "arms": (DOWNSTREAM,),
    "folds": (DOWNSTREAM,),
    "lesion": (DOWNSTREAM,),
    "organ": (DOWNSTREAM,),
    "patient": (DOWNSTREAM,),
}
"""Options of some studies alone; None where one is not given."""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "what",
        metavar="lesions | ablation | steps | inpainting | semantic | downstream | MODEL",
        help="the full report, what laws earn, how few steps do, models beside GANs, layouts, what "
        "training with made lesions gains, or a card's figures",
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="its training data")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--cases", type=int, default=0, metavar="N", help="use only N nodules; for `ablation`: of each law"
    )
    parser.add_argument(
        "--seeds",
        type=int,
        default=1,
        metavar="N",
        help="of `MODEL`, `inpainting`, `semantic`, `downstream`: 0 to N - 1",
    )
    parser.add_argument(
        "--regression", action="store_true", help="for `MODEL`: what a regression would miss by"
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="for all but `MODEL` (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="for `lesions`: 16 nodules, less of everything")
    parser.add_argument("--parts", metavar="A,B", help="for `lesions`: only these parts")
    parser.add_argument("--laws", metavar="A,B", help="for `ablation`: only these laws")
    parser.add_argument("--update-card", action="store_true", help="write the figures into the model's card")
    add_inpainting_arguments(parser)
    add_semantic_arguments(parser)
    add_downstream_arguments(parser)


def run(options: Namespace) -> int:
    if options.cases < 0:
        raise InvalidRequest(f"--cases {options.cases}: give a number of nodules, or leave it out for all")
    if options.seeds < 1:
        raise InvalidRequest(f"--seeds {options.seeds}: give a number of seeds, 1 or more")
    if not options.data.is_dir():
        raise InvalidRequest(f"--data {options.data.name}: there is no such folder")
    for name, owners in OWNERS.items():
        if (value := getattr(options, name)) is not None and options.what not in owners:
            studies = ", ".join(f"`evaluate {owner}`" for owner in owners)
            raise InvalidRequest(f"--{name.replace('_', '-')} {value} belongs to {studies}")
    if options.what in (INPAINTING, SEMANTIC, DOWNSTREAM):
        _require_none_else(options)
    check_folder(options.out)
    parts = {
        LESIONS: lesions,
        ABLATION: ablation,
        STEPS: steps,
        INPAINTING: inpainting,
        SEMANTIC: semantic,
        DOWNSTREAM: downstream,
    }
    return parts.get(options.what, card_figures)(options)


def lesions(options: Namespace) -> int:
    """The full report. A part that is not known is refused before anything is measured."""
    from lesionbrush.evaluation.report import text
    from lesionbrush.evaluation.study import PARTS, Study, run_study

    parts = options.parts.split(",") if options.parts else list(PARTS)
    if unknown := [name for name in parts if name not in PARTS]:
        raise InvalidRequest(f"--parts {','.join(unknown)}: known are {', '.join(PARTS)}")
    if options.update_card:
        raise InvalidRequest("--update-card belongs to `evaluate MODEL`, whose figures the card holds")
    study = Study(
        options.model,
        options.data,
        options.out,
        options.cases,
        options.quick,
        tuple(parts),
        str(this_machine()),
    )
    report = run_study(study, say=print)
    for section in report.sections:
        for figure in section.figures:
            goal = "" if figure.goal is None else f", goal {figure.goal}: {'met' if figure.met else 'missed'}"
            floor = f", real {text(figure.floor)}" if figure.floor else ""
            print(f"{figure.name}: {text(figure.value)}{floor}{goal}")
    print(f"{options.out / 'report.html'}, {options.out / 'report.json'} ({report.seconds:.0f} s)")
    return 0


def ablation(options: Namespace) -> int:
    """What each law earns. A law that is not known is refused before anything is measured."""
    from lesionbrush.evaluation.ablation import FILE, ablate
    from lesionbrush.systems.lesion_inpainting.laws import LAWS

    _require_none_else(options)
    laws = tuple(LAWS) if options.laws is None else tuple(options.laws.split(","))
    found = ablate(options.model, options.data, options.out, laws, options.cases, say=print)
    print("\n".join(found.lines()))
    print(options.out / FILE)
    return 0


def steps(options: Namespace) -> int:
    """How few evaluations of the network are enough."""
    from lesionbrush.evaluation.steps import FILE, measure_steps

    _require_none_else(options)
    found = measure_steps(options.model, options.data, options.out, cases=options.cases, say=print)
    print("\n".join(found.lines()))
    print(options.out / FILE)
    return 0


def _require_none_else(options: Namespace) -> None:
    for name in ("update_card", "quick", "regression", "parts"):
        if getattr(options, name):
            raise InvalidRequest(f"--{name.replace('_', '-')} does not belong to `evaluate {options.what}`")


def card_figures(options: Namespace) -> int:
    """What the card holds; what a report in the same folder has made already is not made again."""
    from lesionbrush.evaluation.card_figures import evaluate
    from lesionbrush.evaluation.regression import regression_figures
    from lesionbrush.evaluation.syntheses import Maker
    from lesionbrush.systems import find_system, load_model
    from lesionbrush.training.export import update_card

    installed = find_model(options.what)
    if options.update_card:
        check_outputs(reports(installed.folder / METADATA))
    model, own = load_model(installed), find_system(installed.card.system).evaluate
    if own is not None:
        measured = own(model, options.data, options.cases, options.out)
        if options.update_card:
            update_card(installed.folder, figures={**installed.card.figures, **measured})
        return 0
    maker = Maker(model, options.out / "cache")
    bar = asdict(regression_figures(options.data)) if options.regression else {}
    found = evaluate(
        lambda ct, mask, request: maker.make(ct, mask, request).arrays[0],
        options.data,
        options.out,
        options.cases,
        options.seeds,
    )
    figures = asdict(found.figures) | bar
    for name, value in figures.items():
        print(f"{name}: {value:g}")
    for kind in found.kinds:
        typical, readers = kind.mean_hu_error_typical_hu, kind.mean_hu_error_with_readers_hu
        print(f"mean_hu_error of {kind.cases} {kind.kind}: typical {typical:.0f}, with readers {readers:.0f}")
    print(f"{options.out / 'figures.json'}, {options.out / 'sheet.png'}")
    if options.update_card:
        update_card(installed.folder, figures=figures)
    return 0
