"""Train a model from a folder of data, go on with a run that was stopped, or turn a run into a model.

`run.py train NAME --help` says what the system of a model takes beside this, and what its recipes cost.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from lesionbrush.cli.options import add_device_argument
from lesionbrush.cli.outputs import check_folder
from lesionbrush.core.registry import find_model, list_models, verify_weights
from lesionbrush.engines.choice import VARIABLE as ENGINE
from lesionbrush.errors import InvalidRequest
from lesionbrush.systems import list_systems

if TYPE_CHECKING:
    from lesionbrush.systems.contract import System
    from lesionbrush.training.recipes import Recipe
    from lesionbrush.training.trainings import Training

DEFAULT_RECIPE = "ours"


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="an installed model, or a system")
    parser.add_argument("--data", type=Path, metavar="DIR", help="the training data; needed but for --export")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: training_output/NAME")
    parser.add_argument(
        "--recipe",
        default=DEFAULT_RECIPE,
        metavar="R",
        help="ours, or as the paper of the system says: paper (default: %(default)s)",
    )
    parser.add_argument("--steps", type=int, metavar="N", help="in all (default: the recipe's)")
    parser.add_argument("--minutes", type=float, metavar="M", help="stop after this time, to go on later")
    parser.add_argument("--start-from", metavar="MODEL", help="begin a run with the weights of this model")
    parser.add_argument(
        "--learning-rate", type=float, metavar="R", help="default: the recipe's; less for a few more steps"
    )
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    add_device_argument(parser)
    parser.add_argument("--export", type=Path, metavar="DIR", help="put the run into a model folder")
    parser.add_argument("--half", action="store_true", help="with --export: weights of half the size")
    parser.add_argument(
        "--workers", type=int, default=0, metavar="N", help="processes that make batches (default: none)"
    )
    parser.add_argument(
        "--snapshots",
        type=int,
        default=0,
        metavar="N",
        help="keep a checkpoint at N even shares of the steps",
    )
    parser.add_argument(
        "--batch-scale", type=int, default=1, metavar="K", help="so many times larger batches, for a GPU"
    )


def parse(parser: ArgumentParser, arguments: Sequence[str]) -> Namespace:
    """The options, with those that only the training of the named system knows. Raises WeightsError."""
    systems = systems_by_name()
    name = _name_among(arguments, systems)
    training = None if name is None else _training(systems[name])
    if name is not None and training is not None:
        training.add_arguments(parser.add_argument_group(f"only for {systems[name].title}"))
        costs = [f"{one.name}: {one.cost()}" for one in training.recipes.values()]
        parser.epilog = f"recipes: {'; '.join(costs)}"
    options = parser.parse_args(arguments)
    if options.name not in systems:
        raise InvalidRequest(
            f"no model or system is called {options.name!r}; there are: {', '.join(sorted(systems))}"
        )
    options.training = training
    return options


def systems_by_name() -> dict[str, System]:
    """Of every system, and of every installed model. WeightsError for a damaged card."""
    systems = list_systems()
    of_models = {
        one.card.name: systems[one.card.system] for one in list_models() if one.card.system in systems
    }
    return {**systems, **of_models}


def run(options: Namespace) -> int:
    out = options.out or Path("training_output") / options.name
    if options.export:
        return _export(out, options.export, half=options.half)
    training = options.training
    if training is None:
        raise InvalidRequest(f"{options.name}: its system has no training")
    require_sense(options)
    recipe = choose_recipe(training, options)
    require_start(options, out)
    os.environ.setdefault(ENGINE, "pytorch")  # weights change between pictures: converting them would not pay
    print_recipe(training.recipes[options.recipe], recipe)
    train(training, recipe, options, out)
    return 0


def _export(out: Path, folder: Path, *, half: bool) -> int:
    from lesionbrush.training.export import export

    check_folder(folder)
    card = export(out / "checkpoint.pt", folder, half=half)
    print(f"{folder}: {card.name} with weights {card.weights_sha256[:12]}...")
    return 0


def require_sense(options: Namespace) -> None:
    """Raises InvalidRequest."""
    if options.data is None:
        raise InvalidRequest("name the folder with the training data: --data DIR")
    if options.steps is not None and options.steps < 1:
        raise InvalidRequest(f"--steps {options.steps}: give the number of steps in all, 1 or more")
    if options.workers < 0:
        raise InvalidRequest(f"--workers {options.workers}: give a number of processes, 0 for none")
    if options.snapshots < 0:
        raise InvalidRequest(f"--snapshots {options.snapshots}: give a number of checkpoints, 0 for none")
    if options.batch_scale < 1:
        raise InvalidRequest(f"--batch-scale {options.batch_scale}: give a whole number, 1 or more")
    if options.learning_rate is not None and not 0 < options.learning_rate < 1:
        raise InvalidRequest(f"--learning-rate {options.learning_rate}: give a number between 0 and 1")


def choose_recipe(training: Training, options: Namespace) -> Recipe:
    """With what the options say instead. Raises InvalidRequest."""
    if options.recipe not in training.recipes:
        raise InvalidRequest(
            f"--recipe {options.recipe}: {options.name} has the recipes {', '.join(training.recipes)}"
        )
    recipe = training.recipes[options.recipe]
    recipe = replace(recipe, patches=replace(recipe.patches, scale=options.batch_scale))
    if options.steps is not None:
        recipe = replace(recipe, steps=options.steps)
    if options.learning_rate is not None:
        optimiser = replace(recipe.optimiser, learning_rate=options.learning_rate)
        recipe = replace(recipe, optimiser=optimiser)
    adapted: Recipe = training.adapt(recipe, options)
    return adapted


def require_start(options: Namespace, out: Path) -> None:
    """Raises InvalidRequest, UnknownModel, WeightsError: what would stop a run once its data are packed."""
    from lesionbrush.systems.running import pick_device

    check_folder(out)
    pick_device(options.device)
    if options.start_from:
        verify_weights(find_model(options.start_from))


def print_recipe(written: Recipe, used: Recipe) -> None:
    """What a run follows, what of its source it does not, and what the options changed."""
    from lesionbrush.training.recipes import changes

    print(f"recipe {written.name}: {written.cost()}")
    for difference in written.differs:
        print(f"  unlike its source: {difference}")
    for change in changes(written, used):
        print(f"  overridden: {change}")


def train(training: Training, recipe: Recipe, options: Namespace, out: Path) -> None:
    from lesionbrush.training.trainings import Run

    asked = Run(
        data=options.data,
        out=out,
        seed=options.seed,
        device=options.device,
        minutes=options.minutes,
        start_from=options.start_from,
        workers=options.workers,
        snapshots=options.snapshots,
    )
    training.run(recipe, asked)


def _training(system: System) -> Training | None:
    return None if system.train is None else system.train()


def _name_among(arguments: Sequence[str], names: Mapping[str, System]) -> str | None:
    """What is to be trained: the first name that is no option's value, whatever stands before it."""
    pairs = pairwise(("", *arguments))
    plain = [word for before, word in pairs if not before.startswith("--") or "=" in before]
    return next((word for word in (*plain, *arguments) if word in names), None)
