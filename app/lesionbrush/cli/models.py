"""List, show, add, verify, remove models; keep their MONAI configs and the README's table up to date."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from lesionbrush.bundles.configs import INFERENCE, write_configs
from lesionbrush.cli.model_table import BEGIN, END, replace_table, table
from lesionbrush.cli.outputs import check_outputs, reports
from lesionbrush.cli.parameters import parameter_lines
from lesionbrush.cli.published_models import add_actions, describe_published, show_known, show_origin
from lesionbrush.core.registry import METADATA, InstalledModel, find_model, list_models, verify_weights
from lesionbrush.errors import InvalidRequest, WeightsError
from lesionbrush.published.catalogue import CATALOGUE


def add_arguments(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    actions.add_parser(
        "list", help="the models that are installed, and those that are published"
    ).set_defaults(action=show_list)
    show = actions.add_parser("show", help="a model's card, and the parameters it takes")
    show.add_argument("name")
    show.set_defaults(action=show_card)
    verify = actions.add_parser("verify", help="compare the weights with the cards")
    verify.add_argument("name", nargs="?", help="default: all models")
    verify.set_defaults(action=verify_all)
    configs = actions.add_parser("bundle", help="write the configs of MONAI's bundles anew from the cards")
    configs.add_argument("name", nargs="?", help="default: all models")
    configs.set_defaults(action=write_bundles)
    add_actions(actions)
    markdown = actions.add_parser("table", help="the table of models in the README")
    either = markdown.add_mutually_exclusive_group()
    either.add_argument("--check", type=Path, metavar="README", help="exit code 1 if it differs")
    either.add_argument("--write", type=Path, metavar="README", help=f"put it between {BEGIN} and {END}")
    markdown.set_defaults(action=show_table)


def run(options: Namespace) -> int:
    code: int = options.action(options)
    return code


def show_list(_: Namespace) -> int:
    for model in list_models():
        card = model.card
        print(f"{card.name}: {card.makes} ({card.weights_license})")
    print("\n".join(describe_published()))
    return 0


def show_card(options: Namespace) -> int:
    installed = any(model.card.name == options.name for model in list_models())
    if installed or options.name not in {known.name for known in CATALOGUE}:
        card = find_model(options.name).card
        print(card.model_dump_json(indent=2))
        show_origin(options.name)
        print("\nParameters, to be given as --param NAME=VALUE:")
        for line in parameter_lines(card.system):
            print(f"  {line}")
    else:
        show_known(options.name)
    return 0


def verify_all(options: Namespace) -> int:
    """1 if any weights are missing or are not the ones their card names."""
    return 0 if all([_verify(model) for model in _find(options, "verify")]) else 1


def write_bundles(options: Namespace) -> int:
    models = _find(options, "write")
    check_outputs(reports(*(model.folder / part for model in models for part in (METADATA, INFERENCE))))
    for model in models:
        write_configs(model.folder, model.card)
        written = [part.as_posix() for part in (METADATA, INFERENCE) if (model.folder / part).is_file()]
        print(f"{model.card.name}: {' and '.join(written)} written")
    return 0


def _find(options: Namespace, what: str) -> list[InstalledModel]:
    models = [find_model(options.name)] if options.name else list_models()
    if not models:
        raise InvalidRequest(f"no model is installed: there is nothing to {what}")
    return models


def _verify(model: InstalledModel) -> bool:
    try:
        verify_weights(model)
    except WeightsError as error:
        print(error, file=sys.stderr)
        return False
    print(f"{model.card.name}: the weights are the ones the card names")
    return True


def show_table(options: Namespace) -> int:
    made = table([model.card for model in list_models()])
    file = options.check or options.write
    check_outputs(reports(options.write))
    if file is None:
        print(made)
        return 0
    old = file.read_text(encoding="utf-8")
    new = replace_table(old, made, file.name)
    if options.write:
        file.write_text(new, encoding="utf-8")
    elif new != old:
        print(f"{file} is out of date: run  python run.py models table --write {file}", file=sys.stderr)
        return 1
    return 0
